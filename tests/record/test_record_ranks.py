"""`ref.record` on several ranks: what it says of them, and what it refuses."""

import json

import numpy as np
import pytest

from ref.golden_files.files import check_schema
from ref.record import Recorder

IDS = [2, 33, 5, 80]
Q, OUT = "text.layer.0.attn.q", "text.layer.0.attn.out"
VALUE = np.arange(240, dtype=np.float32).reshape(4, 6, 10)


def said(folder):
    content = json.loads((folder / "dump.json").read_text())
    check_schema(content, "dump")
    return content


def test_a_rank_says_which_it_is_and_what_it_holds(tmp_path):
    with Recorder(tmp_path / "dump", IDS, tensor=(1, 2), pipeline=(0, 3)) as rec:
        assert rec(Q, VALUE, "T N H", slice={"N": (6, 12)}) is VALUE
        rec(OUT, VALUE[:, :, 0], "T D", partial=True)
        rec(OUT, VALUE[:, :, 1], "T D")
    content = said(tmp_path / "dump")
    assert content["format_version"] == 2
    assert content["parallel"] == {"tensor": {"rank": 1, "of": 2}, "pipeline": {"rank": 0, "of": 3}}
    tensors = content["passes"][0]["tensors"]
    assert {
        name: {key: one[key] for key in one.keys() & {"slice", "partial", "name"}} for name, one in tensors.items()
    } == {
        Q: {"slice": {"N": [6, 12]}},
        f"{OUT}.partial": {"partial": True, "name": OUT},
        OUT: {},
    }


def test_all_ranks_in_one_dump_have_tensors_of_their_own(tmp_path):
    with Recorder(tmp_path / "dump", IDS, tensor=2) as rec:
        for rank in range(2):
            rec(Q, VALUE, "T N H", slice={"N": (6 * rank, 6 * rank + 6)}, rank=rank)
    content = said(tmp_path / "dump")
    assert content["parallel"] == {"tensor": {"of": 2}}
    assert [(name, one["name"], one["rank"]) for name, one in content["passes"][0]["tensors"].items()] == [
        (f"{Q}@0", Q, 0),
        (f"{Q}@1", Q, 1),
    ]


@pytest.mark.parametrize("tensor", [(2, 2), (0,), (0, 1, 2), 0, (-1, 2), "1"])
def test_a_rank_that_cannot_be_is_refused(tmp_path, tensor):
    with pytest.raises(ValueError, match="tensor: wanted"):
        Recorder(tmp_path / "dump", IDS, tensor=tensor)
    assert list(tmp_path.iterdir()) == []


REFUSED = {
    "no ranks": (None, {"slice": {"N": (0, 6)}}, "a recorder that was told tensor="),
    "whose": (2, {"slice": {"N": (0, 6)}}, "wanted 0 to 1, since all ranks are in this dump"),
    "mine": ((0, 2), {"rank": 0}, "wanted none"),
    "beyond": (2, {"rank": 2}, "wanted 0 to 1"),
    "axis": ((0, 2), {"slice": {"B": (0, 6)}}, "wanted axis"),
    "no pair": ((0, 2), {"slice": {"N": (0,)}}, "wanted axis"),
    "empty": ((0, 2), {"slice": {"N": (3, 3)}}, "wanted axis"),
    "both": ((0, 2), {"slice": {"N": (0, 6)}, "partial": True}, "of what is not partial"),
    "shape": ((0, 2), {"slice": {"N": (0, 5)}}, "shape of text.layer.0.attn.q"),
}


@pytest.mark.parametrize(("tensor", "more", "line"), REFUSED.values(), ids=REFUSED)
def test_what_no_rank_can_hold_is_refused_when_it_is_written(tmp_path, tensor, more, line):
    with Recorder(tmp_path / "dump", IDS, tensor=tensor) as rec:
        with pytest.raises(ValueError) as error:
            rec(Q, VALUE, "T N H", **more)
        assert line in str(error.value)
        rec(OUT, VALUE[:, 0])


def test_a_slice_of_tokens_is_as_long_as_it_says(tmp_path):
    with Recorder(tmp_path / "dump", IDS, tensor=(0, 2)) as rec:
        rec(OUT, VALUE[:2, 0], "T D", slice={"T": (0, 2)})
