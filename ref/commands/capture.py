"""`gemma3-ref capture WITNESS`: run another implementation on the same weights and write what it computed as a dump."""

import argparse
import warnings
from contextlib import contextmanager, nullcontext
from inspect import signature
from pathlib import Path
from typing import Any

from ref.capture.adapters import ADAPTERS, Adapter, Flag, installed_adapters, load_adapter, newer_than_tried
from ref.commands import FINE
from ref.commands.about import About, add_command
from ref.commands.capture_heard import heard_and_not, list_adapters
from ref.commands.given_prompt import Given, given_prompt, given_turns, prompt_file_flags
from ref.commands.images import image_flags
from ref.commands.output import report_written
from ref.commands.shared import json_flag, note, text_flags
from ref.errors import wanted

NO_WITNESS = "the following arguments are required: WITNESS"
DTYPES = ("float32", "bfloat16", "float16", "float64", "file", "q8_0")
ATTENTION = ("eager", "sdpa", "flash")


ABOUT = About(
    "capture",
    "write a dump of another implementation's run on the same weights",
    "The implementation must be installed. The dump is what `compare` judges.",
    ("gemma3-ref capture transformers --weights tiny --ids 2,33,5,80 -o dump", "gemma3-ref capture --list"),
)


def add(subparsers) -> None:
    """Declare the command."""
    parser = add_command(subparsers, ABOUT, None)
    about = "list the implementations, the versions they were tried with, and what each gives"
    parser.add_argument("--list", action="store_true", help=about)
    as_json = "one JSON document on stdout, nothing else"
    parser.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=as_json)
    witnesses = parser.add_subparsers(dest="witness", metavar="WITNESS")
    parser.set_defaults(run=lambda args: list_adapters(args) if args.list else parser.error(NO_WITNESS))
    _add(witnesses, ADAPTERS)
    parser.complete = lambda: _add(witnesses, installed_adapters())  # type: ignore[attr-defined]


def _add(witnesses, adapters: dict[str, Adapter]) -> None:
    for name, adapter in adapters.items():
        example = f"gemma3-ref capture {name} {adapter.example} --ids 2,33,5,80 -o dump"
        about = About(name, f"write a dump of a run of {adapter.what}", "", (example,))
        flags = [_own_flags(adapter), text_flags(), image_flags(), prompt_file_flags(), _flags(), json_flag()]
        add_command(witnesses, about, run, flags).set_defaults(witness_row=adapter)


def _own_flags(adapter: Adapter) -> argparse.ArgumentParser:
    """Declare what this adapter alone takes."""
    parser = argparse.ArgumentParser(add_help=False)
    for flag in adapter.flags:
        more: dict[str, Any] = {"type": int} if flag.counts else {}
        more |= {"action": "append"} if flag.repeats else {}
        more |= {"choices": flag.choices} if flag.choices else {"metavar": flag.metavar or None}
        parser.add_argument(flag.name, help=flag.about, **more)
    return parser


def _flags() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help="an empty or new folder")
    parser.add_argument(
        "--taps", action="append", metavar="PATTERN", help="only these, such as 'text.layer.5.*' (repeatable)"
    )
    parser.add_argument(
        "--max-new-tokens", type=int, metavar="N", help="greedy cached steps after the prompt; default: 0"
    )
    about = "a small dump: of each larger tensor its norms, a digest, and values at 2560 places"
    parser.add_argument("--sketch", action="store_true", help=about)
    group = parser.add_argument_group("weights and arithmetic")
    about = "270m (the extra [weights]), a .gguf file, a Hugging Face folder, synthetic:SIZE[:SEED], tiny"
    group.add_argument("--weights", metavar="W", help=f"{about}; default: 270m, or what --export names")
    group.add_argument("--mmproj", metavar="FILE", help="the vision tower that goes with a .gguf file of text weights")
    about = "of weights and arithmetic; file and q8_0 are llama.cpp's: the file as it is, its default, and its blocks"
    group.add_argument("--dtype", choices=DTYPES, help=about)
    group.add_argument("--attention", choices=ATTENTION, help="fused ones have no scores and probabilities")
    group.add_argument("--threads", type=int, metavar="N", help="default: all cores")
    return parser


def run(args) -> int:
    """Encode the prompts, have the witness run them, and say what was written."""
    from ref.dump.sketching import sketching
    from ref.model.taps import tap_names
    from ref.weights.resolve import load

    if args.max_new_tokens is not None and args.max_new_tokens < 0:
        raise wanted("max-new-tokens", "capture", "0 or more", args.max_new_tokens)
    if args.threads is not None and args.threads < 1:
        raise wanted("threads", "--threads", "1 or more", args.threads)
    witness = load_adapter(args.witness_row)
    weights = args.weights or _exported(args) or "270m"
    loaded = load(weights, "file", args.mmproj)
    given, turns = given_prompt(args, loaded), given_turns(args, loaded)
    asked = {
        "dtype": ("--dtype", args.dtype),
        "attention": ("--attention", args.attention),
        "n_threads": ("--threads", args.threads),
        "pixels": ("--image", given.images.pixels if given.images else None),
        "left_pads": ("left pads", given.left_pads),
        "mmproj": ("--mmproj", args.mmproj),
    } | {_key(flag): (flag.name, getattr(args, _key(flag))) for flag in args.witness_row.flags}
    asked |= {"turn": ("--turn", turns)} if turns else {}
    more = _understood(witness, args.witness, asked)
    place, taps = args.out.absolute(), _taps(args, loaded, given)
    if newer := newer_than_tried(args.witness_row):
        note(f"capture: {newer}")
    small = sketching() if args.sketch else nullcontext()
    with _noting_left_out() as left, small:
        witness(weights, given.rows, args.out, steps=given.steps, taps=taps, **more)
    blocks = loaded.vision.config.layers if loaded.vision and given.images else 0
    is_cached = given.steps > 0 or any(getattr(args, name, None) for name in ("turn", "chunk", "prefix", "cache"))
    names = tap_names(loaded.params.config.layers, is_cached, blocks)
    report_written("capture", place, args.out, args.json, heard_and_not(place, names, taps, left, args.witness_row))
    return FINE


def _key(flag: Flag) -> str:
    return flag.name.removeprefix("--")


def _exported(args) -> str:
    """Return what a graph is exported from, which are then its weights."""
    return (getattr(args, "export", None) or "").partition(":")[2]


def _taps(args, loaded, given: Given) -> list[str]:
    """Return the patterns of --taps, with what the dump of --like has; without both every tap."""
    from ref.dump.trace import default_taps

    return [*given.taps, *(args.taps or [])] or default_taps(loaded, given.images)


@contextmanager
def _noting_left_out():
    """Say what a capture leaves out in our lines, and any other warning as Python says it; give a list of the first."""
    from ref.capture.common import LeftOut, NewerVersion

    show, left = warnings.showwarning, []

    def one_line(message, category, *place):
        if issubclass(category, NewerVersion):  # it was said
            return
        if isinstance(message, LeftOut):
            left.append(message)
            note(str(message))
        else:
            show(message, category, *place)

    with warnings.catch_warnings():
        warnings.simplefilter("always", LeftOut)
        warnings.showwarning = one_line
        yield left


def _understood(witness: Any, name: str, asked: dict[str, tuple[str, Any]]) -> dict[str, Any]:
    """Return the flags that were given, having refused those that the witness has no argument for."""
    known = signature(witness).parameters
    given = {key: value for key, (_, value) in asked.items() if value is not None}
    for key in given.keys() - known.keys():
        raise wanted(asked[key][0], "capture", f"a witness that takes it; {name} does not", given[key])
    return given
