"""Run an ONNX graph of Gemma 3 and write every tap that it shows as a dump. Extra: [onnx].

A graph that torch exports says at each node which module it was in, so that the values of all modules are found by
name, whatever runtime runs it. They are made outputs of the graph in memory; the file stays as it is.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ref.capture.common import say_left_out
from ref.capture.onnx.files import needs, read_graph
from ref.capture.onnx.graph import Graph
from ref.capture.onnx.inputs import check_asked, feeds_of
from ref.capture.onnx.names import Names, find_names
from ref.capture.onnx.run import GraphPasses
from ref.capture.onnx.runtimes import PRECISIONS, RUNTIMES
from ref.capture.passes import first_pass
from ref.capture.prompts import Prompt, check_prompt
from ref.dump.write import DumpWriter
from ref.errors import unknown, wanted
from ref.weights.resolve import Loaded, load


def capture(
    path: str | Path,
    ids: Sequence[Any],
    out_dir: str | Path,
    *,
    runtime: str = "ort",
    weights: str | Loaded = "270m",
    steps: int = 0,
    left_pads: Sequence[int] | None = None,
    pixel_values: Any = None,
    taps: Sequence[str] = ("*",),
    n_threads: int | None = None,
    precision: str = "f32",
) -> Path:
    """Run an ONNX graph on token ids and write every tap of it as a dump.

    Args:
        path: the .onnx file, with its weights in it or beside it.
        ids: [T] token ids of one prompt, or a list of prompts; each is run for itself.
        out_dir: where the dump will be; must not exist or be empty.
        runtime: `ort` (onnxruntime) or `openvino`; both optimise the graph as they do by default.
        weights: what the graph was made from, as `--weights` takes it, or loaded. The dump is judged against them.
        steps: greedy cached decode steps after each prompt; of a graph whose caches go in and come out.
        left_pads: pads of each prompt, of a graph with the input `attention_mask`.
        pixel_values: [images, C, Y, X] in [-1, 1] of the only prompt, of a graph with this input.
        taps: patterns of the taps to keep.
        n_threads: of the runtime; None for its own choice.
        precision: `f32`, or `default` for the operands that OpenVINO takes by itself.

    Returns:
        out_dir. Each pass has the taps of `ref.model.taps` that the graph shows, in the format they have there; what
        it does not show and why is said by `LeftOut` warnings.

    Raises:
        BadInput: a package is missing, no graph can be read, its nodes do not say which module they were in, it is
            of another model or of other sizes than the weights, it has inputs that nothing is known of or lacks those
            that are asked for, the runtime refuses it, ids out of range, no tap matches, the folder is in use.

    Source: torch 2.13 `torch.onnx.export(dynamo=True)`; optimum's names of caches; onnxruntime 1.32; openvino 2026.4.
    """
    if runtime not in RUNTIMES:
        raise unknown("runtime", "capture", runtime, RUNTIMES)
    if precision not in PRECISIONS:
        raise unknown("precision", "capture", precision, PRECISIONS)
    version = str(needs(RUNTIMES[runtime].package).__version__)
    loaded = load(weights) if isinstance(weights, str) else weights
    prompts = _prompts(ids, loaded, steps, left_pads, pixel_values)
    graph = read_graph(Path(path))
    names = find_names(graph)
    _check_layers(graph, names, loaded)
    run = GraphPasses(graph, names, loaded, taps, steps)
    for prompt in prompts:
        check_asked(graph, prompt, steps, run.config)
        feeds_of(graph, first_pass(prompt), run.config)  # refused before minutes of loading
    run.load(runtime, n_threads, precision)
    producer = {"name": RUNTIMES[runtime].package, "version": version}
    with DumpWriter(Path(out_dir), run.described(), run.policy, producer) as writer:
        for prompt in prompts:
            run.write(writer, prompt)
    say_left_out(run.left)
    return writer.folder


def _prompts(
    ids: Sequence[Any], loaded: Loaded, steps: int, left_pads: Sequence[int] | None, pixels: Any
) -> list[Prompt]:
    """Return each prompt as a batch of its own."""
    rows = [ids] if not hasattr(ids, "__len__") or (len(ids) and np.ndim(ids[0]) == 0) else list(ids)
    if not rows:
        raise wanted("token ids", "capture", "at least one prompt of at least one", "none")
    pads = [0] * len(rows) if left_pads is None else list(left_pads)
    if len(pads) != len(rows):
        raise wanted("left_pads", "capture", f"{len(rows)}, one a prompt", len(pads))
    if pixels is not None and len(rows) != 1:
        raise wanted("prompt", "capture", "one beside images", f"{len(rows)} prompts")
    how: dict[str, Any] = {"steps": steps, "pixels": pixels, "vision": loaded.vision and loaded.vision.config}
    if any(np.ndim(row) != 1 for row in rows):
        raise wanted("token ids", "capture", "prompts of integers [T]", rows)
    return [
        check_prompt(row, loaded.params.config, left_pads=[own], **how) for row, own in zip(rows, pads, strict=True)
    ]


def _check_layers(graph: Graph, names: Names, loaded: Loaded) -> None:
    for what, own, found in (
        ("layers", loaded.params.config.layers, names.layers),
        ("blocks of the tower", loaded.vision.config.layers if loaded.vision else 0, names.blocks),
    ):
        if found != own and (found or what == "layers"):  # weights that see may be run on text alone
            raise wanted(what, graph.path, f"{own}, as --weights {loaded.name} has", found)
