"""`gemma3-ref capture onnx`: a graph, or one that is exported first."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ref.capture.onnx.export import export_weights
from ref.capture.onnx.files import needs
from ref.capture.onnx.runtimes import RUNTIMES
from ref.capture.onnx.write_dump import capture
from ref.errors import unknown, wanted
from ref.weights.resolve import load


def capture_weights(
    weights: str,
    prompts: Sequence[Sequence[int]],
    out: Path,
    *,
    graph: str = "",
    runtime: str = "ort",
    export: str | None = None,
    precision: str = "f32",
    steps: int = 0,
    dtype: str | None = None,
    attention: str | None = None,
    n_threads: int | None = None,
    taps: Sequence[str] = ("*",),
    pixels: np.ndarray | None = None,
    mmproj: str | None = None,
    left_pads: Sequence[int] | None = None,
) -> Path:
    """Write a dump of a graph, after it was exported if that is asked for.

    Args:
        weights: what the graph was made from, as the command line names it.
        prompts: token ids; each is run for itself.
        out: where; empty or new.
        graph: the .onnx file; new, where it is exported.
        runtime, precision, steps, left_pads, n_threads, taps: as `capture`.
        export: `transformers:W`, with a cache if steps or pads are asked for, with a tower if images are; None where
            the graph is there.
        dtype, attention: of an export, float32 and eager by default; a graph that is there has its own.
        pixels: [images, C, Y, X] of the only prompt.
        mmproj: the vision tower of a `.gguf` file.

    Returns:
        out.

    Raises:
        BadInput: a dtype or attention of a graph that is there, another export, one of images and a cache; as `capture`
            and `export_weights`.
    """
    asked = {"--dtype": dtype, "--attention": attention}
    for flag, value in asked.items():
        if value and not export:
            raise wanted(flag, "capture", "none without --export: the graph has its own", value)
    if runtime not in RUNTIMES:
        raise unknown("runtime", "capture", runtime, RUNTIMES)
    if export:
        maker, _, source = export.partition(":")
        if maker != "transformers" or not source:
            raise wanted("--export", "capture", "transformers:W, with W as --weights takes it", export)
        inputs = _inputs(pixels is not None, steps > 0 or left_pads is not None)
        needs(RUNTIMES[runtime].package)  # before the minutes that an export may take
        form: dict[str, Any] = {"dtype": dtype or "float32", "attention": attention or "eager", "mmproj": mmproj}
        export_weights(source, graph, inputs=inputs, **form)
    loaded = load(weights, mmproj=mmproj)
    how: dict[str, Any] = {
        "runtime": runtime,
        "weights": loaded,
        "taps": taps,
        "n_threads": n_threads,
        "precision": precision,
    }
    return capture(graph, prompts, out, steps=steps, left_pads=left_pads, pixel_values=pixels, **how)


def _inputs(sees: bool, keeps: bool) -> str:
    if sees and keeps:
        want = "no cached steps and no left pads: a graph with images is exported without a cache"
        raise wanted("--export", "capture", want, "images and one of them")
    return "images" if sees else "cache" if keeps else "ids"
