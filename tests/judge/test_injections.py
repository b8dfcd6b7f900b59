"""Mistakes planted into transformers itself, on TINY with images: each must be caught, at its place, by its name."""

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
from support.injections import INJECTIONS, place

import ref
from ref import compare
from ref.capture.transformers import build_model, capture
from ref.golden_files.sampled import made_pixels

pytestmark = pytest.mark.witness
TEXT_ONLY = ("window_plus_one", "window_minus_one", "window_ignored", "no_causal")  # they would hide image blocks too
# of these, one layer of a short prompt is below what bfloat16 can show
LONG = {"gelu_erf": 150, "vision_gelu_erf": 11}
CASES = [(number, dtype) for dtype in ("float32", "bfloat16") for number in range(len(INJECTIONS))]


def named(report) -> set[str]:
    """Return the names in the first class of a diagnosis."""
    return {row["mutant"] for row in report["diagnosis"] if row["verdict"] in ("named", "tied")}


def ids_of(injection) -> list[int]:
    """Return a prompt with two images, or without where the mistake would hide their blocks."""
    rng = np.random.default_rng(1)
    text = rng.integers(3, 97, LONG.get(injection.mutant, 11)).tolist()
    ids = [5, 7, *[97] * 4, 9, 11, *[97] * 4, *text]
    return [33 if i == 97 else i for i in ids] if injection.mutant in TEXT_ONLY else ids


@pytest.mark.parametrize(
    ("number", "dtype"), CASES, ids=[f"{INJECTIONS[number].mutant}-{number}-{dtype}" for number, dtype in CASES]
)
def test_is_caught_located_and_named(number, dtype, tmp_path):
    injection = INJECTIONS[number]
    if injection.float32_only and dtype != "float32":
        pytest.skip("changes nothing beyond rounding")
    loaded = ref.load("tiny")
    model, ids, layer = build_model("tiny", dtype), ids_of(injection), place(injection, loaded.params.config)
    pixels = {} if injection.mutant in TEXT_ONLY else {"pixel_values": torch.from_numpy(made_pixels(2, 40))}
    undo = injection.plant(model, layer)
    try:
        capture(model, ids, tmp_path / "dump", weights="tiny", **pixels)
    finally:
        if callable(undo):
            undo()
    report = compare(tmp_path / "dump", loaded=loaded)
    assert report["verdict"] == "bug"
    assert report["first"]["tap"] == injection.tap.format(i=layer)
    assert named(report) & {injection.mutant, *injection.also}
