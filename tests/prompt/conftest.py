"""Tokenizers: one trained on a few lines, and the real one."""

import pytest
from support.tiny_tokenizer import train

from ref.weights.resolve import default_tokenizer


@pytest.fixture(scope="module")
def model():
    return train()


@pytest.fixture(scope="module")
def real():
    return default_tokenizer("tests")
