"""A draft of a table for a model that nobody has written one for: modules whose values are the reference's.

The model and the reference run on the same ids. What a module takes or gives is compared with every tap of as many
values, in every order of axes; a tap is found where the distance is small. Where a model is wrong from some layer on,
the layers before it say how its modules are called; where none agrees, names that other projects use may.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

import numpy as np

from ref.capture.module.listen import modules_of
from ref.capture.module.match import Reference
from ref.capture.module.run import Call, as_module, checked_call, device_of, run
from ref.capture.passes import first_pass
from ref.capture.places import Row
from ref.capture.prompts import check_prompt
from ref.capture.transformers.tensors import to_numpy
from ref.capture.transformers.wrapped import traced_anew, untraced
from ref.dump.aliases import TABLES as NAMINGS
from ref.dump.find_tap import find
from ref.dump.layouts import axes_of_value, fit, sides_of, written
from ref.errors import wanted
from ref.model.taps import row_of, tap_names
from ref.weights.resolve import Loaded, load

FEWEST = 4  # tokens: at one position nothing is rotated, and a tap is its neighbour


class Found(NamedTuple):
    """A row of the draft: what was found, and in how many layers."""

    module: str
    tap: str
    layout: str
    side: str


def draft_table(
    model: Any,
    ids: Any,
    *,
    weights: str | Loaded = "270m",
    call: Call | None = None,
    show: Callable[[str], Any] = print,
) -> dict[str, list[Row]]:
    """Draft a table for `capture_module`, and print it as code to paste.

    Args:
        model: as `capture_module`.
        ids: [T] or [B, T] integers, of which the first row counts; a few will do.
        weights: what the model holds, as `--weights` takes it: the reference runs on them.
        call: as `capture_module`.
        show: is given the code.

    Returns:
        The table. Rows by value come first; those by name and shape alone are marked in the code.

    Raises:
        BadInput: fewer than 4 tokens, at which taps are alike; a model that cannot be heard.

    Source: own.
    """
    loaded = load(weights) if isinstance(weights, str) else weights
    config = loaded.params.config
    model, rows = as_module(model), check_prompt(ids, config).ids[:1]
    device, prompt = device_of(model), check_prompt(rows, config)
    if rows.shape[1] < FEWEST:
        raise wanted("token ids", "draft", f"at least {FEWEST}: taps are alike at fewer", rows.shape[1])
    runs = checked_call(model, call, prompt, 0)
    reference, ears = Reference(loaded, rows[0].tolist()), _Ears(modules_of(model))
    ears.hear(model, lambda: run(runs, first_pass(prompt), device), reference)
    votes = Counter({ears.told_apart(one): count for one, count in ears.votes.items()})
    found = _best(votes)
    named = _by_name(ears.shapes, found, reference)
    show("\n".join(_code(found, named, votes, config.layers)))
    table: dict[str, list[Row]] = {}
    for one in [*found, *named]:
        table.setdefault(one.module, []).append(_row(one))
    return table


class _Ears:
    """Hears every module, and counts for which layers it is which tap."""

    def __init__(self, modules: dict[str, Any]):
        self.modules = modules
        self.votes: Counter[Found] = Counter()
        self.shapes: dict[tuple[str, str], tuple[int, ...]] = {}  # name and side -> shape
        self.calls: Counter[tuple[str, str]] = Counter()

    def hear(self, model: Any, runs: Callable[[], Any], reference: Reference) -> None:
        self.reference = reference
        with traced_anew(model), ExitStack() as stack:
            seen: set[int] = set()
            for name, module in self.modules.items():
                if id(module) in seen:
                    continue
                seen.add(id(module))
                before, after = untraced(self._before(name)), untraced(self._after(name))
                stack.callback(module.register_forward_pre_hook(before, with_kwargs=True).remove)
                stack.callback(module.register_forward_hook(after).remove)
            runs()

    def told_apart(self, found: Found) -> Found:
        """Say that the first call is meant, of a module that is called again in the same pass."""
        again = self.calls[found.module.replace("{i}", "0"), found.side] > 1
        return found._replace(side=f"{found.side}, call 0") if again else found

    def _before(self, name: str):
        def hook(module, args, kwargs):
            named = [(f"input.{key}", one) for key, one in kwargs.items()]
            several = [("input" if at == 0 else f"input[{at}]", one) for at, one in enumerate(args)]
            for side, one in [*several, *named]:
                self._vote(name, side, one)

        return hook

    def _after(self, name: str):
        def hook(module, args, out):
            several = out if isinstance(out, (tuple, list)) else [out]
            for at, one in enumerate(several):
                self._vote(name, "output" if len(several) == 1 else f"output[{at}]", one)

        return hook

    def _vote(self, name: str, side: str, value: Any) -> None:
        if not hasattr(value, "detach") or not value.is_floating_point() or not value.numel():
            return
        number = self.calls[name, side]
        self.calls[name, side] += 1
        side = f"{side}, call {number}" if number else side
        array = to_numpy(value).astype(np.float32)
        self.shapes[name, side] = array.shape
        for tap, layout, _ in self.reference.matches(array):
            pattern = _pattern(name, tap)
            if pattern is not None:
                self.votes[Found(pattern, re.sub(r"layer\.\d+\.", "layer.{i}.", tap), layout, side)] += 1


def _pattern(name: str, tap: str) -> str | None:
    """Return a module's name with {i} for the layer of its tap; None where it has another layer."""
    layer = re.search(r"layer\.(\d+)\.", tap)
    if layer is None:
        return name
    parts = name.split(".")
    return ".".join("{i}" if one == layer[1] else one for one in parts) if layer[1] in parts else None


