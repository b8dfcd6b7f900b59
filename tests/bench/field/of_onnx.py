"""ONNX graphs of transformers: needs onnx, onnxruntime==1.32.0, openvino==2026.4.1, onnxscript==0.7.2 (extra `onnx`).

One graph serves both runtimes. OpenVINO by default takes bfloat16 operands on a CPU that has instructions for them; the
adapter asks the compiled model, and the dump says so.
"""

from functools import partial

from ref.capture.onnx import capture, export
from ref.capture.transformers import build_from

from .foreign import needs
from .row import Row
from .subjects import made_ids, weights

VERSION = "onnx==1.23.2 onnxruntime==1.32.0 openvino==2026.4.1 onnxscript==0.7.2"
# name of a row -> runtime and precision
RUNTIMES = {"onnxruntime": ("ort", "f32"), "openvino": ("openvino", "f32"), "openvino-default": ("openvino", "default")}


def write(name, how, length, folder, plant=None):
    """Export, run and write the dump; return the weights."""
    needs("onnx", "onnxscript", how.partition("-")[0], version=VERSION)
    loaded, path = weights(name), folder.parent / "model.onnx"
    export(build_from(loaded._replace(vision=None)), path)
    runtime, precision = RUNTIMES[how]
    capture(path, made_ids(loaded, length), folder, runtime=runtime, precision=precision, weights=loaded)
    return loaded


def rows():
    """Yield the rows."""
    for name, lengths in {"tiny": (9, 40), "1b-pair": (3, 16), "270m": (6,)}.items():
        for how in RUNTIMES:
            for length in lengths:
                yield Row(f"onnx/{name}/float32/{how}/{length}", "float32", name, partial(write, name, how, length))
