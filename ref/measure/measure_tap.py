"""One tap of one pass: its two errors, each in multiples of its noise floor, and the verdict."""

from typing import Any, NamedTuple

import numpy as np

from ref.emulate.context import as_seen
from ref.emulate.one_pass import OnePass, Unknown
from ref.measure.distance import by_token, errors_of, metrics_of, profile, sums_of
from ref.measure.floor import LIMIT, Floor, floor_of
from ref.measure.overflow import blanked, described, overflow_of, why_hidden
from ref.measure.parallel import side_by_side
from ref.measure.pass_runs import PassRuns
from ref.model.taps import layer_of, row_of, tap_group


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


def measure_tap(pass_runs: PassRuns, tap: str) -> Measured:
    """Measure one tap of a dump, locally and as inherited, each in floors of its own.

    Args:
        pass_runs: the pass.
        tap: its name; the dump has it.

    Source: README, "Judging your implementation".
    Differs: others compare with one run from the prompt, so that one wrong layer blames all that follow.
    """
    row = blank_row(tap, pass_runs.number, pass_runs.stored[tap].dtype)
    local, own = side_by_side(lambda make: _known(make, tap), [pass_runs.local.recompute, pass_runs.own.value])
    if isinstance(local, Unknown):
        return Measured(row | {"verdict": "undetermined", "why": str(local)}, {}, None, None, None)
    truth, row["span"] = local
    value = pass_runs.load(tap)
    if row_of(tap).integers:
        return _measure_exact(row, pass_runs.one_pass, tap, value, truth)
    from_prompt: Any = None if isinstance(own, Unknown) else own
    value, truth, *rest = fitted(pass_runs.one_pass, tap, value, truth, *([] if from_prompt is None else [from_prompt]))
    return _measure_floats(pass_runs, row, value, truth, rest[0] if len(rest) > 1 else None, rest[-1])


def _known(make, tap: str):
    """Compute a value, or return why it is not known: of a dump without pixels what follows from the prompt."""
    try:
        return make(tap)
    except Unknown as error:
        return error


def _measure_floats(pass_runs: PassRuns, row: dict[str, Any], value, truth, own_truth, valid) -> Measured:
    """Measure a value against the truth on its own inputs, and where it is known against that from the prompt."""
    tap, dtype = row["tap"], row["dtype"]
    with np.errstate(all="ignore"):
        runs = side_by_side(lambda run: fit_tail(tap, run.recompute(tap)[0], value), pass_runs.locals)
        owns = (
            [] if own_truth is None else side_by_side(lambda run: fit_tail(tap, run.value(tap), value), pass_runs.owns)
        )
        over = overflow_of(value, truth, runs, dtype)
        if over is not None:
            row["overflow"] = described(over, truth, tap, dtype) if over.format.any() else None
            unjudged = int((by_token(over.inputs, tap).any(axis=(0, 2)) & valid).sum())
            row["why"] = why_hidden(row, unjudged, int(valid.sum()))
            if over.hidden.all():
                why = row["why"] if row["overflow"] else "its inputs are not finite"
                return Measured(row | {"verdict": "undetermined", "why": why}, {}, None, None, None)
            value, truth, *runs = blanked(over.hidden, value, truth, *runs)
            own_truth, *owns = [None] if own_truth is None else blanked(over.hidden, own_truth, *owns)
        row["nonfinite"] = first_nonfinite(value, truth, tap, valid)
        sums = sums_of(value, truth, tap, valid)
        floor = _into(row, "local", ("local_floor", "local_ratio"), sums, truth, runs, valid)
        row["distances"] = {"local": errors_of(sums).distance._asdict(), "floor": floor.distance._asdict()}
        row["metrics"] = metrics_of(sums, largest_error(value, truth, tap, valid), dtype)
        if own_truth is not None:
            names = ("floor", "inherited_ratio")
            _into(row, "inherited", names, sums_of(value, own_truth, tap, valid), own_truth, owns, valid)
        _conclude(row, truth)
        shapes = {axis: profile(sums, getattr(floor, axis), axis) for axis in ("tokens", "channels")}
        shapes["sizes"] = [float(len(sums.tokens)), float(len(sums.channels))]  # of what the profiles are bins
    return Measured(row, shapes, value, truth, floor, runs)


