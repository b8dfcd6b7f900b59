"""Ports that are wrong on purpose: dumps of the model with a known mistake in it, for the judge to find."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from ref.dump.write import DumpWriter
from ref.emulate.arithmetic import emulate
from ref.emulate.graph import RULES, Run
from ref.emulate.one_pass import pass_of
from ref.emulate.policy import POLICIES
from ref.emulate.stages import prepare_stage, stages_of, taps_of
from ref.errors import unknown, wanted
from ref.model.inputs import check_ids
from ref.mutants import tap_mutants
from ref.weights.resolve import Loaded

STORED = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16}
CLEAR = 1e-3  # relative change of a tap that any number format shows


class BrokenPort(NamedTuple):
    """A dump with a mistake in it, or several."""

    path: Path
    planted: tuple[tuple[str, int | None], ...]  # names out of `ref.mutants.tap_mutants()`; layers, None: everywhere

    @property
    def mistake(self) -> str | None:
        """The first mistake; None: nothing is wrong."""
        return self.planted[0][0] if self.planted else None

    @property
    def layer(self) -> int | None:
        """The first mistake's layer; None: everywhere."""
        return self.planted[0][1] if self.planted else None

    def __repr__(self) -> str:  # a blind exercise does not give itself away
        return f"BrokenPort({str(self.path)!r}, ...)"


def break_port(
    folder: str | Path,
    loaded: Loaded,
    ids: Sequence[int],
    mistake: str | None = None,
    layer: int | None = None,
    dtype: str = "float32",
    also: Sequence[tuple[str, int | None]] = (),
) -> BrokenPort:
    """Write a dump of a prompt's pass with known mistakes in it, every tap, in transformers' rounding.

    Args:
        folder: where; empty or new.
        loaded: weights, from `ref.load`.
        ids: [T] token ids, text only.
        mistake: a name out of `ref.mutants.tap_mutants()`; None makes none.
        layer: the one layer that is wrong; None: wherever the operation stands.
        dtype: `float32` or `bfloat16`; the weights are held in it, too.
        also: more mistakes with their layers.

    Raises:
        BadInput: an unknown mistake, layer or dtype; a mistake of images, or one outside of layers in a layer; two
            that change the same operation; ids out of range; a folder in use.

    Source: `ref.emulate.graph`, with the mutant's rule in the place of the operation's own.
    """
    planted = (*([] if mistake is None else [(mistake, layer)]), *also)
    rules = _rules(planted, loaded.params.config.layers)
    check_ids(np.array([ids]), loaded.params.config, "break_port")
    with _writer(Path(folder), loaded, dtype) as writer:
        for tap, value in broken_taps(loaded, ids, rules, dtype):
            writer.add_tensor(tap, value.astype(STORED[dtype]) if value.dtype.kind == "f" else value)
        row = {"ids": [int(t) for t in ids], "positions": list(range(len(ids))), "cached": 0, "left_pads": 0}
        writer.end_pass(row | {"image_blocks": []})
    return BrokenPort(Path(folder), planted)


def break_port_blindly(
    folder: str | Path, loaded: Loaded, ids: Sequence[int], seed: int, mistakes: int = 1
) -> BrokenPort:
    """Write a dump with mistakes that a seed chooses, each at another operation; arguments as `break_port`.

    Those that change nothing in this prompt beyond 0.1 % are passed over, and those that another mistake is the same as
    there: in one global layer swapped bases are the local base.
    """
    if mistakes < 1:
        raise wanted("mistakes", "break_port_blindly", "1 or more", mistakes)
    layers, rng = loaded.params.config.layers, np.random.default_rng(seed)
    right = dict(broken_taps(loaded, ids, {}))
    chosen: list[tuple[str, int | None]] = []
    for name in rng.permutation(sorted(tap_mutants())).tolist():
        layer = int(rng.integers(layers))
        groups = tap_mutants()[name].rules
        layer = layer if all(".layer." in group for group in groups) else None
        if not all(group.startswith("text.") for group in groups) or _shared([*chosen, (name, layer)]):
            continue
        taps = broken_taps(loaded, ids, _rules([(name, layer)], layers))
        shown = next(((tap, value) for tap, value in taps if _differs(value, right[tap])), None)
        if shown and not _has_twin(loaded, ids, name, layer, *shown):
            chosen.append((name, layer))
        if len(chosen) == mistakes:
            return break_port(folder, loaded, ids, *chosen[0], also=chosen[1:])
    asked = f"a prompt in which {mistakes} mistake{'s' * (mistakes > 1)} can be seen"
    raise wanted("ids", "break_port_blindly", asked, f"one in which {len(chosen) or 'none'} can")


