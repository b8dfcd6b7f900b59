"""Captures of keras-hub: its models with our weights, and the prompt of its tests."""

from importlib.util import find_spec

import pytest
from support.captures import passes_of

from ref.capture.keras import capture
from ref.capture.keras.model import INSTALL, fill, model_of
from ref.config import SIZES
from ref.weights.synthetic import synthetic_params

# `tiny` but for its query scale, which keras-hub does not run
TINY = SIZES["tiny"]._replace(name="tiny-10", query_scale=10**-0.5)
IDS = [5, 6, 7, 33, 96, 0, 2, 45, 51, 8, 60]  # longer than the window of 5; 0 is a token like others
UNSEEN = "cache.positions"
needs_keras = pytest.mark.skipif(
    not (find_spec("keras") and find_spec("keras_hub")), reason=f"needs keras-hub: {INSTALL}"
)


def running(parts, dtype="float32", config=TINY):
    model = model_of(parts, config, dtype)
    fill(model.backbone, synthetic_params(config, 0, bfloat16=False))
    return model


def only_pass(model, folder, **more):
    [one] = passes_of(capture(model, IDS, folder, **more))
    return one
