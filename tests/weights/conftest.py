"""A small vision tower, and a text model in a file for it to stand beside."""

import pytest
from support.checkpoints import SMALL, SMALL_EYE, save_gguf

from ref.weights.synthetic import synthetic_params, synthetic_vision


@pytest.fixture(scope="module")
def eye():
    return synthetic_vision(SMALL_EYE, SMALL.width, 5, bfloat16=False)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """A GGUF file of the text model, for the tests that need one beside the file they are about."""
    path = tmp_path_factory.mktemp("text") / "small.gguf"
    save_gguf(path, synthetic_params(SMALL, 5))
    return str(path)
