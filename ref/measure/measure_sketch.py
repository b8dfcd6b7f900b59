"""Taps of which a sketch is kept: what has gathered from the prompt on, at the places and in the norms that are known.

A sketch says nothing of an operation's inputs as a whole, so that no operation can be run on them: there is no local
error. Nor is there one of a whole tap that is made from a sketched one.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ref.dump.sketched import SketchedTap, SketchedValues
from ref.emulate.context import as_seen
from ref.emulate.one_pass import Unknown
from ref.measure.distance import Sums, errors_of, metrics_of, profile, sums_of
from ref.measure.floor import DRIFT, LIMIT, WORST, Floor, floor_of, in_floors
from ref.measure.measure_logits import COLUMNS
from ref.measure.measure_tap import Measured, undetermined
from ref.measure.overflow import LARGEST
from ref.measure.parallel import side_by_side
from ref.measure.pass_runs import PassRuns
from ref.measure.tap_finding import FirstNonfinite, TapFinding
from ref.model.taps import inputs_of, layer_of, row_of

NORMS = 4  # tokens from which norms tell: each is one number, on which six runs agree by chance
ROUNDED = 2.0**-25  # of a norm, which is kept as float32


class _Seen(NamedTuple):
    """A sketch beside the runs from the prompt: all are looked at in the same places."""

    value: np.ndarray  # [1, T, k] float64; 0 at padding
    at: Callable[[np.ndarray], np.ndarray]  # brings a run's tap there
    norms: np.ndarray | None  # [n] of those tokens that count
    norms_of: Callable[[np.ndarray], np.ndarray]  # the same of a run's tap


def measure_sketch(pass_runs: PassRuns, tap: str) -> Measured:
    """Measure what a tap has inherited, in floors of the same places; and its tokens' norms in floors of theirs.

    Args:
        pass_runs: the pass; its `partial` has a sketch of the tap.
        tap: its name.

    Source: docs/small-dumps.md.
    Differs: people compare sums and first values of tensors by eye.
    """
    shown: SketchedTap = pass_runs.partial[tap]
    blank = TapFinding(tap, pass_runs.number, shown.dtype, sha256=shown.sha256)
    kept = shown.read()
    runs, kept = _some_columns(pass_runs, tap, kept)
    try:
        truth = runs.own.value(tap)
        owns = side_by_side(lambda run: run.value(tap), runs.owns)
    except Unknown as error:
        return undetermined(blank, str(error))
    if row_of(tap).integers:
        return _exact(pass_runs, blank, kept, truth)
    bad = _nonfinite(pass_runs, shown, kept, truth, tap)
    few, seen = runs.of_few(owns), _seen(pass_runs, tap, kept, truth.shape)
    if bad and _is_beyond(shown.dtype, truth, few):
        return undetermined(blank, f"values beyond {shown.dtype}, or made of such: the format's fault")
    found = _compared(blank, seen, truth, few)
    if (found.finding.inherited_ratio or 0.0) > LIMIT and len(few) < len(owns):  # few runs do not settle it
        found = _compared(blank, seen, truth, owns)
    if bad:
        wrong = replace(found.finding, verdict="bug", nonfinite=bad, why=f"not finite at token {bad.token}")
        return found._replace(finding=wrong)
    return found


def inherited_alone(pass_runs: PassRuns, found: Measured) -> Measured:
    """Return what was found at a whole tap, without its local error where what it is made from is a sketch.

    Args:
        pass_runs: the pass.
        found: from `measure`.
    """
    one = found.finding
    if row_of(one.tap).integers or _inputs(pass_runs, one.tap) <= pass_runs.stored.keys():
        return found
    if not any(isinstance(other, SketchedTap) for other in pass_runs.partial.values()):
        return found
    bare = replace(one, local=None, local_floor=None, local_ratio=None, distances=None, span=(), metrics={})
    if one.verdict == "undetermined" or one.nonfinite:
        return Measured(bare, found.profile, None, None, None)
    wrong = (one.inherited_ratio or 0.0) > DRIFT
    return Measured(replace(bare, verdict="bug" if wrong else "match"), {}, None, None, None)


def _inputs(pass_runs: PassRuns, tap: str) -> set[str]:
    """Return what a tap is made from; at the ends of a stage the registry says it in words, which no dump has."""
    more = set()
    if pass_runs.one_pass.cached and tap.endswith((".attn.scores", ".attn.mix")):
        more = {f"text.layer.{layer_of(tap)}.cache.{one}" for one in "kv"}
    return inputs_of(tap) | more


def _some_columns(pass_runs: PassRuns, tap: str, kept: SketchedValues) -> tuple[PassRuns, SketchedValues]:
    """Return runs that make those columns of the logits alone that are looked at; the norms are of all of them."""
    if tap != "text.logits" or kept.shape[-1] <= COLUMNS:
        return pass_runs, kept
    columns, last = np.unique(kept.places[-1], return_inverse=True)
    places = (*kept.places[:-1], last.reshape(kept.places[-1].shape))
    shape = (*kept.shape[:-1], len(columns))
    narrow = pass_runs.with_pass(pass_runs.one_pass.narrowed(columns), {})
    return narrow, kept._replace(places=places, shape=shape, norms=None)


def _seen(pass_runs: PassRuns, tap: str, kept: SketchedValues, shape: tuple[int, ...]) -> _Seen:
    """Find the places of a sketch in a run's tap, which may have fewer keys, or more."""
    one_pass, row = pass_runs.one_pass, row_of(tap)
    index, real, text = list(kept.places), kept.real, not tap.startswith("vision.")
    counts, by_token = np.ones(shape[kept.axis], bool), kept.axis == row.token_axis
    if text and row.key_axis is not None:
        key = index[row.key_axis] + shape[row.key_axis] - kept.shape[row.key_axis]
        first = one_pass.first[0, 0] - (one_pass.total - shape[row.key_axis])  # key that is no left pad
        real, index[row.key_axis] = real & (key >= max(0, first)), np.maximum(key, 0)
        counts = np.arange(shape[kept.axis]) >= first if row.is_ring and by_token else counts
    if text and not row.is_ring:
        real = real & one_pass.valid[index[row.token_axis]]
        counts = one_pass.valid if by_token else counts
    mixed = text and bool(one_pass.first[0, 0]) and (row.is_pairwise or not by_token)  # with padding
    told = kept.norms is not None and shape == kept.shape and not mixed

    def norms_of(value: np.ndarray) -> np.ndarray:
        rows = np.moveaxis(value, kept.axis, 0)[counts]
        return np.sqrt(np.square(rows, dtype=np.float64).reshape(len(rows), -1).sum(1))

    def at(value: np.ndarray) -> np.ndarray:
        return np.where(real, value[tuple(index)], 0)[None].astype(np.float64)

    value = np.where(real, kept.values, 0)[None].astype(np.float64)
    norms = kept.norms[counts] if told and kept.norms is not None and counts.sum() >= NORMS else None
    return _Seen(value, at, norms, norms_of)


