"""How far a value is from the truth: sums over each token and each channel, and the figures made of them."""

from typing import NamedTuple

import numpy as np

from ref.model.taps import row_of
from ref.ops.jit import kernel
from ref.ops.team import Divided

PART = 64  # tokens a thread sums at once


class Sums(NamedTuple):
    """Sums over a tap's value and its truth; tokens that are padding count nothing."""

    tokens: np.ndarray  # [tokens, 2]: squared error, squared truth
    channels: np.ndarray  # [channels, 2]
    cross: float  # sum of value times truth
    square: float  # sum of squared values
    count: int  # values

    @property
    def per_channel(self) -> int:
        """How many values a channel is the sum of."""
        return self.count // max(1, len(self.channels))


@kernel(fastmath={"contract", "reassoc"})
def _row(y, t, errors, truths):
    # sums in vector lanes; each channel's are added to those of the tokens before
    error = truth = cross = square = 0.0
    for q in range(y.size):
        e, w = np.float64(y[q]) - np.float64(t[q]), np.float64(t[q])
        errors[q] += e * e
        truths[q] += w * w
        error += e * e
        truth += w * w
        cross += (e + w) * w
        square += (e + w) * (e + w)
    return error, truth, cross, square


@Divided
@kernel
def _sums(start, stop, y, t, valid, tokens, channels, extra):
    P, T, Q = y.shape
    for part in range(start, stop):
        errors, truths = np.zeros(Q), np.zeros(Q)
        for row in range(part * PART, min(T, (part + 1) * PART)):
            if not valid[row]:
                continue
            for p in range(P):
                error, truth, cross, square = _row(y[p, row], t[p, row], errors, truths)
                tokens[row, 0] += error
                tokens[row, 1] += truth
                if P > 1:
                    channels[part, p, 0] += error
                    channels[part, p, 1] += truth
                extra[part, 0] += cross
                extra[part, 1] += square
        if P == 1:
            channels[part, :, 0] = errors
            channels[part, :, 1] = truths


def by_token(value: np.ndarray, tap: str) -> np.ndarray:
    """View a tap's value as [P, tokens, Q]; a channel is a q, or where there are several P, a p.

    Args:
        value: as the registry's axes say.
        tap: its name: scores and probs have their tokens on the third axis, everything else on the second.
    """
    if row_of(tap).is_pairwise:
        return value.reshape(-1, *value.shape[2:])
    if tap == "vision.pixels":
        return value.reshape(1, -1, value.shape[-1])
    tokens = value.shape[0] * value.shape[1]
    return value.reshape(1, tokens, -1)


