"""A graph that is run on one prompt after another, each with its cached steps; what it shows is written as passes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ref.capture.onnx.attention import FUSED_WHY
from ref.capture.onnx.files import constant, held_dtype
from ref.capture.onnx.graph import Graph
from ref.capture.onnx.inputs import cache_of, feeds_of
from ref.capture.onnx.names import Names
from ref.capture.onnx.runtimes import RUNTIMES
from ref.capture.onnx.tensors import Unlike, shaped
from ref.capture.onnx.value import Value
from ref.capture.passes import Pass, passes, pixels_of, rows_of
from ref.capture.places import OF_IMAGES
from ref.capture.prompts import Prompt
from ref.config import as_fields
from ref.dump.write import DumpWriter
from ref.errors import wanted
from ref.model.taps import Recorder, check_patterns, tap_names
from ref.weights.resolve import Loaded, weights_name


class GraphPasses:
    """A graph that is run on one prompt after another.

    Args:
        graph, names: as they were read.
        loaded: the weights.
        taps: patterns.
        steps: cached steps after each prompt.
    """

    def __init__(self, graph: Graph, names: Names, loaded: Loaded, taps: Sequence[str], steps: int):
        self.graph, self.names, self.steps = graph, names, steps
        self.name, self.config = loaded.name, loaded.params.config
        self.vision = loaded.vision.config if loaded.vision and names.blocks else None
        self.chosen, self.left = _chosen(names, taps, steps > 0)
        self.kept = {(str(i), one): name for i in range(names.layers) for one, name in cache_of(graph, i).items()}
        self.kept = self.kept if steps else {}

    def load(self, runtime: str, n_threads: int | None, precision: str) -> None:
        """Load the graph with what is wanted of it."""
        values = [*_values(self.chosen), *self.kept.values()]
        if self.steps and "text.logits" in self.names.values:
            values.append(self.names.values["text.logits"].name)
        made = [name for name in dict.fromkeys(values) if name in self.graph.maker]
        self.run = RUNTIMES[runtime].load(self.graph, made, n_threads, precision)
        self.dtype = held_dtype(self.graph)
        self.policy = _policy(self.dtype, self.names) | self.run.policy

    def described(self) -> dict[str, Any]:
        """Say what the dump says of the model."""
        held = {"name": weights_name(self.name), "dtype": self.dtype, "sha256": None}
        return {"config": as_fields(self.config, self.vision), "weights": held}

    def write(self, writer: DumpWriter, prompt: Prompt) -> None:
        """Run a prompt and its steps, each a pass."""
        past: dict[tuple[str, str], np.ndarray] = {}
        stored = _constants(self.graph, self.chosen)

        def run_pass(at: Pass) -> np.ndarray | None:
            fed = feeds_of(self.graph, at, self.config, past)
            values = stored | fed | self.run.values(fed)
            past.update({key: values[name] for key, name in self.kept.items()})
            self._add(writer, at, values)
            [row], [pixels] = rows_of(prompt, at), pixels_of(prompt, at)
            writer.end_pass(row, pixels)
            logits = self.names.values.get("text.logits")
            return values.get(logits.name) if logits else None

        passes(prompt, self.steps, run_pass)

    def _add(self, writer: DumpWriter, at: Pass, values: Mapping[str, np.ndarray]) -> None:
        for tap, found in self.chosen.items():
            if at.pixels is None and tap.startswith(OF_IMAGES):
                continue
            try:
                value = shaped(tap, found, values[found.name], self.config, self.vision, at)
            except Unlike as error:
                raise wanted(tap, self.graph.path, f"{error.want}, as these weights make it", error.got) from None
            if isinstance(value, str):
                self.left[tap] = value
            else:
                writer.add_tensor(tap, value)


def _chosen(names: Names, taps: Sequence[str], cached: bool) -> tuple[dict[str, Value], dict[str, str]]:
    """Return the values of the taps that are wanted, in the order of the model; and why there are no others."""
    every = tap_names(names.layers, cached, names.blocks)
    check_patterns(taps, every, "capture")
    wants = Recorder(*taps).wants
    ordered = [tap for tap in every if wants(tap)]
    left = {tap: names.missing[tap] for tap in ordered if tap in names.missing}
    return {tap: names.values[tap] for tap in ordered if tap in names.values}, left


def _values(chosen: Mapping[str, Value]) -> list[str]:
    """Return the names of values, each once: a mask is that of several layers."""
    return list(dict.fromkeys(value.name for value in chosen.values()))


def _constants(graph: Graph, chosen: Mapping[str, Value]) -> dict[str, np.ndarray]:
    """Return the values that the exporter computed, such as the mask of a graph for one length."""
    return {name: constant(graph, name) for name in _values(chosen) if name in graph.constants}


def _policy(dtype: str, names: Names) -> dict[str, Any]:
    """Describe the arithmetic that a graph says; a runtime adds what it takes instead."""
    fused = any(why == FUSED_WHY for why in names.missing.values())
    policy = dict.fromkeys(("compute_dtype", "matmul_activations", "kv_dtype"), dtype)
    return policy | {"rope_angle": "float32", "attention_impl": "fused" if fused else "eager"}
