"""Captures of google-deepmind/gemma: its models with our weights, and the prompt of its tests."""

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from support.captures import passes_of

from ref.capture.gemma import capture
from ref.capture.gemma.model import INSTALL, model_of, params_of
from ref.config import SIZES
from ref.weights.synthetic import synthetic_params

TINY = SIZES["tiny"]
Pair = tuple[Any, Any]  # a model and its parameters
IDS = [5, 6, 7, 33, 96, 2, 45, 51, 8, 60, 1]  # longer than the window of 5; 0 would be a pad
needs_gemma = pytest.mark.skipif(
    not (find_spec("jax") and find_spec("gemma")), reason=f"needs gemma and jax: {INSTALL}"
)


def running(parts, dtype="float32", config=TINY) -> Pair:
    """Return a model and its parameters."""
    return model_of(parts, config, dtype), params_of(parts, synthetic_params(config, 0, bfloat16=False), dtype)


def only_pass(running: Pair, folder, ids=IDS, **more):
    [one] = passes_of(capture(*running, ids, folder, **more))
    return one


def plain(parts, running: Pair, ids=IDS):
    model, params = running
    return np.asarray(model.apply({"params": params}, parts.jax.numpy.array([ids])).logits)
