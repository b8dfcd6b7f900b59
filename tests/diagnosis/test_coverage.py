"""What coverage says of how prompts begin: of each prompt of a row, and of no cached pass."""

from types import SimpleNamespace

import numpy as np
import pytest

from ref.diagnosis.coverage import _beginnings
from ref.ops.visibility import prompt_starts

NONE = "does not begin with BOS (id 2), as all that Gemma 3 was trained on does"
TWO = "begins with two BOS (id 2): a chat template and a tokenizer each add one"


def bench(ids, lengths=None, pads=0, cached=0, soft=(), number=0):
    first = np.zeros((1, len(ids)), int) if cached else prompt_starts([lengths or [len(ids) - pads]], [pads])[0]
    places = np.isin(np.arange(len(ids)), soft)[None]
    one_pass = SimpleNamespace(ids=np.array([ids]), places=places, first=first, cached=cached)
    return SimpleNamespace(one_pass=one_pass, number=number)


@pytest.mark.parametrize(
    ("all_runs", "lines"),
    [
        ([bench([2, 9, 8])], []),
        ([bench([2])], []),
        ([bench([9, 2, 2])], [f"the prompt of pass 0 {NONE}"]),
        ([bench([2, 2, 9])], [f"the prompt of pass 0 {TWO}"]),
        ([bench([0, 0, 2, 9], pads=2)], []),
        ([bench([0, 0, 9, 2], pads=2)], [f"the prompt of pass 0 {NONE}"]),
        ([bench([0, 2, 9], pads=0)], [f"the prompt of pass 0 {NONE}"]),  # pads that nobody declared
        ([bench([2, 5, 6, 5, 2, 2], lengths=[2, 2, 2])],
         [f"prompt 1 of pass 0 {NONE}", f"prompt 2 of pass 0 {TWO}"]),
        ([bench([0, 2, 5, 2, 6], lengths=[2, 2], pads=1)], []),
        ([bench([2, 5]), bench([5], cached=2, number=1), bench([2, 2], cached=3, number=2)], []),
        ([bench([2, 5]), bench([7, 5], number=1)], [f"the prompt of pass 1 {NONE}"]),  # another row
        ([bench([2, 2, 5], soft=[0, 1])], [f"the prompt of pass 0 {NONE}"]),  # an image's place holds no token
    ],
)  # fmt: skip
def test_how_prompts_begin(all_runs, lines):
    assert _beginnings(all_runs) == lines
