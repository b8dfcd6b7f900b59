"""The adapters: which implementations `gemma3-ref capture` runs. This table is the one place where one is registered.

An adapter is a module with a function `capture_weights(weights, prompts, out, *, steps, taps)`; see docs/adding.md. One
of another package is found by its entry point of the group `gemma3_ref.capture`.
"""

import re
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
    counts: bool = False  # whether its value is a number
    repeats: bool = False  # whether it may stand several times


class Adapter(NamedTuple):
    """Where an adapter is, what it runs, and what it gives."""

    module: str
    what: str
    flags: tuple[Flag, ...] = ()
    example: str = "--weights tiny"  # what its command is given first in the help
    tried: tuple[tuple[str, tuple[str, ...]], ...] = ()  # packages as pip names them, and their versions that were run
    gives: tuple[str, ...] = ()  # of GIVES
    lacks: tuple[tuple[str, str], ...] = ()  # ends of taps' names, and why they are not heard
    attention: tuple[str, ...] = ("eager",)  # values of --attention; the first shows scores and probabilities


CACHES = ("dynamic", "offloaded", "static", "offloaded_static")  # as transformers' `generate` names them
# what may be had of an implementation besides the values of its modules
GIVES = ("scores", "probs", "caches", "images", "steps", "left pads", "several rows")
NO_SLOTS = (".cache.positions", "a cache has no positions there")
FUSED = "attention is one fused function there, which shows only its result"
WHEN_FUSED = "a fused attention shows only its result; --attention eager has them"
ONNX = (
    Flag("graph", "the graph; its weights may lie beside it", "MODEL.onnx"),
    Flag("--runtime", "what runs it; default: ort, which is onnxruntime", choices=("ort", "openvino")),
    Flag("--export", "write the graph first, from W as --weights takes it, such as a folder", "transformers:W"),
    Flag("--precision", "of OpenVINO: f32, the default here, or its own default", choices=("f32", "default")),
)

LORA = (
    Flag("--adapter", "a LoRA adapter on the weights, as PEFT saves it; needs peft", "DIR"),
    Flag("--merged", "whether it is added to the weights before they run; default: no", choices=("no", "yes")),
)
TRANSFORMERS = (
    Flag("--pad", "run the prompts as rows of one batch, the shorter ones padded there", choices=("left", "right")),
    Flag("--cache", "static caches have a slot for every token to come; default: dynamic", choices=CACHES),
    Flag("--turn", "a turn after the prompt, on the cache that it left: text, or ids as --ids", "TEXT", repeats=True),
    Flag("--chunk", "tokens that are run at a time", "N", counts=True),
    Flag("--prefix", "tokens of the prompt that were cached before: only their keys are wanted", "N", counts=True),
)

# name on the command line -> adapter
ADAPTERS = {
    "transformers": Adapter(
        "ref.capture.transformers",
        "Hugging Face transformers, on torch",
        flags=(*LORA, *TRANSFORMERS),
        tried=(("transformers", ("5.23.0", "5.24.0")), ("torch", ("2.13.0",))),
        gives=GIVES,
        lacks=((".attn.scores", WHEN_FUSED), (".attn.probs", WHEN_FUSED), NO_SLOTS),
        attention=("eager", "sdpa"),
    ),
    "gemma": Adapter(
        "ref.capture.gemma",
        "google-deepmind/gemma, on JAX",
        tried=(("gemma", ("3.3.0",)), ("jax", ("0.9.0",))),
        gives=("scores", "probs", "caches", "steps", "left pads", "several rows"),
    ),
    "llama.cpp": Adapter(
        "ref.capture.llama_cpp",
        "llama.cpp, through llama-cpp-python",
        example="--weights 270m",
        tried=(("llama-cpp-python", ("0.3.36",)),),
        gives=("scores", "probs", "caches", "steps"),
        lacks=((".attn.scores", WHEN_FUSED), (".attn.probs", WHEN_FUSED), NO_SLOTS),
        attention=("eager", "flash"),
    ),
    "keras": Adapter(
        "ref.capture.keras",
        "keras-hub",
        tried=(("keras-hub", ("0.31.0",)),),
        gives=("scores", "probs", "caches", "steps"),
        lacks=(NO_SLOTS,),
    ),
    "mlx": Adapter(
        "ref.capture.mlx",
        "mlx-lm",
        tried=(("mlx-lm", ("0.32.2",)), ("mlx", ("0.32.4",))),
        gives=("steps", "left pads", "several rows"),
        lacks=(
            (".attn.scores", FUSED),
            (".attn.probs", FUSED),
            (".attn.visible", "the mask goes into the fused function alone"),
            *(
                (f".cache.{one}", "a cache is no module, and modules are what is heard")
                for one in ("k", "v", "positions")
            ),
        ),
    ),
    "onnx": Adapter(
        "ref.capture.onnx",
        "an ONNX graph, in onnxruntime or OpenVINO",
        flags=ONNX,
        example="model.onnx --weights tiny",
        tried=(("onnxruntime", ("1.32.0",)), ("openvino", ("2026.4.1",)), ("onnx", ("1.23.2",))),
        gives=("scores", "probs", "caches", "images", "steps", "left pads"),
        lacks=(
            (".attn.scores", "the graph's attention is one node"),
            (".attn.probs", "the graph's attention is one node"),
            NO_SLOTS,
        ),
    ),
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


def newer_than_tried(adapter: Adapter) -> str:
    """Say which packages of an adapter are newer than all that were tried; empty where none is.

    Args:
        adapter: ours or another package's, of which nothing is known.
    """
    from importlib.metadata import PackageNotFoundError, version

    newer = []
    for package, tried in adapter.tried:
        try:
            here = version(package)
        except PackageNotFoundError:  # perhaps from a checkout
            continue
        if numbers(here) > max(map(numbers, tried)):
            newer.append(f"{package} {here} is newer than {tried[-1]}, the newest that was tried")
    return "; ".join(newer)


def numbers(version: str) -> tuple[int, ...]:
    """Return the numbers of a version's release, such as (5, 23, 0), to be compared."""
    release = re.match(r"[0-9.]*", version.partition("+")[0])
    assert release is not None
    return tuple(int(one) for one in release[0].split(".") if one)


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
