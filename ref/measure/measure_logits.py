"""The logits: too many to hold in float64, so they are measured on some columns like any tap, and on all in tiles."""

from dataclasses import replace
from functools import reduce

import numpy as np

from ref.dump.align import values_of
from ref.emulate.graph import NARROW
from ref.emulate.one_pass import Unknown
from ref.measure.distance import Sums, errors_of, metrics_of, sums_of
from ref.measure.distributions import Part, agreement, joined, part_of
from ref.measure.floor import in_floors
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
    """Measure logits: locally and as inherited on some columns, then all columns tile by tile.

    Args:
        pass_runs: the pass; its dump has `text.logits`.

    Returns:
        Measured, whose finding has `kl`, `top1` and `top5` among its metrics; value and truth are of the columns.

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
    sums, metrics, nonfinite = _all_columns(pass_runs)
    local = errors_of(sums).distance
    of_some = found.finding
    ratio = of_some.local_ratio
    if found.floor and ratio is not None:
        # columns beyond those measured before: a wrong one shows in its tokens
        for name in ("whole", "tokens", "worst_token"):
            ratio = max(ratio, in_floors(getattr(local, name), getattr(found.floor.distance, name)))
    of_all = replace(
        of_some, metrics=of_some.metrics | metrics, local=local.whole, local_ratio=ratio, nonfinite=nonfinite
    )
    return found._replace(finding=conclude(of_all, found.truth))


def measure(pass_runs: PassRuns, tap: str) -> Measured:
    """Measure a tap: logits by `measure_logits`, any other by `measure_tap`."""
    return measure_logits(pass_runs) if tap == "text.logits" else measure_tap(pass_runs, tap)


def _all_columns(pass_runs: PassRuns) -> tuple[Sums, dict[str, float], FirstNonfinite | None]:
    """Compare all columns with the truth on the dump's own inputs, and distributions with those from the prompt.

    Returns:
        (sums, metrics, the first value that is not finite).
    """
    stored, tap = pass_runs.stored["text.logits"].read(), "text.logits"
    local, head = pass_runs.local.value("text.final_norm"), pass_runs.one_pass.head
    valid = pass_runs.one_pass.valid & np.isfinite(local[0]).all(axis=-1)  # tokens that overflowed tell nothing
    try:
        own = pass_runs.own.value("text.final_norm").astype(np.float32)
    except Unknown:  # there are images and no pixels
        own = np.full(local.shape, np.nan, np.float32)

    def tile(start: int) -> tuple[Sums, float, FirstNonfinite | None, Part]:
        weight = head.take_rows(slice(start, start + TILE)).astype(np.float32, copy=False)
        value = values_of(_some_of(stored, slice(start, start + TILE)))
        truth = _true_logits(local, weight, pass_runs.stored[tap].dtype)
        sums, bad = sums_of(value, truth, tap, valid), first_nonfinite(value, truth, tap, valid)
        bad = bad and replace(bad, channel=bad.channel + start)
        largest = largest_error(value, truth, tap, valid)
        part = part_of(KERNEL.linear(own, weight)[0], value[0].astype(np.float32, copy=False), start)
        return sums, largest, bad, part

    tiles = side_by_side(tile, range(0, head.shape[0], TILE))
    parts, largest, bad, rows = zip(*tiles, strict=True)
    tokens = np.sum([part.tokens for part in parts], axis=0)
    channels = np.concatenate([part.channels for part in parts])
    cross, square = sum(part.cross for part in parts), sum(part.square for part in parts)
    sums = Sums(tokens, channels, cross, square, sum(part.count for part in parts))
    bad = [one for one in bad if one]
    first = min(bad, key=lambda one: (one.token, one.channel), default=None)
    first = first and replace(first, count=sum(one.count for one in bad))
    with np.errstate(all="ignore"):
        metrics = metrics_of(sums, float(np.max(largest)), pass_runs.stored[tap].dtype)
        return sums, metrics | agreement(reduce(joined, rows), valid), first


def _true_logits(x: np.ndarray, weight: np.ndarray, stored: str) -> np.ndarray:
    """Return the truth of some columns; beside logits stored in 8 or 11 bits a float32 product is the truth as well.

    It errs by about 2^-22 of a logit, each of these by 2^-9 or 2^-12: distances change by a millionth of themselves.
    """
    if stored in NARROW:
        truth = KERNEL.linear(x.astype(np.float32), weight)
        if all_below(truth):
            return truth
    return KERNEL.linear(x, weight.astype(np.float64))
