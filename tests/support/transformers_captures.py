"""Captures of transformers: the models and prompts of its tests, and values held beside the model's own."""

from importlib.util import find_spec

import ml_dtypes
import numpy as np
from support.captures import passes_of

import ref
from ref.capture.transformers import build_from, capture

if find_spec("torch") and find_spec("transformers"):
    import torch

IDS = [5, 6, 7, 33, 96, 0, 2, 45, 51, 8, 60]  # longer than the window of 5
SEEING = [3, 4, 97, 97, 97, 97, 5, 6, 97, 97, 97, 97, 7]  # two images of 4 soft tokens


def text_only(dtype="float32", attention="eager"):
    return build_from(ref.load("tiny")._replace(vision=None), dtype, attention)


def only_pass(model, folder, ids=IDS, **more):
    [one] = passes_of(capture(model, ids, folder, **more))
    return one


def plain(model, ids=IDS, **more):
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids]), use_cache=False, **more).logits


def assert_same(value, wanted):
    """Assert equality of every bit, and of shape and dtype."""
    wanted = wanted.detach().contiguous()
    if wanted.dtype == torch.bfloat16:
        assert value.dtype == ml_dtypes.bfloat16
        value, wanted = value.view(np.int16), wanted.view(torch.int16)
    assert value.dtype == wanted.numpy().dtype
    np.testing.assert_array_equal(value, wanted.numpy())


def assert_equal(passes, wanted):
    for values, own in zip(passes, wanted, strict=True):
        assert values.keys() == own.keys()
        for name, value in own.items():
            np.testing.assert_array_equal(values[name], value, err_msg=name)
