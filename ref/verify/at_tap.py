"""One tap of one pass: its two errors, each in multiples of its noise floor, and the verdict."""

from typing import Any, NamedTuple

import numpy as np

from ref.model.taps import layer_of, tap_group, tap_row
from ref.verify.bench import Bench
from ref.verify.floor import EXACT, LIMIT, Floor, floor_of
from ref.verify.graph import as_seen
from ref.verify.measure import by_token, errors_of, metrics_of, profile, sums_of
from ref.verify.parallel import side_by_side
from ref.verify.world import Unknown, World


class Measured(NamedTuple):
    """What was found at one tap of one pass."""

    row: dict[str, Any]  # of the report
    profile: dict[str, list[float]]
    value: np.ndarray | None
    truth: np.ndarray | None
    floor: Floor | None
    runs: tuple[np.ndarray, ...] | list[np.ndarray] = ()  # what valid runs have there, on the dump's own inputs

    def conclude(self) -> None:
        """Write the verdict into the row."""
        _conclude(self.row, self.truth)


def measure_tap(bench: Bench, tap: str) -> Measured:
    """Measure one tap of a dump, locally and as inherited, each in floors of its own.

    Args:
        bench: the pass.
        tap: its name; the dump has it.

    Source: README, "Judging your implementation".
    Differs: others compare with one run from the prompt, so that one wrong layer blames all that follow.
    """
    row = blank_row(tap, bench.number, bench.stored[tap].dtype)
    try:
        truths = side_by_side(lambda make: make(tap), [bench.local.recompute, bench.own.value])
    except Unknown as error:
        return Measured(row | {"verdict": "undetermined", "why": str(error)}, {}, None, None, None)
    (local_truth, row["span"]), own_truth = truths
    value = bench.load(tap)
    if tap.endswith(("attn.visible", "cache.positions")):
        return _measure_exact(row, bench.world, tap, value, local_truth)
    value, local_truth, own_truth, valid = fitted(bench.world, tap, value, local_truth, own_truth)
    row["nonfinite"] = first_nonfinite(value, local_truth, tap, valid)

    def against(truth, one):
        return errors_of(sums_of(fit_tail(tap, one, value), truth, tap, valid))

    def member(pair):
        own_inputs, from_prompt = pair[0].recompute(tap)[0], pair[1].value(tap)
        return fit_tail(tap, own_inputs, value), against(local_truth, own_inputs), against(own_truth, from_prompt)

    with np.errstate(all="ignore"):
        runs = side_by_side(member, zip(bench.locals, bench.owns, strict=True))
        floors = [([run[1] for run in runs], local_truth), ([run[2] for run in runs], own_truth)]
        floor, inherited_floor = side_by_side(lambda one: floor_of(*one, row["dtype"], tap, valid), floors)
        sums = sums_of(value, local_truth, tap, valid)
        local, inherited = errors_of(sums).distance, against(own_truth, value).distance
        metrics = metrics_of(sums, largest_error(value, local_truth, tap, valid), row["dtype"])
    row |= {
        "local": local.whole,
        "local_floor": floor.distance.whole,
        "local_ratio": floor.ratio(local),
        "inherited": inherited.whole,
        "floor": inherited_floor.distance.whole,
        "inherited_ratio": inherited_floor.ratio(inherited),
        "metrics": metrics,
        "distances": {"local": local._asdict(), "floor": floor.distance._asdict()},
    }
    _conclude(row, local_truth)
    with np.errstate(all="ignore"):
        shapes = {axis: profile(sums, getattr(floor, axis), axis) for axis in ("tokens", "channels")}
    return Measured(row, shapes, value, local_truth, floor, [run[0] for run in runs])


def largest_error(value, truth, tap: str, valid) -> float:
    """Return the largest absolute error of tokens that are no padding."""
    error = value - truth
    error = by_token(np.abs(error, out=error), tap)
    return float((error if valid.all() else error[:, valid]).max(initial=0))


def blank_row(tap: str, number: int, dtype: str) -> dict[str, Any]:
    """Return a row of the report before anything is measured."""
    numbers = dict.fromkeys(("local", "local_floor", "local_ratio", "inherited", "floor", "inherited_ratio"))
    known = tap_row(tap)
    head = {"tap": tap, "group": tap_group(tap), "layer": layer_of(tap), "pass": number, "dtype": dtype}
    tail = {"exact": bool(known and known.op in EXACT), "span": [], "metrics": {}, "nonfinite": None}
    return head | {"verdict": "match", "why": ""} | numbers | tail