def _compared(blank: TapFinding, seen: _Seen, truth: np.ndarray, owns: Sequence[np.ndarray]) -> Measured:
    """Measure values and norms in floors of the valid runs; the larger counts."""
    with np.errstate(all="ignore"):
        there, every = seen.at(truth), np.ones(seen.value.shape[1], bool)
        runs = [errors_of(sums_of(seen.at(run), there, "", every)) for run in owns]
        floor, sums = floor_of(runs, there, blank.dtype, "", every), sums_of(seen.value, there, "", every)
        distance = errors_of(sums).distance
        ratio, norms = floor.ratio(distance), _norm_ratio(seen, truth, owns)
        largest = float(np.max(np.abs(seen.value - there), initial=0.0))
    known = ("max_abs", "cosine", "slope", "worst_token")
    metrics = {key: value for key, value in metrics_of(sums, largest, blank.dtype).items() if key in known}
    most = max(ratio, norms)
    finding = replace(
        blank,
        inherited=distance.whole,
        floor=floor.distance.whole,
        inherited_ratio=most,
        metrics=metrics,
        verdict="match" if most <= DRIFT else "bug",
    )
    return Measured(finding, _shapes(sums, floor), None, None, None)


def _norm_ratio(seen: _Seen, truth: np.ndarray, owns: Sequence[np.ndarray]) -> float:
    """Return how far norms are off: root mean square and largest relative error, in floors; 0 where none are known.

        error = | |y_t| / |truth_t| - 1 |

    A factor that all values of a token share is smaller than the noise of each, and shows here.
    """
    if seen.norms is None:
        return 0.0
    right = seen.norms_of(truth)
    there = right > 0
    one, *runs = (np.abs(norms[there] / right[there] - 1) for norms in (seen.norms, *map(seen.norms_of, owns)))
    runs = [run for run in runs if np.isfinite(run).all()]
    if not one.size:
        return 0.0
    rms = lambda x: float(np.sqrt(np.mean(x * x)))  # noqa: E731
    floors = (max([ROUNDED, *map(rms, runs)]), max([ROUNDED, *(float(run.max()) for run in runs)]))
    return max(in_floors(rms(one), floors[0]), in_floors(float(one.max()), floors[1]) * WORST)


