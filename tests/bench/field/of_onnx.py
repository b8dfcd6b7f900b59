"""ONNX graphs of transformers: needs onnxruntime==1.32.0, openvino==2026.4.1, onnxscript==0.7.2.

Every node of a graph that torch exports carries the modules it was in, so that one table of modules finds the taps for
each runtime. OpenVINO by default takes bfloat16 operands on a CPU that has instructions for them, and says so nowhere.
"""

import logging
import warnings
from functools import partial
from importlib.metadata import version

import numpy as np
import torch

from .foreign import heads, needs, write_passes
from .row import Row
from .subjects import made_ids, weights

VERSION = "onnxruntime==1.32.0 openvino==2026.4.1 onnxscript==0.7.2"
SCOPES = "pkg.torch.onnx.name_scopes"
MODULES = {  # of a layer: the tap that its last node is
    "input_layernorm": "attn.pre_norm",
    "self_attn.q_proj": "attn.q",
    "self_attn.k_proj": "attn.k",
    "self_attn.v_proj": "attn.v",
    "self_attn.q_norm": "attn.q_norm",
    "self_attn.k_norm": "attn.k_norm",
    "self_attn.o_proj": "attn.out",
    "post_attention_layernorm": "attn.post_norm",
    "pre_feedforward_layernorm": "ffn.pre_norm",
    "mlp.gate_proj": "ffn.gate",
    "mlp.up_proj": "ffn.up",
    "mlp.down_proj": "ffn.out",
    "post_feedforward_layernorm": "ffn.post_norm",
}
BARE = {  # (module of a layer, operation, its number among those that lie in the module itself): tap
    ("self_attn", "Add", 0): "attn.q_rope",
    ("self_attn", "Add", 1): "attn.k_rope",
    ("self_attn", "Softmax", 0): "attn.probs",
    ("mlp", "Mul", 0): "ffn.act",
    ("", "Add", 0): "mid",
    ("", "Add", 1): "out",
}
OUTER = {"embed_tokens": "text.embed", "norm": "text.final_norm"}
AXES = dict.fromkeys(("attn.q_norm", "attn.q_rope"), "B N T H") | dict.fromkeys(
    ("attn.k_norm", "attn.k_rope"), "B K T H"
)
RUNTIMES = ("onnxruntime", "openvino", "openvino-default")


class Logits(torch.nn.Module):
    """What is exported: ids in, logits out."""

    def __init__(self, model):
        super().__init__()
        self.m = model

    def forward(self, input_ids):
        return self.m(input_ids=input_ids, use_cache=False).logits


def export(loaded, ids, path) -> dict[str, str]:
    """Write the graph with its taps as outputs; return the name of each tap's output."""
    from ref.capture.transformers.model import build_from

    ir, _ = needs("onnx_ir", "onnxscript", version=VERSION)
    model = Logits(build_from(loaded._replace(vision=None))).eval()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses torchvision
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        graph = torch.onnx.export(model, (torch.tensor([ids]),), dynamo=True, verbose=False).model
    taps = found(graph.graph)
    logits = graph.graph.outputs[0]
    graph.graph.outputs.extend(value for value in taps.values() if value is not logits)
    ir.save(graph, path, external_data="weights")
    return {tap: value.name for tap, value in taps.items()} | {"text.logits": logits.name}


def found(graph) -> dict:
    """Return the value of each tap, by the modules that nodes were in."""
    taps, counts = {}, {}
    for node in graph:
        scopes = node.metadata_props.get(SCOPES, "[]").strip("[]").replace("'", "").split(", ")[1:-1]
        inside = [scope.removeprefix("m.model.") for scope in scopes if scope.startswith("m.model.")]
        for scope in inside:
            _, layer, *path = [*scope.split(".", 2), "", ""][:3] if scope.startswith("layers.") else ("", "", "")
            name = MODULES.get(path[0]) if layer else None
            if name:
                taps[f"text.layer.{layer}.{name}"] = node.outputs[0]
            if scope in OUTER:
                taps[OUTER[scope]] = node.outputs[0]
        if inside and inside[-1].startswith("layers."):
            _, layer, path = [*inside[-1].split(".", 2), ""][:3]
            key = layer, path, node.op_type
            counts[key] = counts.get(key, -1) + 1
            if (path, node.op_type, counts[key]) in BARE:
                taps[f"text.layer.{layer}.{BARE[path, node.op_type, counts[key]]}"] = node.outputs[0]
    return taps


def run(runtime: str, path, ids, names: list[str]) -> list[np.ndarray]:
    """Run the graph in a runtime; return the values of its outputs."""
    if runtime == "onnxruntime":
        (ort,) = needs("onnxruntime", version=VERSION)
        session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
        return session.run(names, {session.get_inputs()[0].name: np.array([ids])})
    (openvino,) = needs("openvino", version=VERSION)
    how = {} if runtime.endswith("default") else {"INFERENCE_PRECISION_HINT": "f32"}
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(path), "CPU", how)
    result = compiled([np.array([ids])])
    return [np.asarray(result[compiled.output(name)]) for name in names]


def write(name, runtime, length, folder, plant=None):
    """Export, run and write the dump; return the weights."""
    needs(runtime.removesuffix("-default"), version=VERSION)
    loaded = weights(name)
    ids, path, c = made_ids(loaded, length), folder.parent / "model.onnx", loaded.params.config
    names = export(loaded, ids, path)
    taps = {}
    for tap, value in zip(names, run(runtime, path, ids, list(names.values())), strict=True):
        inner = tap.split(".", 3)[-1]
        value = heads(value, c.head_dim) if inner in ("attn.q", "attn.k", "attn.v") else value
        taps[tap] = value, AXES.get(inner)
    library = runtime.removesuffix("-default")
    write_passes(folder, (library, version(library)), loaded, "float32", [(ids, taps)])
    return loaded


def rows():
    """Yield the rows."""
    for name, lengths in {"tiny": (9, 40), "1b-pair": (3, 16), "270m": (6,)}.items():
        for runtime in RUNTIMES:
            for length in lengths:
                yield Row(
                    f"onnx/{name}/float32/{runtime}/{length}", "float32", name, partial(write, name, runtime, length)
                )