def _conclude(row: dict[str, Any], truth) -> None:
    """Write the verdict of a tap into its row."""
    if row["nonfinite"]:
        inputs_finite = bool(np.isfinite(truth).all())
        row["verdict"] = "bug" if inputs_finite else "undetermined"
        where = row["nonfinite"]
        row["why"] = f"not finite at token {where['token']}" if inputs_finite else "its inputs are not finite"
    elif not np.isfinite(truth).all():
        row["verdict"], row["why"] = "undetermined", "its inputs are not finite"
    elif row["local_ratio"] > LIMIT:
        row["verdict"] = "bug"


def _measure_exact(row, world: World, tap: str, value, truth) -> Measured:
    """Compare integers: visibility as what each query sees, positions as they are."""
    if tap.endswith("attn.visible"):
        keys = max(value.shape[-1] if value.dtype == bool else 0, min(world.total, MOST_KEYS))
        origin = world.total - keys
        value, truth = (as_seen(x, keys, origin, world.total)[:, world.valid] for x in (value, truth))
    else:
        keys = min(value.shape[-1], truth.shape[-1])
        value, truth = value[:, value.shape[-1] - keys :], truth[:, truth.shape[-1] - keys :]
    wrong = value != truth
    share = float(wrong.mean()) if wrong.size else 0.0
    numbers = dict.fromkeys(("local", "inherited"), share) | dict.fromkeys(("local_floor", "floor"), 0.0)
    ratio = float("inf") if share else 0.0
    row |= numbers | {"local_ratio": ratio, "inherited_ratio": ratio, "verdict": "bug" if share else "match"}
    if share:
        token = int(np.argwhere(wrong)[0][1])
        token = int(np.flatnonzero(world.valid)[token]) if tap.endswith("attn.visible") else token
        row["why"] = f"{int(wrong.sum())} of {wrong.size} differ, first at token {token}"
    shapes = {"tokens": [], "channels": []}
    return Measured(row, shapes, value.astype(np.float64), truth.astype(np.float64), Floor())


MOST_KEYS = 4096  # for which visibility is compared key by key


def fit_tail(tap: str, computed: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Cut a computed value to the newest keys that a dump holds: rings keep fewer than all."""
    if tap.endswith(("attn.scores", "attn.probs")) and tap.startswith("text."):
        return computed[..., max(0, computed.shape[-1] - value.shape[-1]) :]
    if tap.endswith(("cache.k", "cache.v")):
        return computed[:, max(0, computed.shape[1] - value.shape[1]) :]
    return computed


def fitted(world: World, tap: str, value, *truths):
    """Bring a dump's value and its truths to the same keys, blank what is padding, and say which tokens count."""
    truths = [fit_tail(tap, truth, value) for truth in truths]
    valid = np.ones(max(1, truths[0].shape[1]), bool)
    if tap.startswith("vision."):
        tokens = value.shape[2] if tap.endswith(("attn.scores", "attn.probs")) else value.shape[0] * value.shape[1]
        if tap == "vision.pixels":
            tokens = value.size // value.shape[-1]
        return (value, *truths, np.ones(tokens, bool))
    if tap.endswith(("attn.scores", "attn.probs")):
        keys = truths[0].shape[-1]
        value = value[..., value.shape[-1] - keys :]
        seen = world.total - keys + np.arange(keys) >= world.first[0, 0]
        value, *truths = (x if seen.all() else np.where(seen, x, 0) for x in (value, *truths))
        return (value, *truths, world.valid)
    if tap.endswith(("cache.k", "cache.v")):
        keys = truths[0].shape[1]
        valid = world.total - keys + np.arange(keys) >= world.first[0, 0]
        return (value[:, value.shape[1] - keys :], *truths, valid)
    return (value, *truths, world.valid)


def first_nonfinite(value, truth, tap: str, valid) -> dict[str, Any] | None:
    """Find the first value that is NaN or infinite; padding does not count."""
    if np.isfinite(value).all():
        return None
    bad = ~np.isfinite(by_token(value, tap)) & valid[None, :, None]
    if not bad.any():
        return None
    token = int(np.flatnonzero(bad.any(axis=(0, 2)))[0])
    p, q = np.argwhere(bad[:, token])[0]
    there = float(by_token(np.ascontiguousarray(truth), tap)[p, token, q])
    return {"count": int(bad.sum()), "token": token, "channel": int(q if bad.shape[0] == 1 else p), "truth": there}
