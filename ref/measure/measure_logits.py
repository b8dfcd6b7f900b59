"""The logits: too many to hold in float64, so they are measured on some columns like any tap, on all in tiles."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial, reduce
from typing import TypeVar

import numpy as np

from ref.dump.align import values_of
from ref.emulate.graph import NARROW
from ref.emulate.one_pass import Unknown
from ref.measure.column_sums import factors_of, sums_of_columns, sums_of_rows
from ref.measure.distance import Sums, errors_of, metrics_of, sums_of
from ref.measure.distributions import Part, agreement, joined, least_that_count, part_of, truth_near
from ref.measure.floor import LIMIT, in_floors
from ref.measure.measure_ranks import measure_ranks
from ref.measure.measure_tap import Measured, conclude, first_nonfinite, largest_error, measure_tap
from ref.measure.parallel import side_by_side
from ref.measure.pass_runs import PassRuns
from ref.measure.scans import all_below
from ref.measure.tap_finding import FirstNonfinite
from ref.ops import KERNEL
from ref.untrusted import let_go

COLUMNS = 8_192  # of the vocabulary for which valid runs are made; a smaller one is taken whole
ROWS = 64  # tokens
TILE = 2_048  # columns whose truth is in memory at once, per thread
CLEAR = 0.75  # of the limit: sums tell how far a token is off to 2 %, and a single column to a quarter
Seen = TypeVar("Seen")


def some_columns(vocabulary: int) -> np.ndarray:
    """List the columns that stand for all: spread evenly, every one of a small vocabulary."""
    return np.unique(np.linspace(0, vocabulary - 1, min(vocabulary, COLUMNS)).astype(np.int64))


def narrowed(pass_runs: PassRuns, columns: np.ndarray) -> PassRuns:
    """Return the same runs with some columns of head and logits only; they share all other values."""
    stored = pass_runs.stored["text.logits"]
    part = stored._replace(read=lambda: _some_of(stored.read(), columns))
    return pass_runs.with_pass(pass_runs.one_pass.narrowed(columns), {"text.logits": part})


def _some_of(logits: np.ndarray, columns: np.ndarray | slice) -> np.ndarray:
    """Take columns of [1, T, V], some tokens at a time: the system maps far more of a file than is asked for."""
    parts = []
    for start in range(0, logits.shape[1], ROWS):
        parts.append(logits[:, start : start + ROWS, columns].copy())
        let_go(logits)
    return np.concatenate(parts, axis=1)


def measure_logits(pass_runs: PassRuns) -> Measured:
    """Measure logits: locally and as inherited on some columns, then all columns in sums, and if need be one by one.

    A column that is wrong is wrong in its sum. Where some columns match, and no sum is near the limit, all match; else
    every column is compared with its own truth, and error, ratio and metrics are those of all.

    Args:
        pass_runs: the pass; its dump has `text.logits`.

    Returns:
        Measured, whose finding has `kl`, `top1` and `top5` among its metrics, of all columns; `columns` there says how
        many its other metrics are of. Value and truth are of some columns.

    Source: README, "Judging your implementation"; KL and top-k as llama.cpp's perplexity tool reports them.
    """
    vocabulary = pass_runs.one_pass.text.embedding.shape[0]
    columns = some_columns(vocabulary)
    if len(columns) == vocabulary:
        found = measure_tap(pass_runs, "text.logits")
    else:
        found = measure_tap(narrowed(pass_runs, columns), "text.logits")
    if found.truth is None:
        return found
    of_some = found.finding
    near = of_some.verdict == "match" and (of_some.inherited_ratio or np.inf) <= LIMIT and len(columns) < vocabulary
    told, in_sums = _all_columns(pass_runs, near)
    if len(columns) < vocabulary:
        ratio = _with_tokens(found, in_sums)
        if ratio is not None and of_some.verdict == "match" and not of_some.why and ratio <= CLEAR * LIMIT:
            worst = int(columns[of_some.metrics["worst_channel"]])
            metrics = of_some.metrics | {"worst_channel": worst, "columns": len(columns)} | told
            return found._replace(finding=replace(of_some, metrics=metrics, local_ratio=ratio))
    if near:  # what looked like a match is none, or next to it
        told, _ = _all_columns(pass_runs)
    sums, metrics, nonfinite = _one_by_one(pass_runs)
    ratio, local = _with_tokens(found, sums), errors_of(sums).distance.whole
    metrics = of_some.metrics | metrics | {"columns": vocabulary} | told
    of_all = replace(of_some, metrics=metrics, local=local, local_ratio=ratio, nonfinite=nonfinite)
    return found._replace(finding=conclude(of_all, found.truth))


def _with_tokens(found: Measured, sums: Sums) -> float | None:
    """Return the ratio of some columns, or that of all where it is larger: a wrong column shows in its tokens."""
    ratio, local = found.finding.local_ratio, errors_of(sums).distance
    if found.floor and ratio is not None:
        for name in ("whole", "tokens", "worst_token"):
            ratio = max(ratio, in_floors(getattr(local, name), getattr(found.floor.distance, name)))
    return ratio


def measure(pass_runs: PassRuns, tap: str) -> Measured:
    """Measure a tap: logits by `measure_logits`, any other by `measure_tap`; then what each rank holds of it."""
    if tap != "text.logits":
        return measure_ranks(pass_runs, tap, measure_tap(pass_runs, tap))
    vocabulary = pass_runs.one_pass.text.embedding.shape[0]
    columns, found = some_columns(vocabulary), measure_logits(pass_runs)
    if len(columns) == vocabulary or not pass_runs.stored[tap].parts:
        return measure_ranks(pass_runs, tap, found)
    return measure_ranks(narrowed(pass_runs, columns), tap, found, columns)


def _tiles(
    pass_runs: PassRuns, look: Callable[[int, np.ndarray, np.ndarray], Seen], begin: int = 0, end: int | None = None
) -> list[Seen]:
    """Call a function with the first column, the dump's logits [1, T, C] and the head [C, D] of each tile."""
    stored, head = pass_runs.stored["text.logits"].read(), pass_runs.one_pass.head

    def tile(start: int) -> Seen:
        here = slice(start, start + TILE)
        weight = head.take_rows(here).astype(np.float32, copy=False)
        return look(start, values_of(_some_of(stored, here)), weight)

    return side_by_side(tile, range(begin, head.shape[0] if end is None else end, TILE))


