"""What cannot be captured of transformers is refused in one line, and nothing is written."""

import sys
from importlib.util import find_spec

import numpy as np
import pytest
from support.transformers_captures import IDS, SEEING

from ref.capture.transformers import build_model, capture
from ref.errors import BadInput

pytestmark = pytest.mark.witness
if find_spec("torch") and find_spec("transformers"):
    from torch import nn

REFUSED = {
    "ids": ({"ids": []}, "token ids: wanted integers"),
    "floats": ({"ids": [1.5]}, "token ids: wanted integers"),
    "ragged": ({"ids": [[1], [2, 3]]}, "token ids: wanted integers"),
    "large": ({"ids": [1, 97]}, "token id: wanted 0 to 96, got 97"),
    "negative": ({"ids": [-1]}, "token id: wanted 0 to 96, got -1"),
    "taps": ({"taps": ["no.such"]}, "capture: no tap is called no.such; "),
    "cache": ({"taps": ["*.cache.k"]}, "taps: wanted a pattern that matches a tap"),
    "steps": ({"steps": -1}, "steps: wanted 0 or more, got -1"),
    "pads": ({"left_pads": [11]}, "left_pads: wanted 1 numbers from 0 to 10"),
    "pad rows": ({"left_pads": [0, 0]}, "left_pads: wanted 1 numbers"),
    "blind": ({"pixel_values": np.zeros((1, 3, 40, 40))}, "pixel_values: wanted a model with a vision tower"),
    "types": ({"token_type_ids": [1] * 11}, "token_type_ids: wanted zeros where there are no pixel_values"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(tmp_path, model, case):
    given, message = REFUSED[case]
    given = {"ids": IDS, "out_dir": tmp_path / "dump"} | given
    with pytest.raises(BadInput, match=message):
        capture(model, **given)
    assert list(tmp_path.iterdir()) == []


SEEN = {
    "count": ({"pixel_values": np.zeros((1, 3, 40, 40))}, "soft tokens: wanted 4 for 1 images"),
    "size": ({"pixel_values": np.zeros((2, 3, 40, 39))}, r"pixel_values: wanted \[images, 3, 40, 40\]"),
    "none": ({}, "token id: wanted 0 to 96, got 97"),
    "types": ({"pixel_values": np.zeros((2, 3, 40, 40)), "token_type_ids": [1]}, r"wanted \[1, 13\], as ids"),
}


@pytest.mark.parametrize("case", SEEN)
def test_refusals_of_images(tmp_path, case):
    given, message = SEEN[case]
    with pytest.raises(BadInput, match=message):
        capture(build_model("tiny"), SEEING, tmp_path / "dump", **given)


def test_other_models_and_folders_in_use_are_refused(tmp_path, model):
    with pytest.raises(BadInput, match="model: wanted a loaded Gemma3ForCausalLM"):
        capture(nn.Linear(2, 2), IDS, tmp_path / "dump")
    (tmp_path / "mine").touch()
    with pytest.raises(BadInput, match="output folder: wanted an empty or new one"):
        capture(model, IDS, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_missing_extra_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(BadInput, match=r'transformers: wanted pip install -e "\.\[transformers\]", got no torch'):
        build_model("tiny")
