"""Fits for mistakes that no mutant knows: scale, sign, order of heads or channels, transposition, shifted positions."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from ref.measure.distance import distance_of
from ref.measure.floor import LIMIT, Floor

MOST_CHANNELS = 4096  # for which an order is looked for: the matrix of correlations must fit


def fits_of(value: np.ndarray, truth: np.ndarray, floor: Floor, tap: str, before: float) -> list[dict[str, Any]]:
    """Try simple changes of the truth and say which bring it to the dump's value.

        scale: y = s t;  sign;  order: y[.., c] = t[.., p(c)];  transposition;  shift: y[t] = t[t - n]

    Args:
        value: [1, T, ...] the dump's.
        truth: [1, T, ...] float64.
        floor: of the tap.
        tap: its name.
        before: the distance in floors without any change.

    Returns:
        Rows {kind, what, left}, the best first; only changes that leave less than half.

    """
    rows = []
    for kind, what, changed in _changes(value, truth):
        if changed.shape == value.shape and np.isfinite(changed).all():
            left = floor.ratio(distance_of(value, changed, tap))
            if left < before / 2:
                rows.append({"kind": kind, "what": what, "left": left})
    return sorted(rows, key=lambda row: max(LIMIT, row["left"]))[:3]  # of those that leave noise the simplest is first


def _changes(y: np.ndarray, t: np.ndarray) -> Iterator[tuple[str, str, np.ndarray]]:
    square = float(np.vdot(t, t))
    slope = float(np.vdot(y, t)) / square if square else 1.0
    yield ("sign", "the sign is reversed", -t) if abs(slope + 1) < 0.1 else ("scale", f"times {slope:.6g}", slope * t)
    if y.ndim == 4 and y.shape[2] > 1:
        yield from _orders(y, t, 2, "heads")
        swapped = np.ascontiguousarray(np.swapaxes(t.reshape(*t.shape[:2], *t.shape[2:]), 2, 3)).reshape(t.shape)
        yield "transposition", "heads and channels in each other's order", swapped
        back = np.ascontiguousarray(t).reshape(*t.shape[:2], t.shape[3], t.shape[2]).swapaxes(2, 3)
        yield "transposition", "channels and heads in each other's order", np.ascontiguousarray(back)
    if y.shape[-1] <= MOST_CHANNELS:
        yield from _orders(y, t, y.ndim - 1, "channels")
        yield "sign", "some channels' signs are reversed", t * _signs(y, t)
    per = _per_channel(y, t)
    if per is not None:
        yield "scale", "each channel has a factor of its own", t * per
    for by in (-2, -1, 1, 2):
        if y.shape[1] > abs(by) + 1:
            moved = np.roll(t, by, axis=1)
            moved[:, : by if by > 0 else None] = y[:, :by] if by > 0 else moved
            if by < 0:
                moved[:, by:] = y[:, by:]
            yield "shift", f"tokens are {abs(by)} place{'s' * (abs(by) > 1)} {'late' if by > 0 else 'early'}", moved


def _orders(y, t, axis: int, what: str) -> Iterator[tuple[str, str, np.ndarray]]:
    a = np.moveaxis(y, axis, 0).reshape(y.shape[axis], -1)
    b = np.moveaxis(t, axis, 0).reshape(t.shape[axis], -1)
    some = slice(None, None, max(1, a.shape[1] // 4096))
    a, b = (x[:, some] / (np.linalg.norm(x[:, some], axis=1, keepdims=True) + np.float64(1e-300)) for x in (a, b))
    order = (a @ b.T).argmax(axis=1)
    if len(set(order.tolist())) == len(order) and (order != np.arange(len(order))).any():
        moved = np.flatnonzero(order != np.arange(len(order)))
        first = ", ".join(f"{i} holds {order[i]}" for i in moved[:4])
        yield "permutation", f"{len(moved)} {what} in another order: {first}", np.take(t, order, axis=axis)


def _signs(y, t):
    axes = tuple(range(y.ndim - 1))
    return np.where(np.sum(y * t, axis=axes) < 0, -1.0, 1.0)


def _per_channel(y, t):
    axes = tuple(range(y.ndim - 1))
    square = np.sum(t * t, axis=axes)
    if np.prod(y.shape[:-1]) < 8 or not (square > 0).all():
        return None
    return np.sum(y * t, axis=axes) / square