def broken_taps(
    loaded: "Loaded", ids: Sequence[int] | np.ndarray, rules: dict[str, Any], dtype: str = "float32"
) -> Iterator[tuple[str, np.ndarray]]:
    """Run the graph from the prompt, stage by stage, with rules in the place of some; yields (tap, value)."""
    held = "file" if dtype == "float32" else dtype
    one_pass = pass_of(loaded, ids, held=held)
    run = Run(one_pass, emulate(POLICIES[f"transformers-{dtype}"], 1), {}, None, rules)
    for stage in stages_of(one_pass):
        run.enter(stage, prepare_stage(loaded, stage, held, np.float32))
        taps = taps_of(stage, False, False)
        for tap in taps:
            with np.errstate(all="ignore"):
                yield tap, run.value(tap)
        run.forget(taps[-1:] if stage.name != "layer" else (taps[-1], f"text.layer.{stage.layer}.out"))


def _rules(planted: Sequence[tuple[str, int | None]], layers: int) -> dict[str, Any]:
    """Put the rules of several mistakes together."""
    for mistake, layer in planted:
        _check(mistake, layer, layers)
    if shared := _shared(planted):
        raise wanted("also", "break_port", "mistakes of different operations", f"two that change {shared}")
    out: dict[str, Any] = {}
    for mistake, layer in planted:
        for group, rule in tap_mutants()[mistake].rules.items():
            out |= in_one_layer({group: rule}, layer, out.get(group, RULES[group]))
    return out


def _shared(planted: Sequence[tuple[str, int | None]]) -> str:
    """Name an operation that two mistakes change in the same layer; empty where each has its own."""
    for number, (mistake, layer) in enumerate(planted):
        for other, beside in planted[:number]:
            both = tap_mutants()[mistake].rules.keys() & tap_mutants()[other].rules.keys()
            if both and (layer is None or beside is None or layer == beside):
                return min(both)
    return ""


def _check(mistake: str, layer: int | None, layers: int) -> None:
    if mistake not in tap_mutants():
        raise unknown("mistake", "break_port", mistake, tap_mutants())
    if layer is not None and not 0 <= layer < layers:
        raise wanted("layer", "break_port", f"0 .. {layers - 1}", layer)
    if not _can_be(mistake, layer):
        where = "text" if layer is None else "the layers"
        raise wanted("mistake", "break_port", f"one of operations in {where}", mistake)


def _can_be(mistake: str, layer: int | None) -> bool:
    """Tell whether a mistake is in some operation of text, and where a layer is given, inside layers."""
    prefix = "text." if layer is None else "text.layer."
    return any(group.startswith(prefix) for group in tap_mutants()[mistake].rules)


def in_one_layer(rules: dict[str, Any], layer: int | None, other: Any = None) -> dict[str, Any]:
    """Return rules that hold in one layer only, elsewhere another or the graph's own; None: everywhere."""
    if layer is None:
        return rules
    return {
        group: lambda c, rule=rule, group=group: (rule if c.layer == layer else other or RULES[group])(c)
        for group, rule in rules.items()
    }


def _has_twin(loaded: Loaded, ids: Sequence[int], name: str, layer: int | None, tap: str, value: np.ndarray) -> bool:
    """Tell whether another mistake of the same operations gives the same value in the same place."""
    layers, own = loaded.params.config.layers, tap_mutants()[name].rules.keys()
    for other, mutant in tap_mutants().items():
        inside = layer is None or all(".layer." in group for group in mutant.rules)
        if other == name or not own & mutant.rules.keys() or not inside:
            continue
        taps = broken_taps(loaded, ids, _rules([(other, layer)], layers))
        found = next((x for at, x in taps if at == tap), None)
        if found is not None and np.array_equal(found, value):
            return True
    return False


def _differs(value: np.ndarray, right: np.ndarray) -> bool:
    # what a query sees may be written in several ways; if it changes, so do the probabilities
    return value.dtype.kind == "f" and bool(np.linalg.norm(value - right) > CLEAR * np.linalg.norm(right))


def _writer(folder: Path, loaded, dtype: str) -> DumpWriter:
    if dtype not in STORED:
        raise wanted("dtype", "break_port", " or ".join(STORED), dtype)
    config = loaded.params.config
    weights = {"name": loaded.name, "dtype": "as in the file" if dtype == "float32" else dtype, "sha256": None}
    policy = dict.fromkeys(("compute_dtype", "matmul_activations", "kv_dtype"), dtype)
    policy |= {"rope_angle": "float32", "attention_impl": "eager"}
    model = {"config": config._asdict(), "weights": weights}
    return DumpWriter(folder, model, policy, {"name": "a port", "version": "1"})
