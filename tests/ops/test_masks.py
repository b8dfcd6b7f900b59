"""The masks that two versions of transformers give their layers: image blocks in two compositions."""

import numpy as np
import pytest

from ref.golden_files.files import golden_root, read_checked
from ref.ops.visibility import as_matrix, image_blocks, visible_ranges

FILES = sorted((golden_root() / "masks").glob("*.json"))
CASES = [(path.stem, number) for path in FILES for number in range(len(read_checked(path, "masks")["cases"]))]


def test_both_compositions_of_transformers_are_there():
    assert [read_checked(path, "masks")["composition"] for path in FILES] == ["before_46850", "current"]


@pytest.mark.parametrize(("stem", "number"), CASES)
def test_visibility_equals_transformers(stem, number):
    golden = read_checked(golden_root() / "masks" / f"{stem}.json", "masks")
    case = golden["cases"][number]
    tokens = case["tokens"].rstrip(".")  # right pads: nobody is asked what they see, and nobody sees them
    real = np.array([letter != "." for letter in tokens])
    first = np.full((1, len(tokens)), real.argmax())
    blocks = image_blocks(np.array([[letter == "I" for letter in tokens]]), first, 0)
    for kind, window in (("global", None), ("local", case["window"])):
        wanted = np.array([[bit == "1" for bit in row] for row in case[kind]])[: len(tokens)]
        assert not wanted[:, len(tokens) :][real].any()
        seen = as_matrix(visible_ranges(first, 0, window, blocks, golden["composition"]), len(tokens))[0]
        np.testing.assert_array_equal(seen[real], wanted[real, : len(tokens)])
