"""The adapters: which implementations `gemma3-ref capture` runs. This table is the one place where one is registered.

An adapter is a module with a function `capture_weights(weights, prompts, out, *, steps, taps)`; see docs/adding.md. One
of another package is found by its entry point of the group `gemma3_ref.capture`.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

from ref.errors import one_line, wanted

GROUP = "gemma3_ref.capture"


class Flag(NamedTuple):
    """A flag of one adapter's command, or what stands before the text; its value is an argument of the adapter."""

    name: str  # as the command line has it
    about: str
    metavar: str = ""
    choices: tuple[str, ...] = ()


class Adapter(NamedTuple):
    """Where an adapter is, and what it runs."""

    module: str
    what: str
    flags: tuple[Flag, ...] = ()
    example: str = "--weights tiny"  # what its command is given first in the help


ONNX = (
    Flag("graph", "the graph; its weights may lie beside it", "MODEL.onnx"),
    Flag("--runtime", "what runs it; default: ort, which is onnxruntime", choices=("ort", "openvino")),
    Flag("--export", "write the graph first, from W as --weights takes it, such as a folder", "transformers:W"),
    Flag("--precision", "of OpenVINO: f32, the default here, or its own default", choices=("f32", "default")),
)

# name on the command line -> adapter
ADAPTERS = {
    "transformers": Adapter("ref.capture.transformers", "Hugging Face transformers, on torch"),
    "gemma": Adapter("ref.capture.gemma", "google-deepmind/gemma, on JAX"),
    "llama.cpp": Adapter("ref.capture.llama_cpp", "llama.cpp, through llama-cpp-python", (), "--weights 270m"),
    "keras": Adapter("ref.capture.keras", "keras-hub"),
    "onnx": Adapter("ref.capture.onnx", "an ONNX graph, in onnxruntime or OpenVINO", ONNX, "model.onnx --weights tiny"),
}


def installed_adapters() -> dict[str, Adapter]:
    """Return the adapters of other installed packages; a name of ours, or one that was found already, is kept."""
    from importlib.metadata import entry_points  # looks through every installed package: only when it is asked for

    found: dict[str, Adapter] = {}
    for point in entry_points(group=GROUP):
        package = f"{point.dist.name} {point.dist.version}" if point.dist else "another package"
        if point.name not in ADAPTERS:
            found.setdefault(point.name, Adapter(point.value, f"an adapter of {package}"))
    return found


def load_adapter(adapter: Adapter) -> Callable[..., Any]:
    """Return the adapter's `capture_weights`; it imports its framework when it is called.

    Args:
        adapter: ours or another package's.

    Raises:
        BadInput: its module cannot be imported, or has no such function.
    """
    try:
        module = import_module(adapter.module)
    except ImportError as error:
        raise wanted("adapter", adapter.module, "a module that can be imported", one_line(error)) from None
    function = getattr(module, "capture_weights", None)
    if not callable(function):
        raise wanted("adapter", adapter.module, "a function capture_weights", "none")
    return function
