"""The runtimes: each runs a graph, optimised as it does it by default, and returns values from inside."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from ref.capture.onnx.files import held_dtype, needs, with_outputs
from ref.capture.onnx.graph import Graph
from ref.errors import wanted

COMPUTES_IN_FLOAT32: dict[str, str] = dict.fromkeys(("compute_dtype", "matmul_activations", "kv_dtype"), "float32")
PRECISIONS = ("f32", "default")  # of OpenVINO's operands
NARROW = {"bf16": "bfloat16", "f16": "float16"}  # what OpenVINO calls the operands that it may round


class GraphRun(NamedTuple):
    """A graph that is ready to run."""

    values: Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]  # inputs -> name of a value -> array
    policy: dict[str, str]  # what it computes in, as the dump says it


def onnxruntime(graph: Graph, names: Sequence[str], threads: int | None, precision: str) -> GraphRun:
    """Load a graph in onnxruntime, on the CPU, with all its optimisations.

    Args:
        graph: as it was read.
        names: of the values that are wanted.
        threads: None for its own choice.
        precision: `f32`; the CPU provider has no other.

    Raises:
        BadInput: onnxruntime is missing or refuses the graph.

    Source: onnxruntime 1.32: outputs that are added before a graph is optimised are kept.
    """
    ort = needs("onnxruntime")
    if precision != "f32":
        raise wanted("--precision", "capture", "f32 with onnxruntime, whose CPU has no other", precision)
    options = ort.SessionOptions()
    options.log_severity_level = 3  # errors: they are in our line
    options.intra_op_num_threads = threads or 0
    folder = str(graph.path.parent.resolve())
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
    try:
        providers = ["CPUExecutionProvider"]
        session = ort.InferenceSession(with_outputs(graph, names), options, providers=providers)
    except Exception as error:  # it has ten exceptions of its own, without a common base
        raise wanted("graph", graph.path, "one that onnxruntime runs", error) from None

    def values(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        try:
            return dict(zip(names, session.run(list(names), dict(feeds)), strict=True))
        except Exception as error:
            raise wanted("graph", graph.path, "one that onnxruntime runs", error) from None

    wide = held_dtype(graph) == "float16" and widens_float16(ort)
    return GraphRun(values, dict(COMPUTES_IN_FLOAT32) if wide else {})


def widens_float16(ort: Any) -> bool:
    """Multiply beyond float16 and back on the CPU, and tell whether the number survived.

        100 * 1000 * 0.001 = 100, or infinity

    Args:
        ort: onnxruntime.

    Source: onnxruntime 1.32: where a CPU has no kernel for float16, it casts, and casts back and forth are removed.
    """
    helper, numbers = needs("onnx.helper"), {"large": 1000.0, "small": 0.001}
    half, version = needs("onnx").TensorProto.FLOAT16, needs("onnx.defs").onnx_opset_version()
    x, y = (helper.make_tensor_value_info(name, half, [1]) for name in "xy")
    stored = [helper.make_tensor(name, half, [1], [value]) for name, value in numbers.items()]
    nodes = [helper.make_node("Mul", ["x", "large"], ["product"]), helper.make_node("Mul", ["product", "small"], ["y"])]
    graph = helper.make_graph(nodes, "chain", [x], [y], stored)
    opsets = [helper.make_opsetid("", min(version, 20))]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (made,) = session.run(None, {"x": np.array([100], np.float16)})
    return bool(np.isfinite(made).all())


def openvino(graph: Graph, names: Sequence[str], threads: int | None, precision: str) -> GraphRun:
    """Load a graph in OpenVINO, on the CPU.

    Args:
        graph: as it was read.
        names: of the values that are wanted.
        threads: None for its own choice.
        precision: `f32`; `default` for what it takes by itself, which are bfloat16 operands where the CPU has them.

    Raises:
        BadInput: openvino is missing or refuses the graph.

    Source: openvino 2026.4 "Precision Control"; `INFERENCE_PRECISION_HINT` of the compiled model says what was taken.
    """
    ov = needs("openvino")
    how: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"} if precision == "f32" else {}
    how |= {"INFERENCE_NUM_THREADS": threads} if threads else {}
    try:
        core = ov.Core()
        model = core.read_model(str(graph.path))
        model.add_outputs([name for name in names if name not in graph.outputs])
        compiled = core.compile_model(model, "CPU", how)
        taken = NARROW.get(str(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()))
    except Exception as error:  # RuntimeError, and others of its binding
        raise wanted("graph", graph.path, "one that openvino runs", _last_line(error)) from None

    def values(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        try:
            result = compiled(dict(feeds))
        except Exception as error:
            raise wanted("graph", graph.path, "one that openvino runs", _last_line(error)) from None
        return {name: _array(result, compiled.output(name)) for name in names}

    rounded = {"matmul_operands": taken, "accumulate": "float32", "products": "float32"} if taken else {}
    return GraphRun(values, COMPUTES_IN_FLOAT32 | rounded)


def _last_line(error: Exception) -> str:
    """Return what OpenVINO says after the lines of its own source."""
    return ([line for line in str(error).splitlines() if line.strip()] or [type(error).__name__])[-1]


def _array(result: Any, port: Any) -> np.ndarray:
    """Return an output; its binding shows the bits of bfloat16 as an array of float16."""
    value = np.asarray(result[port])
    return value.view(ml_dtypes.bfloat16) if port.get_element_type().get_type_name() == "bf16" else value


class Runtime(NamedTuple):
    """A runtime: its package, and what loads a graph in it."""

    package: str
    load: Callable[[Graph, Sequence[str], int | None, str], GraphRun]


# name on the command line -> runtime
RUNTIMES = {"ort": Runtime("onnxruntime", onnxruntime), "openvino": Runtime("openvino", openvino)}
