"""One tap of one pass: its two errors, each in multiples of its noise floor, and the verdict."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ref.emulate.context import as_seen
from ref.emulate.graph import NARROW, Run
from ref.emulate.one_pass import OnePass, Unknown
from ref.measure.distance import Distance, Sums, by_token, errors_of, metrics_of, profile, sums_of
from ref.measure.floor import LIMIT, Floor, floor_of
from ref.measure.overflow import blanked, described, is_within, overflow_of, why_hidden
from ref.measure.parallel import side_by_side
from ref.measure.pass_runs import PassRuns
from ref.measure.scans import all_below, is_of_format, largest_difference
from ref.measure.tap_finding import FirstNonfinite, FiveDistances, TapFinding
from ref.model.taps import row_of


class Measured(NamedTuple):
    """What was found at one tap of one pass."""

    finding: TapFinding
    profile: dict[str, list[float]]
    value: np.ndarray | None
    truth: np.ndarray | None
    floor: Floor | None
    runs: tuple[np.ndarray, ...] | list[np.ndarray] = ()  # what valid runs have there, on the dump's own inputs


def undetermined(finding: TapFinding, why: str) -> Measured:
    """Return a tap that cannot be judged."""
    return Measured(replace(finding, verdict="undetermined", why=why), {}, None, None, None)


def measure_tap(pass_runs: PassRuns, tap: str) -> Measured:
    """Measure one tap of a dump, locally and as inherited, each in floors of its own.

    Args:
        pass_runs: the pass.
        tap: its name; the dump has it.

    Source: README, "Judging your implementation".
    Differs: others compare with one run from the prompt, so that one wrong layer blames all that follow.
    """
    blank = TapFinding(tap, pass_runs.number, pass_runs.stored[tap].dtype)
    local, own = pass_runs.truths(tap)
    if isinstance(local, Unknown):
        return undetermined(blank, str(local))
    truth, span = local
    blank = replace(blank, span=tuple(span))
    value = pass_runs.load(tap)
    if row_of(tap).integers:
        return _measure_exact(blank, pass_runs.one_pass, value, truth)
    from_prompt: Any = None if isinstance(own, Unknown) else own
    value, truth, *rest = fitted(pass_runs.one_pass, tap, value, truth, *([] if from_prompt is None else [from_prompt]))
    return _measure_floats(pass_runs, blank, value, truth, rest[0] if len(rest) > 1 else None, rest[-1])


def _measure_floats(pass_runs: PassRuns, blank: TapFinding, value, truth, own_truth, valid) -> Measured:
    """Measure a value with the runs that decide its floor, and where these do not settle it with all.

    A floor is the largest of the runs': with more of them it can only rise, and what matches still matches. Where they
    need not err alike, figures above half the limit are of all.
    """
    within = is_within(value, truth, blank.dtype)
    few = deciding(pass_runs, blank) if within else []
    if few:
        found = _measured_with(few, pass_runs, blank, value, truth, own_truth, valid, within)
        alike = all(run.arithmetic.stored in NARROW for run in few)
        if found.finding.verdict == "match" and (found.finding.local_ratio or 0.0) <= (LIMIT if alike else LIMIT / 2):
            return found
    return _measured_with(pass_runs.locals, pass_runs, blank, value, truth, own_truth, valid, within)


IN_CHAINS = frozenset({"linear", "rotate", "softmax", "mix", "geglu"})  # operations of which these runs err most
BELOW = frozenset({"rms_norm", "geglu"})  # where mistakes below the floor are looked for with all runs


def deciding(pass_runs: PassRuns, blank: TapFinding) -> list[Run]:
    """List the runs whose error decides the floor of a tap on the dump's own inputs; none where all may.

    Chains err most of all orders of a float32 sum, each about as much as the next, and the last orders have the worst
    of angles and weights. Where results are then rounded to 8 or 11 bits all orders err alike, and what differs is
    where a policy rounds.
    """
    op = row_of(blank.tap).op
    chains = [run for run in pass_runs.locals if run.arithmetic.in_chains]
    if blank.tap == "text.logits" or blank.span or not chains:
        return []
    if op == "linear":
        return chains[-1:]
    if not all(run.arithmetic.stored in NARROW for run in chains):
        return chains if op in IN_CHAINS else []
    return [] if op in BELOW else chains


def _measured_with(
    locals_: Sequence[Run], pass_runs: PassRuns, blank, value, truth, own_truth, valid, within: bool
) -> Measured:
    """Measure a value against the truth on its own inputs, and where it is known against that from the prompt.

    Args:
        within: whether `is_within` says so: then nothing overflows, and all is finite.
    """
    tap, beyond, why = blank.tap, None, ""
    with np.errstate(all="ignore"):
        runs = side_by_side(lambda run: fit_tail(tap, run.recompute(tap)[0], value), locals_)
        owns = (
            [] if own_truth is None else side_by_side(lambda run: fit_tail(tap, run.value(tap), value), pass_runs.owns)
        )
        over = None if within else overflow_of(value, truth, runs, blank.dtype)
        if over is not None:
            beyond = described(over, truth, tap, blank.dtype) if over.format.any() else None
            unjudged = int((by_token(over.inputs, tap).any(axis=(0, 2)) & valid).sum())
            why = why_hidden(beyond, unjudged, int(valid.sum()))
            if over.hidden.all():
                return undetermined(replace(blank, overflow=beyond), why if beyond else "its inputs are not finite")
            value, truth, *runs = blanked(over.hidden, value, truth, *runs)
            own_truth, *owns = [None] if own_truth is None else blanked(over.hidden, own_truth, *owns)
        sums = sums_of(value, truth, tap, valid)
        local = _compared(sums, truth, runs, blank, valid)
        numbers: dict[str, Any] = {"local": local.distance.whole, "local_floor": local.floor.distance.whole}
        numbers["local_ratio"] = local.ratio
        if own_truth is not None:
            own = _from_prompt(pass_runs, value, own_truth, owns, blank, valid)
            numbers |= {
                "inherited": own.distance.whole,
                "floor": own.floor.distance.whole,
                "inherited_ratio": own.ratio,
            }
        finding = replace(
            blank,
            **numbers,
            why=why,
            overflow=beyond,
            nonfinite=None if within else first_nonfinite(value, truth, tap, valid),
            distances=FiveDistances(local.distance, local.floor.distance),
            metrics=metrics_of(sums, largest_error(value, truth, tap, valid), blank.dtype),
        )
        shapes = {axis: profile(sums, getattr(local.floor, axis), axis) for axis in ("tokens", "channels")}
        shapes["sizes"] = [float(len(sums.tokens)), float(len(sums.channels))]  # of what the profiles are bins
    return Measured(conclude(finding, None if within else truth), shapes, value, truth, local.floor, runs)


class _Compared(NamedTuple):
    """An error beside its floor."""

    distance: Distance  # of the error
    ratio: float
    floor: Floor


def _compared(sums: Sums, truth, runs, blank: TapFinding, valid) -> _Compared:
    """Measure an error against the errors of valid runs."""
    errors = side_by_side(lambda run: errors_of(sums_of(run, truth, blank.tap, valid)), runs)
    as_stored = any(is_of_format(run, blank.dtype) for run in runs)
    floor, distance = floor_of(errors, truth, blank.dtype, blank.tap, valid, as_stored), errors_of(sums).distance
    return _Compared(distance, floor.ratio(distance), floor)


def _from_prompt(pass_runs: PassRuns, value, own_truth, owns, blank: TapFinding, valid) -> _Compared:
    """Measure what has gathered, beside few runs where these settle it, else beside all that are made.

    A floor is the largest of the runs': with more it can only rise, and what is within the limit stays there.
    """
    sums = sums_of(value, own_truth, blank.tap, valid)
    beside_few = _compared(sums, own_truth, pass_runs.of_few(owns), blank, valid)
    if beside_few.ratio <= LIMIT or len(pass_runs.few) == len(owns):
        return beside_few
    return _compared(sums, own_truth, owns, blank, valid)


def largest_error(value: np.ndarray, truth: np.ndarray, tap: str, valid: np.ndarray) -> float:
    """Return the largest absolute error of tokens that are no padding."""
    return largest_difference(by_token(value, tap), by_token(truth, tap), valid)


def conclude(finding: TapFinding, truth: np.ndarray | None) -> TapFinding:
    """Return a finding with the verdict that its numbers give; a truth of which it is not known yet must be finite."""
    if truth is not None and not all_below(truth):
        return replace(finding, verdict="undetermined", why="its inputs are not finite")
    if finding.nonfinite:
        return replace(finding, verdict="bug", why=f"not finite at token {finding.nonfinite.token}")
    if finding.local_ratio is not None and finding.local_ratio > LIMIT:
        return replace(finding, verdict="bug")
    return finding


def _measure_exact(blank: TapFinding, one_pass: OnePass, value, truth) -> Measured:
    """Compare integers: visibility as what each query sees, positions as they are."""
    visibility = row_of(blank.tap).is_visibility
    if visibility:
        keys = max(value.shape[-1] if value.dtype == bool else 0, min(one_pass.total, MOST_KEYS))
        origin = one_pass.total - keys
        value, truth = (as_seen(x, keys, origin, one_pass.total)[:, one_pass.valid] for x in (value, truth))
    else:
        keys = min(value.shape[-1], truth.shape[-1])
        value, truth = value[:, value.shape[-1] - keys :], truth[:, truth.shape[-1] - keys :]
    wrong, why = value != truth, ""
    share = float(wrong.mean()) if wrong.size else 0.0
    if share:
        token = int(np.argwhere(wrong)[0][1])
        token = int(np.flatnonzero(one_pass.valid)[token]) if visibility else token
        why = f"{int(wrong.sum())} of {wrong.size} differ, first at token {token}"
    numbers: dict[str, Any] = dict.fromkeys(("local", "inherited"), share)
    numbers |= dict.fromkeys(("local_floor", "floor"), 0.0)
    numbers |= dict.fromkeys(("local_ratio", "inherited_ratio"), float("inf") if share else 0.0)
    finding = replace(blank, **numbers, verdict="bug" if share else "match", why=why)
    shapes = {"tokens": [], "channels": []}
    return Measured(finding, shapes, value.astype(np.float64), truth.astype(np.float64), Floor())


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


def first_nonfinite(value: np.ndarray, truth: np.ndarray, tap: str, valid: np.ndarray) -> FirstNonfinite | None:
    """Find the first value that is NaN or infinite; padding does not count."""
    if all_below(value):
        return None
    bad = ~np.isfinite(by_token(value, tap)) & valid[None, :, None]
    if not bad.any():
        return None
    token = int(np.flatnonzero(bad.any(axis=(0, 2)))[0])
    p, q = np.argwhere(bad[:, token])[0]
    there = float(by_token(np.ascontiguousarray(truth), tap)[p, token, q])
    return FirstNonfinite(int(bad.sum()), token, int(q if bad.shape[0] == 1 else p), there)
