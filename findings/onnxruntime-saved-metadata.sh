#!/usr/bin/env bash
# onnxruntime 1.32.0 saves an optimised graph without the metadata of any node, also of nodes that it left as they were.
#
# Guessed before running: `optimized_model_filepath` keeps `metadata_props` at the nodes that no optimisation touched, as it
# keeps their names. Seen: none is left, with all optimisations off, too; names, attributes and documentation stay. The
# names of modules that torch's exporter writes there are gone for whoever reads the saved graph.
#
# Needs Python 3.11 or newer and a package index. Fails if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
"$folder/venv/bin/python" - "$folder" <<'PY'
import sys

import onnx
import onnxruntime
from onnx import TensorProto, helper

value = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy"}
node = helper.make_node("Softmax", ["x"], ["y"], name="mine", doc_string="told")
node.metadata_props.add(key="module", value="layers.0.self_attn")
graph = helper.make_graph([node], "one", [value["x"]], [value["y"]])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
for level in ("ORT_DISABLE_ALL", "ORT_ENABLE_ALL"):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.optimized_model_filepath = f"{sys.argv[1]}/{level}.onnx"
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    [saved] = onnx.load(options.optimized_model_filepath).graph.node
    print(level, saved.op_type, saved.name, saved.doc_string, list(saved.metadata_props))
    assert (saved.op_type, saved.name) == ("Softmax", "mine")
    assert not saved.metadata_props, "kept now"
print("as found: the metadata is gone")
PY
