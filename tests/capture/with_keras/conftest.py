"""What is captured: the support's `TINY` in float32, as keras-hub builds it."""

import warnings

import pytest
from support.keras_captures import running

from ref.capture.keras.model import import_keras


@pytest.fixture(scope="module")
def parts():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TensorFlow's, while it is imported
        return import_keras()


@pytest.fixture(scope="module")
def tiny(parts):
    return running(parts)
