"""What is captured: `tiny` in float32, as google-deepmind/gemma builds it."""

import pytest
from support.gemma_captures import running

from ref.capture.gemma.model import import_gemma


@pytest.fixture(scope="module")
def parts():
    return import_gemma()


@pytest.fixture
def tiny(parts):
    return running(parts)