def _best(votes: Counter[Found]) -> list[Found]:
    """Return the place of each tap that most layers agree on; of those the output, and the one heard first."""
    best: dict[str, Found] = {}
    for one, count in votes.items():
        other = best.get(one.tap)
        rank = (count, one.side.startswith("output"))
        if other is None or rank > (votes[other], other.side.startswith("output")):
            best[one.tap] = one
    apart = {tap for tap in best if "+" not in tap}
    fused = [tap for tap in best if "+" in tap and not set(tap.split(" + ")) <= apart]
    inside = {tap for one in fused for tap in one.split(" + ")}
    return [one for tap, one in best.items() if tap in fused or ("+" not in tap and tap not in inside)]


def _by_name(shapes: dict[tuple[str, str], tuple[int, ...]], found: list[Found], reference: Reference) -> list[Found]:
    """Find taps that no value gave, by the names that other projects use, where the shape fits."""
    have, named = {tap for one in found for tap in one.tap.split(" + ")}, {}
    for (name, side), shape in shapes.items():
        if side not in ("input", "output"):
            continue
        for tap, layout in _aliases(name if side == "output" else f"{name}.input", shape, reference):
            pattern, own = _pattern(name, tap), re.sub(r"layer\.\d+\.", "layer.{i}.", tap)
            if pattern is not None and own not in have:
                named.setdefault(own, Found(pattern, own, layout, side))
    return list(named.values())


def _aliases(foreign: str, shape: tuple[int, ...], reference: Reference) -> Iterator[tuple[str, str]]:
    parts = foreign.split(".")
    for naming in NAMINGS:
        for start in range(len(parts)):
            rows = find(naming, ".".join(parts[start:]), reference.config.layers)
            for one in rows if isinstance(rows, list) else ():
                axes = axes_of_value(one.tap, "float32", one.tap, foreign) if one.tap.startswith("text.") else ""
                left = one.how.split(" -> ")[0] or axes
                if not axes or one.part is not None or axes.endswith("pair"):
                    continue
                sides = sides_of(left, axes, one.tap, foreign)
                if fit(*sides, axes, shape, reference.lengths.text, reference.lengths.keys):
                    yield one.tap, "" if left == axes else written(left)


def _row(found: Found) -> tuple[str, ...]:
    return tuple(part for part in found[1:] if part and part != "output")


def _code(found: list[Found], named: list[Found], votes: Counter[Found], layers: int) -> Iterator[str]:
    yield "table = {  # a draft: check it"
    every = [*found, *named]
    for module in dict.fromkeys(one.module for one in every):
        yield f"    {module!r}: ["
        for one in every:
            if one.module == module:
                whole = f"{votes[one]} of {layers} layers" if "{i}" in one.tap else "once"
                why = f"by value, {whole}" if one in votes else "by name and shape, not by value"
                yield f"        {_row(one)!r},  # {why}"
        yield "    ],"
    yield "}"
    have = {tap for one in every for tap in one.tap.split(" + ")}
    floats = [tap for tap in tap_names(layers) if not row_of(tap).integers]
    every_tap = dict.fromkeys(re.sub(r"layer\.\d+\.", "layer.{i}.", tap) for tap in floats)
    yield f"# not found: {', '.join(tap for tap in every_tap if tap not in have) or 'nothing'}"
