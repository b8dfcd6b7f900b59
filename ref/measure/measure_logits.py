"""The logits: too many to hold in float64, so they are measured on some columns like any tap, and on all in tiles."""

from dataclasses import replace
from functools import reduce
from typing import NamedTuple

import numpy as np

from ref.dump.align import values_of
from ref.emulate.one_pass import Unknown
from ref.measure.distance import Sums, errors_of, metrics_of, sums_of
from ref.measure.floor import in_floors
from ref.measure.measure_tap import Measured, conclude, first_nonfinite, largest_error, measure_tap
from ref.measure.parallel import side_by_side
from ref.measure.pass_runs import PassRuns
from ref.measure.tap_finding import FirstNonfinite

COLUMNS = 8_192  # of the vocabulary for which valid runs are made; a smaller one is taken whole
TILE = 8_192
TOP = 5


def some_columns(vocabulary: int) -> np.ndarray:
    """List the columns that stand for all: spread evenly, every one of a small vocabulary."""
    return np.unique(np.linspace(0, vocabulary - 1, min(vocabulary, COLUMNS)).astype(np.int64))


def narrowed(pass_runs: PassRuns, columns: np.ndarray) -> PassRuns:
    """Return the same runs with some columns of head and logits only; they share all other values."""
    stored = pass_runs.stored["text.logits"]
    part = stored._replace(read=lambda: np.take(stored.read(), columns, axis=-1))
    return pass_runs.with_pass(pass_runs.one_pass.narrowed(columns), {"text.logits": part})


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

    def tile(start: int) -> tuple[Sums, float, FirstNonfinite | None, _Part]:
        weight = head.take_rows(slice(start, start + TILE)).T
        value = values_of(stored[..., start : start + TILE])
        truth = local @ weight.astype(np.float64)
        sums, bad = sums_of(value, truth, tap, valid), first_nonfinite(value, truth, tap, valid)
        bad = bad and replace(bad, channel=bad.channel + start)
        part = _part((own @ weight.astype(np.float32))[0], value[0].astype(np.float32, copy=False), start)
        return sums, largest_error(value, truth, tap, valid), bad, part

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
        return sums, metrics | _agreement(reduce(_joined, rows), valid), first


class _Part(NamedTuple):
    """Rows of the truth's logits and of the dump's, as far as some columns go."""

    most: np.ndarray  # [2, rows] the largest logit
    first: np.ndarray  # [2, rows] the lowest column that has it
    total: np.ndarray  # [2, rows] sum of exp(logit - most)
    cross: np.ndarray  # [rows] sum of exp(truth - most) times what the truth is above the dump
    values: np.ndarray  # [2, rows, TOP] the largest few
    ids: np.ndarray  # [2, rows, TOP] their columns


def _part(truth, value, start: int) -> _Part:
    """Reduce a tile whose first column is `start`."""
    found = []
    for logits in (value, truth):
        first = logits.argmax(-1)
        most = np.take_along_axis(logits, first[:, None], -1)
        weights = np.exp(logits - most)
        some = np.argpartition(logits, -min(TOP, logits.shape[-1]), axis=-1)[:, -TOP:]
        values = np.take_along_axis(logits, some, -1)
        found.append((most[:, 0], first + start, weights.sum(-1, dtype=np.float64), values, some + start))
    cross = np.einsum("tv,tv->t", weights, truth - value, dtype=np.float64)  # by the truth's weights, the last made
    most, first, total, values, ids = (np.stack(pair[::-1]) for pair in zip(*found, strict=True))
    return _Part(most, first, total, cross, values, ids)


def _joined(a: _Part, b: _Part) -> _Part:
    """Return both parts as one."""
    most = np.maximum(a.most, b.most)
    share = [np.where(part.most == -np.inf, 0, np.exp(part.most - most, dtype=np.float64)) for part in (a, b)]
    total = a.total * share[0] + b.total * share[1]
    cross = a.cross * share[0][0] + b.cross * share[1][0]
    values, ids = np.concatenate([a.values, b.values], -1), np.concatenate([a.ids, b.ids], -1)
    order = np.lexsort((ids, -values), axis=-1)[..., :TOP]
    values, ids = np.take_along_axis(values, order, -1), np.take_along_axis(ids, order, -1)
    return _Part(most, np.where(b.most > a.most, b.first, a.first), total, cross, values, ids)


def _agreement(part: _Part, valid) -> dict[str, float]:
    """Return the mean KL divergence in nats, and the shares of equal arg-max and top-5."""
    log_total = part.most + np.log(part.total)
    kl = part.cross / part.total[0] - log_total[0] + log_total[1]
    same = [len(set(a) & set(b)) / max(1, len(a)) for a, b in zip(*part.ids, strict=True)]
    mean = lambda x: float(np.mean(np.asarray(x)[valid])) if valid.any() else 0.0  # noqa: E731
    return {"kl": mean(kl), "top1": mean(part.first[0] == part.first[1]), "top5": mean(same)}
