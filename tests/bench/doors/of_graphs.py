"""ONNX graphs, in onnxruntime and in OpenVINO. The graph is made once for the doors and lengths of a run."""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from .door import Door

LAYER = 9
BASE = 12_000.0  # between the two that Gemma 3 has
ONNX = ("torch", "transformers", "onnx", "onnxscript")


@cache
def graph() -> Path:
    """Export the real 270M, for prompts of any length."""
    from ref.capture.onnx.export import export_weights

    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return export_weights("270m", folder / "model.onnx")


def changed(change) -> Path:
    """Return a copy of the graph that was changed, beside its weights."""
    import onnx

    path = graph().with_name("planted.onnx")
    model = onnx.load(graph(), load_external_data=False)
    change(model.graph)
    onnx.save(model, path)
    return path


def exact_gelu(found: Any) -> None:
    """Let a GELU of the graph be the exact one."""
    gelu = [node for node in found.node if node.op_type == "Gelu"][LAYER]
    (attribute,) = (one for one in gelu.attribute if one.name == "approximate")
    attribute.s = b"none"


def other_base(found: Any) -> None:
    """Compute the frequencies of local layers, a constant of the graph, from another base."""
    from onnx import numpy_helper

    (held,) = (one for one in found.initializer if one.name.endswith("sliding_attention_inv_freq"))
    size = 2 * held.dims[0]
    frequencies = BASE ** -(np.arange(0, size, 2) / size)
    held.CopyFrom(numpy_helper.from_array(frequencies.astype(np.float32), held.name))


def captured(runtime: str, change):
    """Make what captures the graph in a runtime, changed where a mistake is planted."""

    def write(ids: list[int], planted: bool) -> None:
        from ref.cli import main

        path = changed(change) if planted else graph()
        given = ["--ids", ",".join(map(str, ids)), "--weights", "270m", "-o", "dump"]
        assert main(["capture", "onnx", str(path), *given, "--runtime", runtime]) == 0

    return write


DOORS = (
    Door(
        "onnxruntime",
        ("onnxruntime", "onnx", "torch"),
        ("onnxruntime", *ONNX),
        "onnx==1.23.2 onnxruntime==1.32.0 onnxscript==0.7.2 torch==2.13.0 transformers==5.23.0",
        "gemma3-ref capture onnx MODEL.onnx",
        "a GELU of the graph is the exact one",
        "gelu_erf",
        f"text.layer.{LAYER}.ffn.act",
        captured("ort", exact_gelu),
    ),
    Door(
        "openvino",
        ("openvino", "onnx", "torch"),
        ("openvino", *ONNX),
        "onnx==1.23.2 openvino==2026.4.1 onnxscript==0.7.2 torch==2.13.0 transformers==5.23.0",
        "gemma3-ref capture onnx MODEL.onnx --runtime openvino",
        f"local layers rotate with base {BASE:,.0f}, a constant of the graph",
        "rotary_base",
        "text.layer.0.attn.q_rope",
        captured("openvino", other_base),
    ),
)
