"""What an attention function lets queries see, read from its arguments; and its scores, which it keeps to itself."""

from typing import Any

import numpy as np

from ref.capture.common import intervals

SEES_ALL = ("eager", "sdpa", "flex_attention")  # what is known to happen where there is no mask
HIDDEN = -104.0  # added to a score: exp of it is 0 in float32


def scores_behind(q: Any, k: Any, scaling: float, mask: Any, probs: Any) -> Any:
    """Return the scaled, unmasked scores that probabilities were made of; None where none lead to them.

        scores[b, n, t, s] = (q[b, n, t] . k[b, n // G, s]) * scaling

    Which kernel multiplies depends on how keys lie that are repeated for each query head: as a view, as `repeat_kv`
    leaves a single key head's, or as a copy. Its order of summation does, too, so that both are tried.

    Args:
        q: [B, N, T, H] tensor.
        k: [B, K, S, H] tensor.
        scaling: the multiplier.
        mask: as `lead_to`.
        probs: [B, N, T, S] tensor.

    Returns:
        [B, N, T, S], in the dtype of q.

    Rounding: the product to that dtype, then its multiple.
    Source: transformers 5.23 `eager_attention_forward`, `repeat_kv`.
    """
    for repeated in (_as_view, _as_copy) if k.shape[1] < q.shape[1] else (_as_view,):
        found = q @ repeated(k, q.shape[1] // k.shape[1]).transpose(2, 3) * scaling
        if lead_to(found, mask, probs):
            return found
    return None


def _as_view(k: Any, groups: int) -> Any:
    return k if groups == 1 else k[:, :, None].expand(-1, -1, groups, -1, -1).reshape(len(k), -1, *k.shape[2:])


def _as_copy(k: Any, groups: int) -> Any:
    return k.repeat_interleave(groups, dim=1)


def are_probs(value: Any, q: Any, k: Any, implementation: str) -> bool:
    """Tell whether what an attention function gives beside the mix is its probabilities.

    Args:
        value: a tensor, or nothing.
        q: [B, N, T, H] tensor.
        k: [B, K, S, H] tensor.
        implementation: the function's name.

    Returns:
        Whether it has a cell for every head, query and key; never of flex attention, which gives the logarithms of the
        sums of its exponentials.

    Source: transformers 5.23 `flex_attention_forward`, `eager_attention_forward`.
    """
    if implementation == "flex_attention" or not hasattr(value, "detach"):
        return False
    return value.shape == (*q.shape[:3], k.shape[2])


def lead_to(found: Any, mask: Any, probs: Any) -> bool:
    """Tell whether probabilities come from scores: a function that its owner wrote may have had others, unseen.

        probs[b, n] = softmax(scores[b, n] + mask[b], over keys), rounded

    Scores that differ in their last bits make other probabilities: a unit of a score of 8 is 8 of a probability. So
    in float32 softmax is that of the same scores, or one that is as exact.

    Args:
        found: [B, N, T, S] tensor, scores that the function may have had.
        mask: its mask, added or boolean; None adds nothing.
        probs: [B, N, T, S] tensor, what it gave back.

    Returns:
        Whether they agree within a unit of rounding; in float64, where softmax may be float32's, within a few of
        these. NaN agrees with NaN.

    Source: transformers 5.23 `eager_attention_forward`.
    """
    import torch

    if probs.shape != found.shape or (mask is not None and getattr(mask, "ndim", 0) != 4):
        return False
    if mask is None:
        mask = found.new_zeros(1, 1, 1, 1)
    elif mask.dtype == torch.bool:
        mask = found.new_zeros(mask.shape).masked_fill(~mask, torch.finfo(found.dtype).min)
    kind, single = torch.finfo(probs.dtype), torch.finfo(torch.float32)
    atol = 4 * single.eps if probs.dtype == torch.float64 else kind.tiny * kind.eps
    near = {"rtol": kind.eps, "atol": atol, "equal_nan": True}
    for n in range(found.shape[1]):  # by heads, since those of a tower are a gigabyte together
        own = torch.softmax(found[:, n] + mask[:, min(n, mask.shape[1] - 1), ..., : found.shape[-1]], -1, torch.float32)
        if not torch.allclose(own, probs[:, n].float(), **near):
            return False
    return True


def seen_cells(q: Any, k: Any, given: dict[str, Any], implementation: str) -> np.ndarray | None:
    """Return which keys an attention function lets queries see.

    Args:
        q: [B, N, T, H] tensor.
        k: [B, K, S, H] tensor.
        given: its arguments by name.
        implementation: what it does without a mask: `eager` and `flex_attention` see all, `sdpa` goes by is_causal.

    Returns:
        [B or 1, T, S] bool; None where it cannot be told, as of masks that differ between heads.

    Source: transformers 5.23 `eager_attention_forward`, `sdpa_attention_forward`.
    """
    T, S, mask = q.shape[2], k.shape[2], given.get("attention_mask")
    if hasattr(mask, "mask_mod"):
        mask = _written_out(mask, T, S, q.device)
    if mask is None:
        if implementation not in SEES_ALL:
            return None
        causal = given.get("is_causal")
        causal = getattr(given["module"], "is_causal", True) if causal is None else causal
        # sdpa's causal mask is upper-left: query t sees columns 0 .. t, whatever S is
        one = np.tri(T, S, dtype=bool) if implementation == "sdpa" and causal and T > 1 else np.ones((T, S), bool)
        return one[None]
    if getattr(mask, "ndim", 0) != 4 or mask.shape[-1] != S or mask.shape[-2] not in (1, T):
        return None
    cells = (mask if str(mask.dtype) == "torch.bool" else mask > HIDDEN).detach().cpu().numpy()
    if (cells != cells[:, :1]).any():
        return None
    return np.broadcast_to(cells[:, 0], (len(cells), T, S))


def _written_out(mask: Any, T: int, S: int, device: Any) -> Any:
    """Return the cells of flex attention's mask, which is a rule and the blocks that it leaves: [B, N or 1, T, S]."""
    from torch.nn.attention.flex_attention import create_mask

    if tuple(mask.shape[-2:]) != (T, S):
        return ()  # of other queries or keys
    B, N, _, _ = mask.shape
    return create_mask(mask.mask_mod, B, N, T, S, device)


def visible_keys(seen: np.ndarray, total: int, pads: int) -> np.ndarray:
    """Return what each query sees in key indices.

    Args:
        seen: [T, S] bool; the last column is the newest key, or where S is more than `total` that of the empty slots
            behind them.
        total: keys after this pass.
        pads: left pads of the row; what a pad sees does not matter, and is nothing here.

    Returns:
        [1, T, 2] int64, half-open ranges; [1, T, S] bool where some query does not see one range.

    Source: own; `ref.model.taps`.
    """
    T, S = seen.shape
    if total < S and not seen[:, total:].any():  # slots of a static cache that no key was written to
        seen = seen[:, : (S := total)]
    index = total - T + np.arange(T)
    real = index >= pads
    of_text = seen & real[:, None]
    found = intervals(of_text)
    if found is None:
        return seen[None]
    keys = max(total - S, 0) + np.stack(found, 1)
    return np.where(of_text.any(1)[:, None], keys, index[:, None])[None].astype(np.int64)
