"""Images to patches and patches to soft tokens: the two ends of the vision tower."""

import numpy as np

from ref.ops.jit import kernel
from ref.ops.team import Divided


def split_patches(pixels: np.ndarray, patch: int) -> np.ndarray:
    """Cut images into squares, row by row, and lay each one's values out as a row: no arithmetic, so no kernel.

        patches[b, r * (X / patch) + c, (i * patch + y) * patch + x] = pixels[b, i, r * patch + y, c * patch + x]

    A convolution whose stride is its width is a linear layer on these rows.

    Args:
        pixels: [B, C, Y, X]; Y and X multiples of patch.
        patch: side of a square in pixels.

    Returns:
        [B, P, C * patch * patch], the same dtype; P from left to right, then top to bottom.

    Source: Dosovitskiy et al. 2020; transformers 5.23 `SiglipVisionEmbeddings` (channel outermost, as its weight).
    Differs: google-deepmind/gemma keeps the channel innermost ([Y, X, C], kernel HWIO).
    """
    (B, C), rows, columns = pixels.shape[:2], pixels.shape[2] // patch, pixels.shape[3] // patch
    squares = pixels.reshape(B, C, rows, patch, columns, patch).transpose(0, 2, 4, 1, 3, 5)  # B rows columns C y x
    return np.ascontiguousarray(squares).reshape(B, rows * columns, C * patch * patch)


def average_pool(x: np.ndarray, pool: int) -> np.ndarray:
    """Average squares of neighbouring patches.

        y[b, r * (S / pool) + c, d] = mean over i, j < pool of x[b, (r * pool + i) * S + c * pool + j, d]

    Args:
        x: [B, P, D] float, the patches of a square image, P = S * S.
        pool: side of a square in patches; divides S.

    Returns:
        [B, P / pool^2, D] x.dtype.

    Rounding: float64 inside; one rounding to x.dtype on return.
    Source: transformers 5.23 `Gemma3MultiModalProjector` (AvgPool2d); Gemma 3 report section 2.
    Differs: averaging pool^2 consecutive rows instead, without going through the square, is a known mistake.
    """
    B, P, D = x.shape
    side = int(P**0.5)
    squares = x.reshape(B, side // pool, pool, side // pool, pool, D).astype(np.float64)
    return squares.mean(axis=(2, 4)).astype(x.dtype).reshape(B, -1, D)


@Divided
@kernel
def _pool(start, stop, x, side, pool, out):
    across = side // pool
    for token in range(start, stop):
        b, r, c = token // out.shape[1], token % out.shape[1] // across, token % across
        total = np.zeros(x.shape[2], np.float64)
        for i in range(pool):
            for j in range(pool):
                for d in range(x.shape[2]):
                    total[d] += np.float64(x[b, (r * pool + i) * side + c * pool + j, d])
        for d in range(x.shape[2]):
            out[b, r * across + c, d] = total[d] / (pool * pool)


def average_pool_jit(x: np.ndarray, pool: int) -> np.ndarray:
    """Kernel of `average_pool`: one float64 sum a value, row by row of its square."""
    side = int(x.shape[1] ** 0.5)
    out = np.empty((x.shape[0], (side // pool) ** 2, x.shape[2]), x.dtype)
    _pool(out.shape[0] * out.shape[1], 8, np.ascontiguousarray(x), side, pool, out)
    return out
