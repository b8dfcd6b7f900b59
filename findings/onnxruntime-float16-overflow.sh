#!/usr/bin/env bash
# onnxruntime 1.32.0 on a CPU runs a float16 graph in float32 between its nodes: what overflows float16 does not.
#
# Guessed before running: the output of each node is a float16 tensor, as the graph says, so that 100 * 1000 is infinity.
# Seen: 100 * 1000 * 0.001 is 100, with all graph optimisations off, too; ONNX's own evaluator gives infinity. A float16
# export that passes here overflows where float16 is computed, and Gemma's activations do go beyond 65504.
#
# Needs Python 3.11 or newer and a package index. Fails if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
"$folder/venv/bin/python" - "$folder" <<'PY'
import numpy as np
import onnxruntime
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator


def value(name):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT16, [1])


graph = helper.make_graph(
    [helper.make_node("Mul", ["x", "large"], ["product"]), helper.make_node("Mul", ["product", "small"], ["y"])],
    "chain", [value(name) for name in ("x", "large", "small")], [value("y")],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
feeds = {"x": np.float16([100]), "large": np.float16([1000]), "small": np.float16([0.001])}
options = onnxruntime.SessionOptions()
options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
(got,) = session.run(None, feeds)
(by_definition,) = ReferenceEvaluator(model).run(None, feeds)
print("onnxruntime:", got, got.dtype, "onnx's evaluator:", by_definition)
assert np.isinf(by_definition).all()
assert abs(float(got[0]) - 100) < 0.2, "rounded between nodes now"
print("as found: no overflow between nodes")
PY
