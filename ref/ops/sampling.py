"""From logits to the next token: temperature, top-k, top-p, and one uniform number."""

import numpy as np

from ref.ops.jit import kernel


def filtered_probs(logits: np.ndarray, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0) -> np.ndarray:
    """Turn logits into the probabilities that a token is drawn from.

    In the order of transformers: divide by the temperature, keep the k largest, then, of what is left, the smallest
    set of largest probabilities that reaches p.

        keep_k = {v : logit[v] >= k-th largest logit}
        keep_p = {v in keep_k : sum of probs before v, in descending order, < p}

    Args:
        logits: [V] float.
        temperature: > 0; below 1 sharpens.
        top_k: 0 keeps all; a tie at the k-th place is kept whole.
        top_p: in (0, 1]; the token that crosses p is kept, so at least one stays. 1 keeps all.

    Returns:
        [V] float64, sums to 1; 0 where a token was cut.

    Rounding: float64 throughout; the largest logit is taken off first, so that no temperature overflows.
    Source: transformers 5.23 `TemperatureLogitsWarper`, `TopKLogitsWarper`, `TopPLogitsWarper`.
    Differs: gemma_pytorch cuts top-p before top-k; google-deepmind/gemma keeps every logit equal to the cut-off.
    """
    wide = np.asarray(logits, np.float64)
    wide = (wide - wide.max()) / temperature
    if 0 < top_k < wide.size:
        wide = np.where(wide >= np.partition(wide, -top_k)[-top_k], wide, -np.inf)
    probs = np.exp(wide)
    probs /= probs.sum()
    if top_p < 1.0:
        order = np.argsort(-probs, kind="stable")  # ties: the smaller id counts as larger
        before = np.concatenate([[0.0], np.cumsum(probs[order])[:-1]])
        probs[order[before >= top_p]] = 0.0
        probs /= probs.sum()
    return probs


@kernel
def _filtered(wide, top_k, top_p):
    floor = -np.inf
    if 0 < top_k < wide.size:
        floor = np.partition(wide, wide.size - top_k)[wide.size - top_k]
    probs = np.zeros(wide.size)
    total = 0.0
    for v in range(wide.size):
        if wide[v] >= floor:
            probs[v] = np.exp(wide[v])
            total += probs[v]
    probs /= total
    if top_p < 1.0:
        kept = np.nonzero(probs)[0]
        order = kept[np.argsort(-probs[kept], kind="mergesort")]
        before = total = 0.0
        for v in order:
            share = probs[v]
            if before >= top_p:
                probs[v] = 0.0
            else:
                total += share
            before += share
        probs /= total
    return probs


def filtered_probs_jit(logits: np.ndarray, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0) -> np.ndarray:
    """Kernel of `filtered_probs`: sorts only what top-k left; plain float64 sums in descending order."""
    wide = np.asarray(logits, np.float64)
    return _filtered((wide - wide.max()) / temperature, min(top_k, wide.size), top_p)


def draw(probs: np.ndarray, uniform: float) -> int:
    """Pick the token at which the cumulative probability, in order of ids, passes a uniform number.

        token = min {v : sum_{u <= v} probs[u] > uniform}

    Args:
        probs: [V] float64, from `filtered_probs`.
        uniform: in [0, 1), from a seeded generator.

    Returns:
        int, a token whose probability is not 0.

    Source: inverse transform sampling.
    Differs: torch's multinomial uses another generator and rule, so one seed gives other texts there.
    """
    cumulative = np.cumsum(probs)
    return int(np.searchsorted(cumulative, uniform * cumulative[-1], side="right"))
