"""Run an ONNX graph of Gemma 3 and write every tap that it shows as a dump. Extra: [onnx].

A graph that torch exports says at each node which module it was in, so that the values of all modules are found by
name, whatever runtime runs it. They are made outputs of the graph in memory; the file stays as it is.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ref.capture.common import check_prompts, say_left_out
from ref.capture.onnx.attention import FUSED_WHY
from ref.capture.onnx.files import constant, held_dtype, needs, read_graph
from ref.capture.onnx.graph import Graph
from ref.capture.onnx.inputs import feeds_of
from ref.capture.onnx.names import Names, find_names
from ref.capture.onnx.runtimes import RUNTIMES
from ref.capture.onnx.tensors import Unlike, shaped
from ref.capture.onnx.value import Value
from ref.config import TextConfig
from ref.dump.write import DumpWriter
from ref.errors import unknown, wanted
from ref.model.taps import Recorder, tap_names
from ref.weights.resolve import Loaded, load, weights_name


def capture(
    path: str | Path,
    ids: Sequence[Any],
    out_dir: str | Path,
    *,
    runtime: str = "ort",
    weights: str | Loaded = "270m",
    taps: Sequence[str] = ("*",),
    n_threads: int | None = None,
    precision: str = "f32",
) -> Path:
    """Run an ONNX graph on token ids and write every tap of it as a dump.

    Args:
        path: the .onnx file, with its weights in it or beside it.
        ids: [T] token ids of one prompt, or a list of prompts; each is run for itself, without padding.
        out_dir: where the dump will be; must not exist or be empty.
        runtime: `ort` (onnxruntime) or `openvino`; both optimise the graph as they do by default.
        weights: what the graph was made from, as `--weights` takes it, or loaded. The dump is judged against them.
        taps: patterns of the taps to keep.
        n_threads: of the runtime; None for its own choice.
        precision: `f32`, or `default` for the operands that OpenVINO takes by itself.

    Returns:
        out_dir. Each pass has the taps of `ref.model.taps` that the graph shows, in the format they have there; what
        it does not show and why is said by `LeftOut` warnings.

    Raises:
        BadInput: a package is missing, no graph can be read, its nodes do not say which module they were in, it is
            of another model or of other sizes than the weights, it has inputs that nothing is known of, the runtime
            refuses it, ids out of range, no tap matches, the folder is in use.

    Source: torch 2.13 `torch.onnx.export(dynamo=True)`; onnxruntime 1.32; openvino 2026.4.
    """
    if runtime not in RUNTIMES:
        raise unknown("runtime", "capture", runtime, RUNTIMES)
    package = RUNTIMES[runtime].package
    version = str(needs(package).__version__)
    loaded = load(weights) if isinstance(weights, str) else weights
    config = loaded.params.config
    prompts = [ids] if len(ids) and np.ndim(ids[0]) == 0 else ids
    check_prompts(prompts, config, 0, taps, padded=False)
    graph = read_graph(Path(path))
    names = find_names(graph)
    _check_layers(graph, names, config, loaded.name)
    chosen, left = _chosen(names, taps)
    feeds = [feeds_of(graph, [int(token) for token in prompt], config) for prompt in prompts]
    run = RUNTIMES[runtime].load(graph, [name for name in _values(chosen) if name in graph.maker], n_threads, precision)
    dtype = held_dtype(graph)
    model = {"config": config._asdict(), "weights": {"name": weights_name(loaded.name), "dtype": dtype, "sha256": None}}
    policy = _policy(dtype, names) | run.policy
    with DumpWriter(Path(out_dir), model, policy, {"name": package, "version": version}) as writer:
        for prompt, fed in zip(prompts, feeds, strict=True):
            values = _constants(graph, chosen) | run.values(fed)
            left |= _write(writer, graph, config, len(prompt), chosen, values)
            positions = list(range(len(prompt)))
            places = {"positions": positions, "cached": 0, "image_blocks": [], "left_pads": 0}
            writer.end_pass({"ids": [int(token) for token in prompt], **places})
    say_left_out(left)
    return writer.folder


def _check_layers(graph: Graph, names: Names, config: TextConfig, weights: str) -> None:
    if names.layers != config.layers:
        want = f"{config.layers}, as --weights {weights} has"
        raise wanted("layers", graph.path, want, names.layers)


def _chosen(names: Names, taps: Sequence[str]) -> tuple[dict[str, Value], dict[str, str]]:
    """Return the values of the taps that are wanted, in the order of the model; and why there are no others."""
    wants = Recorder(*taps).wants
    ordered = [tap for tap in tap_names(names.layers) if wants(tap)]
    left = {tap: names.missing[tap] for tap in ordered if tap in names.missing}
    return {tap: names.values[tap] for tap in ordered if tap in names.values}, left


def _values(chosen: Mapping[str, Value]) -> list[str]:
    """Return the names of values, each once: a mask is that of several layers."""
    return list(dict.fromkeys(value.name for value in chosen.values()))


def _constants(graph: Graph, chosen: Mapping[str, Value]) -> dict[str, np.ndarray]:
    """Return the values that the exporter computed, such as the mask of a graph for one length."""
    return {name: constant(graph, name) for name in _values(chosen) if name in graph.constants}


def _write(
    writer: DumpWriter,
    graph: Graph,
    config: TextConfig,
    count: int,
    chosen: Mapping[str, Value],
    values: Mapping[str, np.ndarray],
) -> dict[str, str]:
    """Write a pass; return what is left out, and why."""
    left = {}
    for tap, found in chosen.items():
        try:
            value = shaped(tap, found, values[found.name], config, count)
        except Unlike as error:
            raise wanted(tap, graph.path, f"{error.want}, as these weights make it", error.got) from None
        if isinstance(value, str):
            left[tap] = value
        else:
            writer.add_tensor(tap, value)
    return left


def _policy(dtype: str, names: Names) -> dict[str, Any]:
    """Describe the arithmetic that a graph says; a runtime adds what it takes instead."""
    fused = any(why == FUSED_WHY for why in names.missing.values())
    policy = dict.fromkeys(("compute_dtype", "matmul_activations", "kv_dtype"), dtype)
    return policy | {"rope_angle": "float32", "attention_impl": "fused" if fused else "eager"}