def _shapes(sums: Sums, floor: Floor) -> dict[str, list[float]]:
    tokens = profile(sums, floor.tokens, "tokens")
    return {"tokens": tokens, "channels": [], "sizes": [float(len(sums.tokens)), 0.0]} if len(tokens) > 1 else {}


def _exact(pass_runs: PassRuns, blank: TapFinding, kept: SketchedValues, truth: np.ndarray) -> Measured:
    """Compare integers and booleans at the places that are known."""
    if kept.values.dtype == bool and truth.dtype != bool:
        keys, total = kept.shape[-1], pass_runs.one_pass.total
        truth = as_seen(truth, keys, total - keys, total)
    seen = _seen(pass_runs, blank.tap, kept, truth.shape)
    wrong = seen.value != seen.at(truth)
    share = float(wrong.mean())
    why = f"{int(wrong.sum())} of {wrong.size} places differ" if share else ""
    ratio = float("inf") if share else 0.0
    verdict = "bug" if share else "match"
    found = replace(blank, inherited=share, floor=0.0, inherited_ratio=ratio, verdict=verdict, why=why)
    return Measured(found, {}, None, None, None)


def _nonfinite(
    pass_runs: PassRuns, shown: SketchedTap, kept: SketchedValues, truth: np.ndarray, tap: str
) -> FirstNonfinite | None:
    """Return the first value that is not finite; padding does not count."""
    if kept.first is None:
        return None
    axis = row_of(tap).token_axis
    token, valid = kept.first[axis], pass_runs.one_pass.valid
    place = list(kept.first)
    if not tap.startswith("vision.") and not row_of(tap).is_ring and not valid[token]:
        bad = (
            ~np.isfinite(kept.norms) & valid if kept.norms is not None and len(kept.norms) == len(valid) else valid[:0]
        )
        if not bad.any():
            return None
        token, place = int(bad.argmax()), [0] * len(place)  # nobody says which channel it is
    place[axis] = token
    right = float(truth[tuple(place)]) if all(one < size for one, size in zip(place, truth.shape, strict=True)) else 0.0
    return FirstNonfinite(shown.nonfinite, token, place[-1] if axis == 1 else place[1], right)


def _is_beyond(dtype: str, truth: np.ndarray, owns: Sequence[np.ndarray]) -> bool:
    """Tell whether a format cannot hold the truth, or valid runs are not finite either."""
    return bool(np.abs(truth).max() > LARGEST.get(dtype, np.inf)) or not all(np.isfinite(run).all() for run in owns)
