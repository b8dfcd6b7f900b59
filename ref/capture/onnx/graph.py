"""ONNX graphs: read, refused in one line where they cannot be, and which module made each value.

torch's exporter writes into each node the modules that it was in (`pkg.torch.onnx.name_scopes`); older exporters, and
onnxruntime-genai, say it by the node's name: `/model/layers.0/self_attn/q_proj/MatMul`.
"""

import ast
from collections import defaultdict
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

SCOPES, CLASSES = "pkg.torch.onnx.name_scopes", "pkg.torch.onnx.class_hierarchy"


class Node(NamedTuple):
    """One node of a graph."""

    op: str
    module: str  # the innermost module it was in, such as `model.layers.0.self_attn`; empty where it does not say
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    classes: tuple[str, ...]  # of the modules it was in
    order: tuple[int, ...]  # of the axes, of a Transpose

    def is_in(self, module: str) -> bool:
        """Tell whether it was in a module, or in one that lies in it."""
        return self.module == module or self.module.startswith(f"{module}.")


class Graph:
    """A graph that can be asked where a value comes from.

    Args:
        path: of the file.
        proto: as `onnx.load` returns it, without external data.
    """

    def __init__(self, path: Path, proto: Any):
        self.path, self.proto = path, proto
        self.constants = {value.name: value for value in proto.graph.initializer}
        self.inputs = [value for value in proto.graph.input if value.name not in self.constants]
        self.given = {value.name for value in self.inputs}
        self.outputs = [value.name for value in proto.graph.output]
        self.nodes: list[Node] = []
        self.maker: dict[str, Node] = {}
        self.users: dict[str, list[Node]] = defaultdict(list)
        self._inside: dict[str, list[Node]] = defaultdict(list)
        for node in proto.graph.node:
            self._add(node)

    def _add(self, proto: Any) -> None:
        props = {prop.key: prop.value for prop in proto.metadata_props}
        module = _module(props, proto.name)
        if (
            not module and proto.op_type == "Cast" and proto.input
        ):  # the exporter drops the scopes of those that end a narrow norm
            before = self.maker.get(proto.input[0])
            module = before.module if before else ""
        order = next((tuple(one.ints) for one in proto.attribute if one.name == "perm"), ())
        inputs, outputs = tuple(filter(None, proto.input)), tuple(filter(None, proto.output))
        node = Node(proto.op_type, module, inputs, outputs, _listed(props, CLASSES), order)
        self.nodes.append(node)
        self.maker.update(dict.fromkeys(outputs, node))
        for name in dict.fromkeys(inputs):
            self.users[name].append(node)
        for outer in accumulate(module.split("."), "{}.{}".format):
            self._inside[outer].append(node)

    @property
    def modules(self) -> list[str]:
        """Return the names of all modules that a node was in, the outer ones too, in the order of the file."""
        return list(self._inside)

    def inside(self, module: str) -> list[Node]:
        """Return the nodes of a module and of those in it, in the order of the file."""
        return self._inside.get(module, [])

    def output_of(self, module: str) -> str | None:
        """Return the last value of a module that is used outside of it; None where it made none.

        Of nodes with several outputs it is the first: a fused norm has its result there, and behind it a sum.
        """
        made = [name for node in self.inside(module) for name in node.outputs[:1]]
        used = (name for name in reversed(made) if self._leaves(name, module))
        return next(used, None)

    def _leaves(self, name: str, module: str) -> bool:
        return name in self.outputs or any(not user.is_in(module) for user in self.users[name])

    def input_of(self, module: str) -> str | None:
        """Return the first value that comes into a module from a node before it; None where none does."""
        nodes = self.inside(module)
        made = {name for node in nodes for name in node.outputs}
        return next((name for node in nodes for name in node.inputs if name in self.maker and name not in made), None)

    def reaches(self, name: str, source: str, within: str) -> bool:
        """Tell whether a value is made from another by the nodes of a module.

        Args:
            name: of the value.
            source: of the other.
            within: the module.
        """
        seen: set[str] = set()
        todo = [name]
        while todo:
            value = todo.pop()
            if value == source:
                return True
            node = self.maker.get(value)
            if node and value not in seen and node.is_in(within):
                todo.extend(node.inputs)
            seen.add(value)
        return False


def _module(props: dict[str, str], name: str) -> str:
    scopes = _listed(props, SCOPES)
    if scopes:
        return next((scope for scope in reversed(scopes[:-1]) if scope), "")  # the last one is the node itself
    return ".".join(part for part in name.split("/")[:-1] if part) if name.startswith("/") else ""


def _listed(props: dict[str, str], key: str) -> tuple[str, ...]:
    """Read a list of strings that is written as Python writes one; empty where it is none."""
    try:
        found = ast.literal_eval(props.get(key, "[]"))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return ()
    return tuple(str(one) for one in found) if isinstance(found, (list, tuple)) else ()
