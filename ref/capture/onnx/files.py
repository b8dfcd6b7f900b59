"""The file of a graph: read without its weights, refused in one line, and written with more outputs."""

from collections import defaultdict
from collections.abc import Iterable
from importlib import import_module
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ref.capture.onnx.graph import Graph
from ref.errors import pip_install, wanted

LARGEST = 2**31  # bytes; protobuf holds no larger message
# how ONNX names the formats -> how NumPy does
FLOATS = {"FLOAT": "float32", "FLOAT16": "float16", "BFLOAT16": "bfloat16", "DOUBLE": "float64"}


def needs(name: str) -> Any:
    """Import a package of the extra [onnx].

    Raises:
        BadInput: it is not installed, or does not load; says what to install.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise wanted(name, "capture", pip_install("onnx"), f"no {error.name}") from None
    except (ImportError, OSError, RuntimeError) as error:
        raise wanted(name, "capture", f"an install that loads ({pip_install('onnx')})", error) from None


def read_graph(path: Path) -> Graph:
    """Read a graph without its weights.

    Args:
        path: of the .onnx file.

    Raises:
        BadInput: no file, too large, no ONNX, without nodes, or a file with its weights is missing.
    """
    onnx = needs("onnx")
    try:
        if not path.is_file():
            raise wanted("graph", path, "an .onnx file", "a folder" if path.is_dir() else "no such file")
        if path.stat().st_size >= LARGEST:
            raise wanted("graph", path, "a file below 2 GiB, as protobuf holds", f"{path.stat().st_size} bytes")
        proto = onnx.load_model_from_string(path.read_bytes())
    except OSError as error:
        raise wanted("graph", path, "a file that can be read", error.strerror) from None
    except ValueError:  # BadInput is one
        raise
    except Exception as error:  # protobuf has its own
        raise wanted("graph", path, "an ONNX file", error) from None
    if not proto.graph.node:
        raise wanted("graph", path, "an ONNX file with nodes", "none")
    for file in _external(proto):
        _check_beside(file, path)
    return Graph(path, proto)


def _external(proto: Any) -> list[str]:
    """List the files that hold the weights."""
    entries = (entry for one in proto.graph.initializer for entry in one.external_data)
    return sorted({entry.value for entry in entries if entry.key == "location"})


def _check_beside(file: str, path: Path) -> None:
    if Path(file).is_absolute() or ".." in Path(file).parts:
        raise wanted("weights of the graph", path, "a file beside it", file)
    if not (path.parent / file).is_file():
        raise wanted("weights of the graph", path, f"the file {file} beside it", "no such file")


def with_outputs(graph: Graph, names: Iterable[str]) -> bytes:
    """Return a graph with more of its values as outputs, as the bytes of a file; the graph itself stays as it is.

    Args:
        graph: as it was read.
        names: of the values.
    """
    onnx = needs("onnx")
    proto = onnx.ModelProto()
    proto.CopyFrom(graph.proto)
    more = (onnx.ValueInfoProto(name=name) for name in names if name not in graph.outputs)
    proto.graph.output.extend(more)  # without type or shape: a runtime infers them
    return proto.SerializeToString()


def constant(graph: Graph, name: str) -> np.ndarray:
    """Return a value that is stored in the file, such as a mask that was folded."""
    return needs("onnx.numpy_helper").to_array(graph.constants[name], str(graph.path.parent))


def held_dtype(graph: Graph) -> str:
    """Return the format that most of the numbers of a graph are held in, as NumPy names it.

    Raises:
        BadInput: it holds no floats.
    """
    name_of = needs("onnx").TensorProto.DataType.Name
    counts: dict[str, int] = defaultdict(int)
    for value in graph.constants.values():
        counts[name_of(value.data_type)] += prod(value.dims)
    floats = {FLOATS[name]: count for name, count in counts.items() if name in FLOATS}
    if not floats:
        raise wanted("weights of the graph", graph.path, f"numbers in {', '.join(FLOATS.values())}", "none")
    return max(floats, key=lambda name: floats[name])
