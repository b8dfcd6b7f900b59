"""The vision tower (SigLIP So400m/14) and the projector: an image to M rows of the text model's width."""

import numpy as np
from numpy.typing import ArrayLike

from ref.config import VisionConfig
from ref.errors import wanted
from ref.model.params import VisionLayerParams, VisionParams
from ref.model.taps import SILENCE, Scope, Taps, vision_tap_names
from ref.model.text import How
from ref.ops import Ops
from ref.ops.linear import widen
from ref.ops.patches import split_patches


def encode_images(p: VisionParams, pixels: ArrayLike, how: How = How()) -> np.ndarray:  # noqa: B008
    """Turn images into soft tokens.

        x = patches(pixels) @ patch.T + patch_bias + position;   x = vision_block_i(x), i = 0 .. L-1
        soft = rms_norm(average_pool(layer_norm(x))) @ projection

    Args:
        p: the parameters of tower and projector.
        pixels: [images, C, Y, X] float in [-1, 1], as `ref.prompt.images.preprocess` makes them.
        how: ops, dtype and taps. Where nobody listens to the tower, images go through one by one: bounded memory.

    Returns:
        [images, M, D of the text model] of `how.dtype`.

    Raises:
        BadInput: pixels of another shape, not finite, or outside [-1, 1].

    Rounding: each op rounds once; sums of two arrays are in `how.dtype`.
    Source: transformers 5.23 `SiglipVisionModel`, `Gemma3MultiModalProjector`.
    Differs: google-deepmind/gemma and Keras run the tower in float32 even where the text is bfloat16; transformers in
        the model's dtype. gemma.cpp normalises only the first of the M rows.
    """
    pixels = check_pixels(pixels, p.config)
    if len(pixels) > 1 and not any(map(how.taps.wants, vision_tap_names(p.config.layers))):
        return np.concatenate([encode_images(p, image[None], how) for image in pixels])
    v, ops, tap = p.config, how.ops, how.taps
    pixels = tap("vision.pixels", pixels.astype(how.dtype))
    x = tap("vision.patch_embed", ops.linear(split_patches(pixels, v.patch), p.patch, p.patch_bias))
    x = tap("vision.embed", x + widen(p.position).astype(how.dtype))
    visible = np.broadcast_to(np.array([0, v.side**2]), (*x.shape[:2], 2))  # every patch sees every patch
    for i, layer in enumerate(p.layers):
        x = vision_block(x, layer, visible, v, ops, Scope(tap, f"vision.layer.{i}.") if tap is not SILENCE else tap)
    x = tap("vision.post_norm", ops.layer_norm(x, widen(p.post_norm), widen(p.post_norm_bias), v.layer_norm_eps))
    x = tap("vision.pool", ops.average_pool(x, v.pool))
    x = tap("vision.soft_norm", ops.rms_norm(x, widen(p.soft_norm), v.layer_norm_eps))
    return tap("vision.soft_tokens", ops.linear(x, np.ascontiguousarray(widen(p.projection).T)))


def vision_block(
    x: np.ndarray, p: VisionLayerParams, visible: np.ndarray, v: VisionConfig, ops: Ops, tap: Taps
) -> np.ndarray:
    """Run one SigLIP block: LayerNorm before each half, biases everywhere, nothing causal, no positions but the table.

        mid = x   + attention(layer_norm(x));    out = mid + down(gelu_tanh(up(layer_norm(mid))))

    Args:
        x: [B, P, D].
        p: the block's parameters.
        visible: [B, P, 2], the range 0 .. P for every patch.
        v: the configuration.
        ops: DEFINITION or KERNEL.
        tap: where to report values, under `vision.layer.{i}.`.

    Returns:
        [B, P, D].

    Source: transformers 5.23 `SiglipEncoderLayer`.
    Differs: the text model's blocks have two more norms, RMSNorm, no biases, and a gate.
    """
    x = tap("in", x)
    pre = tap("attn.pre_norm", ops.layer_norm(x, widen(p.attn_norm), widen(p.attn_norm_bias), v.layer_norm_eps))
    mid = tap("mid", x + vision_attention(pre, p, visible, v, ops, tap))
    pre = tap("ffn.pre_norm", ops.layer_norm(mid, widen(p.ffn_norm), widen(p.ffn_norm_bias), v.layer_norm_eps))
    act = tap("ffn.act", ops.gelu(tap("ffn.up", ops.linear(pre, p.up, p.up_bias))))
    return tap("out", mid + tap("ffn.out", ops.linear(act, p.down, p.down_bias)))


def vision_attention(
    x: np.ndarray, p: VisionLayerParams, visible: np.ndarray, v: VisionConfig, ops: Ops, tap: Taps
) -> np.ndarray:
    """Attend from every patch to every patch.

        scores = (D / N)^-1/2 * q . k;   out = softmax(scores) @ v @ attn_out.T + attn_out_bias

    Args, Returns: as `vision_block`, without the norm and the residual sum.

    Source: transformers 5.23 `SiglipAttention`.
    """
    heads, scale = (*x.shape[:2], v.heads, -1), (v.width // v.heads) ** -0.5
    q = tap("attn.q", ops.linear(x, p.q, p.q_bias).reshape(heads))
    k = tap("attn.k", ops.linear(x, p.k, p.k_bias).reshape(heads))
    values = tap("attn.v", ops.linear(x, p.v, p.v_bias).reshape(heads))
    if tap.wants("attn.scores") or tap.wants("attn.probs"):
        probs = tap("attn.probs", ops.softmax(tap("attn.scores", ops.scores(q, k, scale)), visible))
        mixed = ops.mix(probs, values)
    else:
        mixed = ops.attend(q, k, values, visible, scale)
    return tap("attn.out", ops.linear(tap("attn.mix", mixed).reshape(x.shape), p.attn_out, p.attn_out_bias))


def check_pixels(pixels: ArrayLike, v: VisionConfig, where: object = "pixels") -> np.ndarray:
    """Return pixels as an array, or refuse them.

    Args:
        pixels: anything NumPy can make an array of.
        v: the configuration, whose size they must have.
        where: what to call them in a refusal.

    Raises:
        BadInput: not float [images, C, Y, X] of the configuration's size, no image, NaN, infinite or outside [-1, 1].
    """
    array = np.asarray(pixels)
    want = (v.channels, v.image, v.image)
    if array.ndim != 4 or array.shape[1:] != want or len(array) == 0:
        raise wanted("shape", where, f"[images, {v.channels}, {v.image}, {v.image}]", list(array.shape))
    if array.dtype.kind != "f":
        raise wanted("dtype", where, "floats in [-1, 1] (see `gemma3-ref preprocess`)", array.dtype)
    low, high = array.min(), array.max()
    if not (low >= -1 and high <= 1):  # also NaN
        raise wanted("values", where, "finite numbers in [-1, 1]", f"{low} to {high}")
    return array
