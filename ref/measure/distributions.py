"""Two distributions over the vocabulary beside each other: reduced tile by tile, joined, and what they agree on."""

from typing import NamedTuple

import numpy as np

from ref.ops.jit import kernel
from ref.ops.simd import exp

TOP = 5
FAR, SPARE = 14.0, 2.0  # nats


class Part(NamedTuple):
    """Rows of the truth's logits and of the dump's, as far as some columns go."""

    total: np.ndarray  # [2, rows] sum of exp(logit - largest logit)
    cross: np.ndarray  # [rows] sum of exp(truth - largest truth) times what the truth is above the dump
    values: np.ndarray  # [2, rows, TOP] the largest few, the lower column first where two are equal
    ids: np.ndarray  # [2, rows, TOP] their columns


@kernel
def _largest_few(x, values, ids):
    # NaN is the largest, as NumPy sorts it
    values[:] = -np.inf
    last, filled = values.size - 1, 0
    for c in range(x.size):
        if filled > last and x[c] <= values[last]:
            continue
        if filled > last and values[last] != values[last]:
            return
        place = min(filled, last)
        while place and (x[c] > values[place - 1] or (x[c] != x[c] and values[place - 1] == values[place - 1])):
            values[place], ids[place] = values[place - 1], ids[place - 1]
            place -= 1
        values[place], ids[place] = x[c], c
        filled = min(filled + 1, last + 1)


@kernel(fastmath={"contract"})
def _weights(x, largest, out):
    for c in range(x.size):
        out[c] = exp(x[c] - largest)


@kernel(fastmath={"contract", "reassoc"})
def _sum(weights):
    total = 0.0
    for c in range(weights.size):  # by index: values one by one would not be taken as vectors
        total += np.float64(weights[c])
    return total


@kernel(fastmath={"contract", "reassoc"})
def _cross(weights, truth, value):
    total = 0.0
    for c in range(weights.size):
        total += np.float64(weights[c]) * np.float64(truth[c] - value[c])
    return total


@kernel
def _reduced(truth, value, total, cross, values, ids):
    weights = np.empty(truth.shape[1], np.float32)
    for row in range(truth.shape[0]):
        _largest_few(value[row], values[1, row], ids[1, row])
        _weights(value[row], values[1, row, 0], weights)
        total[1, row] = _sum(weights)
        _largest_few(truth[row], values[0, row], ids[0, row])
        _weights(truth[row], values[0, row, 0], weights)
        total[0, row] = _sum(weights)
        cross[row] = _cross(weights, truth[row], value[row])


def part_of(truth: np.ndarray, value: np.ndarray, start: int) -> Part:
    """Reduce a tile of logits.

    Args:
        truth: [rows, columns] float32.
        value: [rows, columns] float32, the dump's.
        start: its first column.
    """
    rows, few = len(truth), min(TOP, truth.shape[1])
    values, ids = np.empty((2, rows, few), np.float32), np.zeros((2, rows, few), np.int64)
    total, cross = np.empty((2, rows)), np.empty(rows)
    _reduced(np.ascontiguousarray(truth), np.ascontiguousarray(value), total, cross, values, ids)
    return Part(total, cross, values, ids + start)


@kernel(fastmath={"contract", "reassoc"})
def _dot(x, w):
    total = np.float32(0)
    for i in range(x.size):
        total += x[i] * w[i]
    return total


@kernel
def _put_near(x, weight, value, least, out):
    for row in range(out.shape[0]):
        for c in range(out.shape[1]):
            if value[row, c] > least[row]:
                out[row, c] = _dot(x[row], weight[c])


def truth_near(x: np.ndarray, weight: np.ndarray, value: np.ndarray, least: np.ndarray) -> np.ndarray:
    """Return the truth of a tile's larger logits; the others, which decide nothing, are taken to be the dump's.

    Args:
        x: [rows, D] float32, the inputs of the head.
        weight: [columns, D] float32.
        value: [rows, columns] float32, the dump's.
        least: [rows] float32; no value up to it is computed.
    """
    out = value.copy()
    _put_near(np.ascontiguousarray(x), np.ascontiguousarray(weight), value, least, out)
    return out


def least_that_count(part: Part) -> np.ndarray:
    """Return what the dump's logits must be above to decide anything, by the largest of some columns of it.

    A column 14 nats below the largest has less than a millionth of its probability: a mean over all that leaves such
    columns out lacks their share. With 2 nats to spare none of them is among the first few.
    """
    largest, last = part.values[1, :, 0], part.values[1, :, -1]
    return np.minimum(largest - FAR, last - SPARE).astype(np.float32)


def joined(a: Part, b: Part) -> Part:
    """Return both parts as one."""
    values, ids = np.concatenate([a.values, b.values], -1), np.concatenate([a.ids, b.ids], -1)
    order = np.lexsort((ids, -values), axis=-1)[..., :TOP]
    values, ids = np.take_along_axis(values, order, -1), np.take_along_axis(ids, order, -1)
    most = np.maximum(a.values[..., 0], b.values[..., 0])
    largest = (part.values[..., 0] for part in (a, b))
    share = [np.where(one == -np.inf, 0, np.exp(one - most, dtype=np.float64)) for one in largest]
    total = a.total * share[0] + b.total * share[1]
    return Part(total, a.cross * share[0][0] + b.cross * share[1][0], values, ids)


def agreement(part: Part, valid: np.ndarray) -> dict[str, float]:
    """Return the mean KL divergence in nats, and the shares of equal arg-max and top-5.

    Args:
        part: of all columns.
        valid: [rows] bool, those that count.
    """
    log_total = part.values[..., 0] + np.log(part.total)
    kl = part.cross / part.total[0] - log_total[0] + log_total[1]
    same = [len(set(a) & set(b)) / max(1, len(a)) for a, b in zip(*part.ids, strict=True)]
    mean = lambda x: float(np.mean(np.asarray(x)[valid])) if valid.any() else 0.0  # noqa: E731
    return {"kl": mean(kl), "top1": mean(part.ids[0, :, 0] == part.ids[1, :, 0]), "top5": mean(same)}
