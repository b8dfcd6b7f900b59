"""Which value of a graph is which tap, by the modules that its nodes were in and by what is made from what."""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from ref.capture.onnx.attention import attention_values
from ref.capture.onnx.graph import Graph
from ref.capture.onnx.inputs import cache_of
from ref.capture.onnx.tower import find_tower
from ref.capture.onnx.value import Value, head_axes, sum_of
from ref.errors import wanted

# module of a layer -> the tap that its output is; `attn` stands for self_attn
OUTPUTS = {
    "input_layernorm": "attn.pre_norm",
    "attn.q_proj": "attn.q",
    "attn.k_proj": "attn.k",
    "attn.v_proj": "attn.v",
    "attn.q_norm": "attn.q_norm",
    "attn.k_norm": "attn.k_norm",
    "attn.o_proj": "attn.out",
    "post_attention_layernorm": "attn.post_norm",
    "pre_feedforward_layernorm": "ffn.pre_norm",
    "mlp.gate_proj": "ffn.gate",
    "mlp.up_proj": "ffn.up",
    "mlp.down_proj": "ffn.out",
    "post_feedforward_layernorm": "ffn.post_norm",
}
INPUTS = {"attn.o_proj": "attn.mix", "mlp.down_proj": "ffn.act"}  # and the tap that goes into it
ADDED = {"attn.post_norm": ("in", "mid"), "ffn.post_norm": ("mid", "out")}  # what is added to which, and the sum
PACKED = {"attn.q_proj": "attn.q_norm", "attn.k_proj": "attn.k_norm"}  # what takes the parts of one product of all
MINE = ("q_norm", "pre_feedforward_layernorm")  # modules that tell a layer of Gemma 3 from those of others
LAYER = re.compile(r"(?P<root>(?:.*\.)?)layers\.(?P<number>[0-9]{1,4})\.(?P<attention>self_attn|attn)")


class Names(NamedTuple):
    """What a graph shows."""

    values: dict[str, Value]  # tap -> the value that it is
    missing: dict[str, str]  # tap -> why there is none
    layers: int
    blocks: int  # of the vision tower; 0 without one


class Place(NamedTuple):
    """Where the decoder lies in a graph."""

    root: str  # with its dot, such as `model.`
    layers: int
    attention: str  # what the attention of a layer is called: self_attn, or attn

    def module(self, layer: int, name: str) -> str:
        """Return the whole name of a module of a layer."""
        first, *rest = name.split(".")
        return ".".join([f"{self.root}layers.{layer}", self.attention if first == "attn" else first, *rest])


def find_names(graph: Graph) -> Names:
    """Find the taps of a Gemma 3 decoder among the values of a graph.

    Args:
        graph: as `read_graph` returns it.

    Raises:
        BadInput: no node says which module it was in, or they are those of another model.

    Source: torch 2.13 `torch.onnx.export(dynamo=True)`; transformers 5.23 `modeling_gemma3.py`.
    """
    place = _place(graph)
    found, blocks = find_tower(graph)
    found |= dict(_ends(graph, place))
    for i in range(place.layers):
        found |= {f"text.layer.{i}.{tap}": value for tap, value in _layer(graph, place, i)}
        found |= {f"text.layer.{i}.cache.{one[0]}": Value(name, "B K S H") for one, name in cache_of(graph, i).items()}
    if blocks:
        found["model.merged"] = found["text.layer.0.in"]
    values = {tap: value for tap, value in found.items() if isinstance(value, Value)}
    return Names(values, {tap: why for tap, why in found.items() if isinstance(why, str)}, place.layers, blocks)


def _place(graph: Graph) -> Place:
    matches = [match for name in graph.modules if (match := LAYER.fullmatch(name))]
    if not matches:
        got = f"none in {len(graph.nodes)} nodes; graphs that were optimised before they were saved have lost them"
        want = "names of modules at the nodes, such as layers.0.self_attn: an export of torch.onnx.export(dynamo=True)"
        raise wanted("graph", graph.path, want, got)
    for match in matches:
        layer = match[0].removesuffix(match["attention"])
        if graph.inside(f"{match[0]}.q_norm") and graph.inside(f"{layer}pre_feedforward_layernorm"):
            of_root = {int(one["number"]) for one in matches if one["root"] == match["root"]}
            return Place(match["root"], max(of_root) + 1, match["attention"])
    raise wanted("graph", graph.path, f"layers of Gemma 3, with {' and '.join(MINE)}", _kind(graph, matches[0][0]))


def _kind(graph: Graph, module: str) -> str:
    """Name what a graph was exported from."""
    kinds = [name.rpartition(".")[2] for node in graph.inside(module) for name in node.classes]
    layer = next((name for name in kinds if "Layer" in name), "others")
    return f"{layer} ({module})"


def _ends(graph: Graph, place: Place) -> Iterator[tuple[str, Value | str]]:
    final = [f"{place.root}norm", f"{place.root}layers.{place.layers}.final_norm_layernorm"]  # the latter is genai's
    yield "text.embed", _or_why(graph.output_of(f"{place.root}embed_tokens"), "the graph has no embed_tokens")
    yield "text.final_norm", _or_why(next(filter(None, map(graph.output_of, final)), None), "the graph has no norm")
    heads = [name for name in graph.modules if name.rpartition(".")[2] == "lm_head"]
    logits = next((name for name in map(graph.output_of, heads) if name), None)
    by_name = next((name for name in graph.outputs if name == "logits"), None)
    yield "text.logits", _or_why(by_name or logits, "the graph has no lm_head and no output called logits")


def _or_why(name: str | None, why: str) -> Value | str:
    return why if name is None else Value(name)


def _layer(graph: Graph, place: Place, i: int) -> Iterator[tuple[str, Value | str]]:
    named: Callable[[str], str] = lambda name: place.module(i, name)  # noqa: E731 - reads as a word below
    outputs = {tap: graph.output_of(named(module)) for module, tap in OUTPUTS.items()}
    for module, norm in PACKED.items():
        outputs[OUTPUTS[module]] = outputs[OUTPUTS[module]] or graph.input_of(named(norm))
    for module, tap in OUTPUTS.items():
        name = outputs[tap]
        yield (
            tap,
            f"no value leaves a module {module.replace('attn', place.attention)}"
            if name is None
            else Value(name, head_axes(graph, tap, name, named(module))),
        )
    for module, tap in INPUTS.items():
        name = graph.input_of(named(module))
        yield tap, _or_why(name, f"no value goes into a module {module.replace('attn', place.attention)}")
    for tap, (before, after) in ADDED.items():
        added, total = sum_of(graph, outputs[tap])
        why = f"no addition of {tap} in the layer"
        yield after, _or_why(total, why)
        if before == "in":
            yield before, _or_why(added, why)
    yield from attention_values(graph, named("attn"), outputs)