def _inputs(pass_runs: PassRuns) -> tuple[np.ndarray, np.ndarray]:
    """Return the dump's own inputs of the head, and which tokens count: those that overflowed tell nothing."""
    local = pass_runs.local.value("text.final_norm")
    return local, pass_runs.one_pass.valid & np.isfinite(local[0]).all(axis=-1)


def _all_columns(pass_runs: PassRuns, near: bool = False) -> tuple[dict[str, float], Sums]:
    """Compare the distributions of all columns with those from the prompt, and sums of columns with the truth.

    The truth of sums is on the dump's own inputs.

    Args:
        pass_runs: the pass.
        near: whether the dump's logits are next to those from the prompt: then, behind a first quarter of the columns,
            only those are computed that are large enough to decide anything.
    """
    local, valid = _inputs(pass_runs)
    try:
        own = pass_runs.own.value("text.final_norm").astype(np.float32)
    except Unknown:  # there are images and no pixels
        own = np.full(local.shape, np.nan, np.float32)

    def look(least: np.ndarray | None, start: int, value: np.ndarray, weight: np.ndarray) -> tuple[Part, Sums]:
        factors = factors_of(start, value.shape[-1])
        truth = KERNEL.linear(local, sums_of_rows(weight, factors))
        sums = sums_of(sums_of_columns(value[0], factors)[None], truth, "text.logits", valid)
        shown = value[0].astype(np.float32, copy=False)
        whole = KERNEL.linear(own, weight)[0] if least is None else truth_near(own[0], weight, shown, least)
        return part_of(whole, shown, start), sums

    begin = pass_runs.one_pass.head.shape[0] // TILE // 4 * TILE if near else 0
    seen = _tiles(pass_runs, partial(look, None), 0, begin) if begin else []
    least = least_that_count(reduce(joined, [part for part, _ in seen])) if seen else None
    parts, sums = zip(*seen, *_tiles(pass_runs, partial(look, least), begin), strict=True)
    with np.errstate(all="ignore"):
        return agreement(reduce(joined, parts), valid), _joined(sums)


def _joined(parts: Sequence[Sums]) -> Sums:
    """Return the sums of several tiles as one."""
    tokens = np.sum([part.tokens for part in parts], axis=0)
    channels = np.concatenate([part.channels for part in parts])
    cross, square = sum(part.cross for part in parts), sum(part.square for part in parts)
    return Sums(tokens, channels, cross, square, sum(part.count for part in parts))


def _one_by_one(pass_runs: PassRuns) -> tuple[Sums, dict[str, float], FirstNonfinite | None]:
    """Compare each column with its truth on the dump's own inputs.

    Returns:
        (sums, metrics, the first value that is not finite).
    """
    dtype, tap = pass_runs.stored["text.logits"].dtype, "text.logits"
    local, valid = _inputs(pass_runs)

    def look(start: int, value: np.ndarray, weight: np.ndarray) -> tuple[Sums, float, FirstNonfinite | None]:
        truth = _true_logits(local, weight, dtype)
        sums, bad = sums_of(value, truth, tap, valid), first_nonfinite(value, truth, tap, valid)
        bad = bad and replace(bad, channel=bad.channel + start)
        return sums, largest_error(value, truth, tap, valid), bad

    parts, largest, bad = zip(*_tiles(pass_runs, look), strict=True)
    sums, bad = _joined(parts), [one for one in bad if one]
    first = min(bad, key=lambda one: (one.token, one.channel), default=None)
    first = first and replace(first, count=sum(one.count for one in bad))
    with np.errstate(all="ignore"):
        return sums, metrics_of(sums, float(np.max(largest)), dtype), first


def _true_logits(x: np.ndarray, weight: np.ndarray, stored: str) -> np.ndarray:
    """Return the truth of some columns; beside logits stored in 8 or 11 bits a float32 product is the truth as well.

    It errs by about 2^-22 of a logit, each of these by 2^-9 or 2^-12: distances change by a millionth of themselves.
    """
    if stored in NARROW:
        truth = KERNEL.linear(x.astype(np.float32), weight)
        if all_below(truth):
            return truth
    return KERNEL.linear(x, weight.astype(np.float64))
