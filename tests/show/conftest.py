"""What `explore` says of the 270M and one prompt, beside the arrays that it says it of."""

import pytest

import ref
from ref.model.taps import Recorder
from ref.model.text import How
from ref.show.explore import explore

PROMPT = "The capital of France is Paris. The capital of Italy is"


@pytest.fixture(scope="module")
def real():
    loaded = ref.load("270m")
    tokenizer = loaded.tokenizer()
    ids = tokenizer.encode(PROMPT)
    taps = Recorder("*.in", "*.out", "*.attn.probs", "*.post_norm")
    logits, _ = ref.forward(loaded.params, [ids], How(taps=taps))
    return loaded, ids, taps.values, logits[0]


@pytest.fixture(scope="module")
def explored(real):
    return explore(real[0], real[1], real[0].tokenizer())
