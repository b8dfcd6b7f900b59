"""The logits: too many to hold in float64, so they are measured on some columns like any tap, and on all in tiles."""

from typing import Any

import numpy as np

from ref.verify.at_tap import Measured, measure_tap
from ref.verify.bench import Bench
from ref.verify.measure import Sums, distance_of, sums_of
from ref.verify.world import Table

COLUMNS = 16_384  # of the vocabulary for which valid runs are made; a smaller one is taken whole
TILE = 8_192
TOP = 5


def some_columns(vocabulary: int) -> np.ndarray:
    """List the columns that stand for all: spread evenly, every one of a small vocabulary."""
    return np.unique(np.linspace(0, vocabulary - 1, min(vocabulary, COLUMNS)).astype(np.int64))


def narrowed(bench: Bench, columns: np.ndarray) -> Bench:
    """Return a bench whose head has some columns only, and its dump's logits too. Its runs share all other values."""
    world, table = bench.world, bench.world.table
    values = table.take_rows(columns)
    held = Table(values.shape, lambda rows: values[rows])
    held.kind = table.kind
    text = world.text._replace(embedding=held)
    stored = bench.stored["text.logits"]
    part = stored._replace(load=lambda: np.ascontiguousarray(stored.load()[..., columns]))
    other = bench.with_world(world._replace(text=text, held="file"), {"text.logits": part})
    return other


def measure_logits(bench: Bench) -> Measured:
    """Measure logits: locally and as inherited on some columns, then all columns tile by tile.

    Args:
        bench: the pass; its dump has `text.logits`.

    Returns:
        Measured, whose row has `kl`, `top1` and `top5` among its metrics; value and truth are of the columns.

    Source: README, "Judging your implementation"; KL and top-k as llama.cpp's perplexity tool reports them.
    Differs: no known.
    """
    vocabulary = bench.world.text.embedding.shape[0]
    columns = some_columns(vocabulary)
    if len(columns) == vocabulary:
        found = measure_tap(bench, "text.logits")
    else:
        found = measure_tap(narrowed(bench, columns), "text.logits")
    if found.truth is None:
        return found
    sums, agreement = _all_columns(bench)
    local = distance_of(sums)
    found.row["metrics"] |= agreement
    found.row["local"] = local.whole
    if found.floor and not found.row["nonfinite"]:
        # columns beyond those measured before: a wrong one shows in its tokens
        for name in ("whole", "tokens", "worst_token"):
            floor = getattr(found.floor.distance, name)
            ratio = getattr(local, name) / floor if floor else 0.0
            found.row["local_ratio"] = max(found.row["local_ratio"], float(ratio))
    found.conclude()
    return found


def _all_columns(bench: Bench) -> tuple[Sums, dict[str, float]]:
    """Compare all columns with the truth on the dump's own inputs, and distributions with those from the prompt."""
    stored = bench.stored["text.logits"].load()
    valid, table = bench.world.valid, bench.world.table
    own, local = bench.own.value("text.final_norm"), bench.local.value("text.final_norm")
    own, truths = own.astype(np.float32), _Softmax(own.shape[1])
    parts: list[Sums] = []
    for start in range(0, table.shape[0], TILE):
        weight = table.take_rows(slice(start, start + TILE))
        value = stored[..., start : start + TILE]
        value = value.astype(np.float32) if value.dtype == np.float16 else value
        truth = local @ weight.T.astype(np.float64)
        parts.append(sums_of(value, truth, "text.logits", valid))
        truths.add((own @ weight.T.astype(np.float32))[0], value[0].astype(np.float32), start)
    tokens = np.sum([part.tokens for part in parts], axis=0)
    channels = np.concatenate([part.channels for part in parts])
    cross, square = sum(part.cross for part in parts), sum(part.square for part in parts)
    sums = Sums(tokens, channels, cross, square, sum(part.count for part in parts))
    return sums, truths.agreement(valid)


class _Softmax:
    """KL divergence and largest logits of two sets of rows, from tiles of columns."""

    def __init__(self, rows: int):
        self.most = np.full((2, rows), -np.inf)
        self.total, self.cross = np.zeros((2, rows)), np.zeros(rows)
        self.top: Any = [(np.zeros((rows, 0)), np.zeros((rows, 0), np.int64))] * 2

    def add(self, truth, value, start: int) -> None:
        """Take a tile into account: of the truth and of the dump."""
        for which, logits in enumerate((truth, value)):
            most = np.maximum(self.most[which], logits.max(-1))
            shrink = np.exp(self.most[which] - most, where=np.isfinite(self.most[which]), out=np.zeros_like(most))
            weights = np.exp(logits - most[:, None].astype(np.float32))
            if which == 0:
                self.cross = self.cross * shrink + np.einsum("tv,tv->t", weights, truth - value, dtype=np.float64)
            self.total[which] = self.total[which] * shrink + weights.sum(-1, dtype=np.float64)
            self.most[which] = most
            self.top[which] = _merge(self.top[which], logits, start)

    def agreement(self, valid) -> dict[str, float]:
        """Return the mean KL divergence in nats, and the shares of equal arg-max and top-5."""
        log_total = self.most + np.log(self.total)
        kl = self.cross / self.total[0] - log_total[0] + log_total[1]
        same = [len(set(a) & set(b)) / max(1, len(a)) for a, b in zip(self.top[0][1], self.top[1][1], strict=True)]
        first = self.top[0][1][:, 0] == self.top[1][1][:, 0]
        mean = lambda x: float(np.mean(np.asarray(x)[valid])) if valid.any() else 0.0  # noqa: E731
        return {"kl": mean(kl), "top1": mean(first), "top5": mean(same)}


def _merge(top, logits, start: int):
    """Keep the largest few of what was largest so far and of a tile, largest first."""
    count = min(TOP, logits.shape[-1])
    some = np.argpartition(logits, -count, axis=-1)[:, -count:]
    values = np.concatenate([top[0], np.take_along_axis(logits, some, -1)], axis=-1)
    ids = np.concatenate([top[1], some + start], axis=-1)
    order = np.argsort(-values, axis=-1)[:, :TOP]
    return np.take_along_axis(values, order, -1), np.take_along_axis(ids, order, -1)
