"""RMSNorm with Gemma's zero-centred gain, and the LayerNorm of the vision tower."""

import numpy as np

from ref.ops.jit import kernel
from ref.ops.team import Divided, frozen


def rms_norm(x: np.ndarray, scale: np.ndarray, eps: float) -> np.ndarray:
    """Divide each row by its root mean square, then multiply by one plus the gain.

        y[..., d] = x[..., d] / sqrt(mean_d(x[..., d]^2) + eps) * (1 + scale[d])

    Args:
        x: [..., D] float.
        scale: [D] float, zero-centred: 0 leaves the row at unit root mean square.
        eps: added to the mean square, inside the root; 1e-6 in every Gemma 3.

    Returns:
        [..., D], x.dtype. A row of zeros stays zero.

    Rounding: float64 inside; one rounding to x.dtype on return.
    Source: Zhang & Sennrich 2019; transformers 5.23 `Gemma3RMSNorm`.
    Differs: GGUF stores 1 + scale; MLX forms 1 + scale in the weight's dtype; google-deepmind/gemma computes in the
        input's dtype; Llama rounds to the activation dtype before multiplying, Gemma after. All show in bfloat16 only.
    """
    wide = x.astype(np.float64)
    mean_square = np.mean(wide * wide, axis=-1, keepdims=True)
    return (wide / np.sqrt(mean_square + eps) * (1.0 + scale.astype(np.float64))).astype(x.dtype)


@kernel(fastmath={"contract", "reassoc"})
def _norm_row(x, scale, eps, out):
    # float64 accumulator; `reassoc` lets the sum run in vector lanes (6x faster at D = 640)
    total = 0.0
    for d in range(x.size):
        total += np.float64(x[d]) * np.float64(x[d])
    inverse = 1.0 / np.sqrt(total / x.size + eps)
    for d in range(x.size):
        out[d] = np.float64(x[d]) * inverse * (1.0 + np.float64(scale[d]))


PIECE = 16_384  # numbers that a thread takes at once: some microseconds


@Divided
@kernel
def _norm_rows(start, stop, x, scale, eps, out):
    for row in range(start, stop):
        _norm_row(x[row], scale, eps, out[row])


def _piece(rows):
    return max(1, PIECE // max(1, rows.shape[1]))


def rms_norm_jit(x: np.ndarray, scale: np.ndarray, eps: float) -> np.ndarray:
    """Kernel of `rms_norm`: one float64 sum a row, in vector lanes."""
    rows = np.ascontiguousarray(x).reshape(-1, x.shape[-1])
    out = np.empty_like(rows)
    _norm_rows(len(rows), _piece(rows), rows, frozen(scale), eps, out)
    return out.reshape(x.shape)


def layer_norm(x: np.ndarray, gain: np.ndarray, bias: np.ndarray, eps: float) -> np.ndarray:
    """Centre each row, divide it by its standard deviation, then multiply by the gain and add the bias.

        y[..., d] = (x[..., d] - mean) / sqrt(variance + eps) * gain[d] + bias[d]

        mean = mean_d(x[..., d]),    variance = mean_d((x[..., d] - mean)^2)

    Args:
        x: [..., D] float.
        gain: [D] float, used as it is: no + 1.
        bias: [D] float.
        eps: added to the variance, inside the root; 1e-6 in SigLIP.

    Returns:
        [..., D], x.dtype. A row whose values are all equal becomes the bias.

    Rounding: float64 inside; one rounding to x.dtype on return.
    Source: Ba et al. 2016; torch `layer_norm`, which transformers 5.23 `SiglipEncoderLayer` calls.
    Differs: torch's own default for eps is 1e-5. The variance divides by D, not by D - 1.
    """
    wide = x.astype(np.float64)
    centred = wide - np.mean(wide, axis=-1, keepdims=True)
    variance = np.mean(centred * centred, axis=-1, keepdims=True)
    return (centred / np.sqrt(variance + eps) * gain.astype(np.float64) + bias.astype(np.float64)).astype(x.dtype)


@kernel(fastmath={"contract", "reassoc"})
def _layer_norm_row(x, gain, bias, eps, out):
    # float64 accumulators in vector lanes; the mean first, so that a row far from 0 keeps its digits
    total = squares = 0.0
    for d in range(x.size):
        total += np.float64(x[d])
    mean = total / x.size
    for d in range(x.size):
        squares += (np.float64(x[d]) - mean) * (np.float64(x[d]) - mean)
    inverse = 1.0 / np.sqrt(squares / x.size + eps)
    for d in range(x.size):
        out[d] = (np.float64(x[d]) - mean) * inverse * gain[d] + bias[d]


@Divided
@kernel
def _layer_norm_rows(start, stop, x, gain, bias, eps, out):
    for row in range(start, stop):
        _layer_norm_row(x[row], gain, bias, eps, out[row])


def layer_norm_jit(x: np.ndarray, gain: np.ndarray, bias: np.ndarray, eps: float) -> np.ndarray:
    """Kernel of `layer_norm`: two float64 sums a row, in vector lanes."""
    rows = np.ascontiguousarray(x).reshape(-1, x.shape[-1])
    out = np.empty_like(rows)
    _layer_norm_rows(len(rows), _piece(rows), rows, gain.astype(np.float64), bias.astype(np.float64), eps, out)
    return out.reshape(x.shape)