def sums_of(value: np.ndarray, truth: np.ndarray, tap: str, valid: np.ndarray | None = None) -> Sums:
    """Add up errors, token by token and channel by channel, in float64.

    Args:
        value: [...] float, as the registry's axes say.
        truth: [...] the same shape.
        tap: its name.
        valid: [tokens] bool, False on padding; None counts all.
    """
    y, t = by_token(np.ascontiguousarray(value), tap), by_token(np.ascontiguousarray(truth), tap)
    valid = np.ones(y.shape[1], np.bool_) if valid is None else valid
    parts, width = -(-y.shape[1] // PART), y.shape[2] if y.shape[0] == 1 else y.shape[0]
    tokens, channels, extra = np.zeros((y.shape[1], 2)), np.zeros((parts, width, 2)), np.zeros((parts, 2))
    _sums(len(channels), 1, y, t, valid, tokens, channels, extra)
    count = y.size // max(1, y.shape[1]) * int(valid.sum())
    return Sums(tokens, channels.sum(0), float(extra[:, 0].sum()), float(extra[:, 1].sum()), count)


class Distance(NamedTuple):
    """Five distances from the truth, all relative. A few tokens or channels may be so large that they hide the rest."""

    whole: float  # of everything: relative L2
    tokens: float  # root mean square of each token's relative L2
    channels: float
    worst_token: float
    worst_channel: float


class Errors(NamedTuple):
    """What sums come down to."""

    distance: Distance
    tokens: np.ndarray  # [tokens] relative L2
    channels: np.ndarray  # [channels]


def relative(pairs: np.ndarray, values: int = 10) -> np.ndarray:
    """Return the relative L2 of each row of [n, 2] sums; a truth next to nothing is seen beside the median's tenth.

    Of one token each channel is one value, and the smallest of them would outweigh all others: each is seen beside the
    median, of two tokens beside its half. The median, since a few channels may be so large that everything is small
    beside the mean.

    Args:
        pairs: squared error, squared truth.
        values: how many each is the sum of.
    """
    error, truth = pairs[:, 0], pairs[:, 1]
    some = truth[truth > 0]
    middle = max(0, some.size - 1) // 2
    least = np.partition(some, middle)[middle] / min(10, max(1, values)) if some.size else 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        out = np.sqrt(error / np.maximum(truth, least))
    return np.where(error == 0, 0.0, out)


def errors_of(sums: Sums) -> Errors:
    """Reduce sums to distances.

        whole = ||y - t|| / ||t||,    tokens = sqrt(mean over tokens of (||y_t - t_t|| / ||t_t||)^2), channels alike

    Args:
        sums: from `sums_of`.

    Differs: cosine and correlation hide a wrong scale, and all channels behind one large one.
    """
    error, truth = sums.tokens.sum(0)
    whole = 0.0 if error == 0 else float(np.sqrt(error / truth)) if truth else float("inf")
    tokens, channels = relative(sums.tokens), relative(sums.channels, sums.per_channel)
    there = tokens[sums.tokens.sum(1) != 0]  # NaN is not 0
    there = there if there.size else np.zeros(1)
    each = channels if channels.size else np.zeros(1)
    rms = lambda x: float(np.sqrt(np.mean(x * x)))  # noqa: E731
    return Errors(Distance(whole, rms(there), rms(each), float(there.max()), float(each.max())), tokens, channels)


def distance_of(value: np.ndarray, truth: np.ndarray, tap: str, valid: np.ndarray | None = None) -> Distance:
    """Return the distances of a value from its truth; arguments as `sums_of`, figures as `errors_of`."""
    return errors_of(sums_of(value, truth, tap, valid)).distance


def profile(sums: Sums, floors: np.ndarray, axis: str, most: int = 512) -> list[float]:
    """Return each token's or channel's relative error in floors of it, in at most so many bins of maxima.

    Args:
        sums: of the dump.
        floors: [n] the same of the worst valid run.
        axis: `tokens` or `channels`.
        most: how many numbers to return.
    """
    value = relative(getattr(sums, axis), sums.per_channel if axis == "channels" else 10)
    if floors.size != value.size:  # no valid run has finite values here
        return []
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(value == 0, 0.0, value / floors)
    if not ratio.size:
        return [0.0]
    number, bins = np.arange(min(most, ratio.size)), min(most, ratio.size)
    starts = number * (ratio.size // bins) + np.minimum(number, ratio.size % bins)  # the first are longer by one
    return np.maximum.reduceat(ratio, starts).tolist()


def metrics_of(sums: Sums, largest: float, dtype: str) -> dict[str, float]:
    """Return the figures that people know: largest error, ULP, cosine, slope, worst token and channel.

    Args:
        sums: of the dump against the truth.
        largest: absolute error.
        dtype: of the dump's tensor. An ULP is its step at the tensor's root mean square.
    """
    truth = sums.tokens[:, 1].sum()
    both = np.sqrt(sums.square * truth)
    size = np.sqrt(truth / max(1, sums.count))
    bits = {"float32": 24, "bfloat16": 8, "float16": 11, "float64": 53}.get(dtype, 24)
    step = 2.0 ** (np.floor(np.log2(size)) - bits + 1) if size > 0 and np.isfinite(size) else 1.0
    return {
        "max_abs": largest,
        "ulp": float(largest / step),
        "cosine": float(sums.cross / both) if both else 1.0,
        "slope": float(sums.cross / truth) if truth else 1.0,
        "worst_token": int(np.argmax(relative(sums.tokens))),
        "worst_channel": int(np.argmax(relative(sums.channels))) if sums.channels.size else 0,
    }
