"""The logit lens: what each layer's stream would predict if the head were applied there."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ref.model.params import TextParams
from ref.ops import KERNEL, Ops
from ref.show.canvas import label_tokens, new_figure, readable, styled

ROWS = 128  # of logits in memory at once: 128 x 262,144 in float32 is 134 MB


class Lens(NamedTuple):
    """Likeliest next tokens at each depth: after the embedding, then after each layer."""

    ids: np.ndarray  # [L + 1, T, top] int64, likeliest first
    probs: np.ndarray  # [L + 1, T, top] of the stream's dtype


def logit_lens(
    params: TextParams,
    streams: np.ndarray,
    top: int = 5,
    ops: Ops = KERNEL,
    progress: Callable[[int, int], Any] | None = None,
) -> Lens:
    """Apply the final norm and the head to the stream at every depth.

        probs = softmax(rms_norm(h) @ embedding.T)

    Args:
        params: the text model.
        streams: [L + 1, T, D] float: `text.layer.0.in`, then each layer's `out`, of one row.
        top: how many tokens of each distribution.
        ops: which operations.
        progress: called with rows done and all.

    Returns:
        Lens; at the last depth it is the model's own prediction.

    Rounding: that of the ops; exponentials in the logits' dtype, their sum in float64.
    Source: nostalgebraist 2020, "interpreting GPT: the logit lens".
    Differs: the stream is not shifted or rescaled for the depth, as the tuned lens does.
    """
    depths, T, D = streams.shape
    rows = streams.reshape(-1, D)
    ids, probs = np.empty((len(rows), top), np.int64), np.empty((len(rows), top), streams.dtype)
    for start in range(0, len(rows), ROWS):
        normed = ops.rms_norm(rows[None, start : start + ROWS], params.final_norm, params.config.rms_eps)
        logits = ops.linear(normed, params.unembedding)[0]
        here = slice(start, start + len(logits))
        some = np.argpartition(logits, -top, axis=-1)[:, -top:]
        best = np.take_along_axis(logits, some, -1)
        order = np.argsort(-best, axis=-1, kind="stable")
        ids[here] = np.take_along_axis(some, order, -1)
        most = logits.max(-1, keepdims=True)
        total = np.exp(logits - most).sum(-1, keepdims=True, dtype=np.float64)
        probs[here] = np.exp(np.take_along_axis(best, order, -1) - most) / total
        if progress:
            progress(start + len(logits), len(rows))
    return Lens(ids.reshape(depths, T, top), probs.reshape(depths, T, top))


@styled
def plot_lens(lens: Lens, pieces: Sequence[str], best: Sequence[Sequence[str]]) -> Any:
    """Draw the logit lens: a row a depth, a column a token, the likeliest next token in each cell.

    Args:
        lens: from `logit_lens`.
        pieces: T texts of the tokens.
        best: [L + 1][T] texts of the likeliest next tokens.
    """
    probs = lens.probs[..., 0]
    figure, axes = new_figure(1.0 * len(pieces) + 2, 0.27 * len(probs) + 1)
    drawn = axes.imshow(probs, cmap="viridis", vmin=0, vmax=1, aspect="auto")
    for depth, row in enumerate(best):
        for token, text in enumerate(row):
            ink = "black" if probs[depth, token] > 0.6 else "white"
            axes.text(token, depth, readable(text, 10), ha="center", va="center", fontsize=7, color=ink)
    label_tokens(axes.xaxis, pieces)
    axes.set_yticks(range(len(probs)), ["embed", *(str(i) for i in range(len(probs) - 1))])
    axes.set(ylabel="after layer", xlabel="token")
    figure.colorbar(drawn, ax=axes, label="probability")
    return figure
