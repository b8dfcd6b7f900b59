#!/usr/bin/env bash
# onnxruntime 1.32.0 saves an optimised graph without the metadata of any node, once it has changed one of them.
#
# Guessed before running: `optimized_model_filepath` keeps `metadata_props` at the nodes that no optimisation touched, as it
# keeps their names. Seen: removing one Identity takes the metadata from all others; where nothing was to be optimised it is
# kept. The names of modules that torch's exporter writes there are gone for whoever reads the saved graph.
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


def saved(*operations):
    names = ["x", *(f"t{number}" for number in range(1, len(operations))), "y"]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in (names[0], names[-1])]
    nodes = [helper.make_node(op, [a], [b], name=op) for op, a, b in zip(operations, names, names[1:])]
    for node in nodes:
        node.metadata_props.add(key="module", value="layers.0.self_attn")
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = f"{sys.argv[1]}/{len(operations)}.onnx"
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found = [(node.op_type, node.name, len(node.metadata_props)) for node in onnx.load(options.optimized_model_filepath).graph.node]
    print(operations, "->", found)
    return found


assert saved("Softmax", "Sqrt") == [("Softmax", "Softmax", 1), ("Sqrt", "Sqrt", 1)]
found = saved("Softmax", "Identity", "Sqrt")
assert [name for _, name, _ in found] == ["Softmax", "Sqrt"], "not optimised"
assert not any(count for _, _, count in found), "kept now"
print("as found: the metadata of all nodes is gone")
PY
