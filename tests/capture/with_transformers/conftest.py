"""What is captured: the text of `tiny`, and images for the whole of it."""

from importlib.util import find_spec

import pytest
from support.transformers_captures import text_only

from ref.config import TINY_VISION
from ref.golden_files.sampled import made_pixels

if find_spec("torch") and find_spec("transformers"):
    import torch


@pytest.fixture(scope="module")
def pixels():
    return torch.from_numpy(made_pixels(3, TINY_VISION.image))


@pytest.fixture
def model():
    """Only the text of `tiny`: a Gemma3ForCausalLM."""
    return text_only()
