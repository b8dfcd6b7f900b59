"""ONNX graphs for tests: exported once a session from a toy of two layers, and changed node by node."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from ref.capture.onnx.graph import Graph
from ref.config import SIZES

# a local layer and a global one; nothing else of `tiny` is smaller
TINY2 = SIZES["tiny"]._replace(name="tiny-2", layers=2, global_every=2)
IDS = [5, 6, 7, 33, 96, 1, 2, 45, 51, 8, 60]  # longer than the window of 5, and than the pass that is traced
RUNTIMES = ("ort", "openvino")
PACKAGES = {"ort": "onnxruntime", "openvino": "openvino"}


def needs(*names):
    """Skip where a package of the extra is missing."""
    missing = [name for name in names if find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"no {', '.join(missing)}: pip install -e '.[onnx]'")


needs_export = needs("onnx", "onnxscript", "torch", "transformers")
runtimes = pytest.mark.parametrize("runtime", [pytest.param(name, marks=needs(PACKAGES[name])) for name in RUNTIMES])


def changed(path, folder, change):
    """Write a graph once more, its weights beside it, after its proto was changed."""
    import onnx

    proto = onnx.load(str(path))
    change(proto)
    out = folder / "model.onnx"
    onnx.save(proto, str(out), save_as_external_data=True, location="model.onnx.data")
    return out


def node_of(proto, op, module=""):
    """Return the first node of an operation in a module."""
    graph = Graph(Path("model.onnx"), proto)
    return next(
        one for one, node in zip(proto.graph.node, graph.nodes, strict=True) if node.op == op and node.is_in(module)
    )


def without_scopes(proto):
    for node in proto.graph.node:
        del node.metadata_props[:]


def put_before(proto, name, op, number):
    """Let every node read another value where it reads an input: op(input, number)."""
    from onnx import helper

    for node in proto.graph.node:
        node.input[:] = [f"{name}_changed" if one == name else one for one in node.input]
    proto.graph.initializer.append(helper.make_tensor(f"{name}_number", 7, [1], [number]))
    proto.graph.node.insert(0, helper.make_node(op, [name, f"{name}_number"], [f"{name}_changed"]))


def exact_gelu_in(module):
    """Return what makes the GELU of a module the exact one."""

    def plant(proto):
        [approximate] = [one for one in node_of(proto, "Gelu", module).attribute if one.name == "approximate"]
        approximate.s = b"none"

    return plant