def _into(row: dict[str, Any], error: str, names: tuple[str, str], sums, truth, runs, valid) -> Floor:
    """Write an error, its floor and their ratio into a row, and return the floor."""
    tap = row["tap"]
    errors = side_by_side(lambda run: errors_of(sums_of(run, truth, tap, valid)), runs)
    floor, distance = floor_of(errors, truth, row["dtype"], tap, valid), errors_of(sums).distance
    row |= {error: distance.whole, names[0]: floor.distance.whole, names[1]: floor.ratio(distance)}
    return floor


def largest_error(value: np.ndarray, truth: np.ndarray, tap: str, valid: np.ndarray) -> float:
    """Return the largest absolute error of tokens that are no padding."""
    error = value - truth
    error = by_token(np.abs(error, out=error), tap)
    return float((error if valid.all() else error[:, valid]).max(initial=0))


def blank_row(tap: str, number: int, dtype: str) -> dict[str, Any]:
    """Return a row of the report before anything is measured."""
    numbers = dict.fromkeys(("local", "local_floor", "local_ratio", "inherited", "floor", "inherited_ratio"))
    head = {"tap": tap, "group": tap_group(tap), "layer": layer_of(tap), "pass": number, "dtype": dtype}
    tail = {"exact": row_of(tap).exact, "span": [], "metrics": {}, "nonfinite": None, "overflow": None}
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


def _measure_exact(row, one_pass: OnePass, tap: str, value, truth) -> Measured:
    """Compare integers: visibility as what each query sees, positions as they are."""
    visibility = row_of(tap).is_visibility
    if visibility:
        keys = max(value.shape[-1] if value.dtype == bool else 0, min(one_pass.total, MOST_KEYS))
        origin = one_pass.total - keys
        value, truth = (as_seen(x, keys, origin, one_pass.total)[:, one_pass.valid] for x in (value, truth))
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
        token = int(np.flatnonzero(one_pass.valid)[token]) if visibility else token
        row["why"] = f"{int(wrong.sum())} of {wrong.size} differ, first at token {token}"
    shapes = {"tokens": [], "channels": []}
    return Measured(row, shapes, value.astype(np.float64), truth.astype(np.float64), Floor())


MOST_KEYS = 4096  # for which visibility is compared key by key


def fit_tail(tap: str, computed: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Cut a computed value to the newest keys that a dump holds: rings keep fewer than all."""
    axis = row_of(tap).key_axis
    if axis is None:
        return computed
    newest = slice(max(0, computed.shape[axis] - value.shape[axis]), None)
    return computed[(*[slice(None)] * axis, newest)]


def fitted(one_pass: OnePass, tap: str, value: np.ndarray, *truths: np.ndarray) -> tuple[np.ndarray, ...]:
    """Bring a dump's value and its truths to the same keys, blank what is padding, and say which tokens count."""
    row, truths = row_of(tap), tuple(fit_tail(tap, truth, value) for truth in truths)
    valid = np.ones(max(1, truths[0].shape[1]), bool)
    if tap.startswith("vision."):
        tokens = value.shape[2] if row.is_pairwise else value.shape[0] * value.shape[1]
        if tap == "vision.pixels":
            tokens = value.size // value.shape[-1]
        return (value, *truths, np.ones(tokens, bool))
    if row.is_pairwise:
        keys = truths[0].shape[-1]
        value = value[..., value.shape[-1] - keys :]
        seen = one_pass.total - keys + np.arange(keys) >= one_pass.first[0, 0]
        blanked = (x if seen.all() else np.where(seen, x, 0) for x in (value, *truths))
        return (*blanked, one_pass.valid)
    if row.is_ring:
        keys = truths[0].shape[1]
        valid = one_pass.total - keys + np.arange(keys) >= one_pass.first[0, 0]
        return (value[:, value.shape[1] - keys :], *truths, valid)
    return (value, *truths, one_pass.valid)


def first_nonfinite(value: np.ndarray, truth: np.ndarray, tap: str, valid: np.ndarray) -> dict[str, Any] | None:
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
