"""Which values of a large tensor a golden keeps, and how errors are measured on them."""

import numpy as np

from ref.model.taps import row_of

LIMIT = 2.0  # multiples of the noise floor that still are a match
SAMPLES = 512
STRIDE, OFFSET = 2_654_435_761, 97  # Knuth's multiplicative hash: any language can list the same places


def sample_places(size: int, count: int = SAMPLES) -> np.ndarray:
    """List the flat places of a tensor (C order) that a golden keeps.

        place[i] = (i * 2654435761 + 97) mod size,    i = 0 .. count - 1

    Args:
        size: number of values in the tensor; all of them are kept, in order, where that is no more than count.
        count: how many to keep.

    Returns:
        [count] int64.

    Source: own; the stride is odd and large, so neighbours in the list share neither token nor channel.
    """
    if size <= count:
        return np.arange(size)
    return (np.arange(count) * STRIDE + OFFSET) % size


def take_samples(value: np.ndarray, count: int = SAMPLES) -> np.ndarray:
    """Return the kept values of a tensor, flat."""
    return np.ascontiguousarray(value).reshape(-1)[sample_places(value.size, count)]


def relative_l2(value: np.ndarray, truth: np.ndarray) -> float:
    """Return the distance from truth relative to truth's length.

        ||value - truth|| / ||truth||,    in float64; 0 where equal; infinite where only truth is 0, or a value is NaN

    Args:
        value: [...] any dtype.
        truth: [...] same shape, float64.

    Differs: SGLang's `rel` is quadratic in this, llama.cpp's NMSE its square.
    """
    truth = np.asarray(truth, np.float64)
    error, length = np.linalg.norm(np.asarray(value, np.float64) - truth), np.linalg.norm(truth)
    if error == 0:
        return 0.0
    return float(error / length) if length and np.isfinite(error) else float("inf")  # NaN is no distance


def blank_padding(name: str, value: np.ndarray, left_pads: np.ndarray, total: int) -> np.ndarray:
    """Zero what belongs to padding: its value is undefined and takes no part in any verdict.

    Args:
        name: the tap's; it tells which axes are queries and which are keys.
        value: [B, T, ...], [B, N, T, S] of scores and probs, or [B, S, ...] of the cache.
        left_pads: [B].
        total: key index after the pass: the last axis of queries or keys ends there.

    Returns:
        The value, or a copy with zeros.

    Source: `ref.ops.visibility`: a padded query sees nothing, and nobody sees a padded key.
    Differs: transformers gives padded queries a uniform softmax, so their values there mean nothing.
    """
    if not np.any(left_pads) or name.startswith("vision."):
        return value

    def real(count, *shape):
        index = np.arange(total - count, total)
        return (index[None] >= left_pads[:, None]).reshape(len(left_pads), *shape)

    if row_of(name).is_pairwise:
        T, S = value.shape[2:]
        return np.where(real(T, 1, T, 1) & real(S, 1, 1, S), value, 0)
    T = value.shape[1]
    return np.where(real(T, T, *[1] * (value.ndim - 2)), value, 0)


def made_pixels(images: int, size: int) -> np.ndarray:
    """Make the images of a golden, so that none need be stored: any language can make the same.

        level[n, c, y, x] = (7 y + 13 x + 29 c + 53 n + floor(x y / 11)) mod 256;    pixel = level / 127.5 - 1

    Args:
        images: how many.
        size: their side in pixels.

    Returns:
        [images, 3, size, size] float32.

    Rounding: float64, then once to float32.
    Source: own; no two of channel, row and column can be swapped unseen.
    """
    n, c, y, x = np.ogrid[:images, :3, :size, :size]
    levels = (7 * y + 13 * x + 29 * c + 53 * n + x * y // 11) % 256
    return (levels / 127.5 - 1).astype(np.float32)
