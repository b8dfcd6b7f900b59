"""Plots of what happens inside: what tokens see, rotations, attention, norms; choices among tokens, number formats,
losses along a text, what the judge found.

Each returns a matplotlib figure (extra `[plot]`), readable on a light and a dark page. Images are drawn in
`ref.show.image_plots`, the logit lens in `ref.show.lens`, the cache's memory in `ref.show.kv_memory`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ref.ops.rope import rope_table
from ref.ops.visibility import as_matrix
from ref.show.canvas import BLUE, INK, ORANGE, label_tokens, new_figure, styled


@styled
def plot_visibility(kinds: Mapping[str, np.ndarray], pieces: Sequence[str], origin: int = 0) -> Any:
    """Draw what each token sees, one picture a kind of layer.

    Args:
        kinds: title -> [T, 2] ranges of keys, or [T, S] booleans.
        pieces: S texts of tokens.
        origin: key index of the first piece.
    """
    figure, axes = new_figure(4.2 * len(kinds), 4.4, columns=len(kinds), squeeze=False)
    for one, (title, seen) in zip(axes[0], kinds.items(), strict=True):
        matrix = seen if seen.dtype == bool else as_matrix(seen - origin, len(pieces))
        one.imshow(np.where(matrix, 1.0, np.nan), cmap=_one_colour(BLUE), vmin=0, vmax=1)
        one.set_xticks(np.arange(len(pieces)) - 0.5, minor=True)
        one.set_yticks(np.arange(len(matrix)) - 0.5, minor=True)
        one.grid(which="minor", color=INK, alpha=0.35, lw=0.5)
        one.tick_params(which="minor", length=0)
        label_tokens(one.xaxis, pieces)
        label_tokens(one.yaxis, pieces[len(pieces) - len(matrix) :])
        one.tick_params("x", rotation=90)
        one.set(title=title, xlabel="key", ylabel="query")
    return figure


def _one_colour(colour: str):
    from matplotlib.colors import ListedColormap

    return ListedColormap([colour])


@styled
def plot_rope(
    head_dim: int, bases: Mapping[str, tuple[float, float]], positions: int, pairs: Sequence[int] = (0, 8, 24, 48)
) -> Any:
    """Draw how far pairs are turned: a wheel a pair, a dot a position; and a whole turn's length of every pair.

    Args:
        head_dim: H.
        bases: title -> (base, factor), as `TextConfig.rope` returns it.
        positions: how many, from 0.
        pairs: which wheels, of H / 2.
    """
    figure, axes = new_figure(2.1 * len(pairs) + 3.6, 2.2 * len(bases), len(bases), len(pairs) + 1, squeeze=False)
    for number, (row, (title, (base, factor))) in enumerate(zip(axes, bases.items(), strict=True)):
        cos, sin = rope_table(np.arange(positions)[None], head_dim, base, factor, np.float64)
        for one, pair in zip(row, pairs, strict=False):
            one.plot(np.cos(np.linspace(0, 7, 200)), np.sin(np.linspace(0, 7, 200)), color=INK, lw=0.6)
            one.scatter(cos[0, :, pair], sin[0, :, pair], c=np.arange(positions), s=14, cmap="viridis")
            one.plot([0, cos[0, -1, pair]], [0, sin[0, -1, pair]], color=ORANGE, lw=1)
            one.set(aspect="equal", xticks=[], yticks=[], title="" if number else f"pair {pair}")
        row[0].set_ylabel(title)
        lengths = 2 * np.pi * factor * base ** (2 * np.arange(head_dim // 2) / head_dim)
        row[-1].semilogy(lengths)
        row[-1].axhline(positions, ls="--", color=INK, lw=0.8)
        row[-1].set(xlabel="pair" if number == len(bases) - 1 else "", ylabel="tokens a turn")
        row[-1].grid()
    return figure


@styled
def plot_attention(probs: np.ndarray, pieces: Sequence[str], title: str = "", origin: int = 0) -> Any:
    """Draw the attention of a layer, one picture a head.

    Args:
        probs: [N, T, S].
        pieces: S texts of tokens.
        title: of the whole.
        origin: first query among the keys.
    """
    N = probs.shape[0]
    side, columns = (3.1, min(N, 4)) if len(pieces) <= 12 else (4.6, min(N, 2))  # labels need room
    rows = -(-N // columns)
    figure, axes = new_figure(side * columns + 0.8, side * rows, rows, columns, squeeze=False, sharey=True)
    drawn = None
    for n, one in enumerate(axes.flat):
        if n >= N:
            one.set_visible(False)
            continue
        drawn = one.imshow(np.sqrt(probs[n]), cmap="viridis", vmin=0, vmax=1)
        label_tokens(one.xaxis, pieces, 24)
        label_tokens(one.yaxis, pieces[origin : origin + probs.shape[1]], 24)
        one.tick_params("x", rotation=90)
        one.set_title(f"head {n}")
    figure.supxlabel("key", fontsize=9)
    figure.supylabel("query", fontsize=9)
    bar = figure.colorbar(drawn, ax=axes, ticks=np.sqrt([0, 0.05, 0.25, 0.5, 1]), shrink=0.8, label="probability")
    bar.ax.set_yticklabels(["0", ".05", ".25", ".5", "1"])
    figure.suptitle(title)
    return figure


@styled
def plot_depth(lines: Mapping[str, np.ndarray], ylabel: str, every: int | None = None, log: bool = True) -> Any:
    """Draw numbers through the depth of the model.

    Args:
        lines: label -> [L] numbers.
        ylabel: what they are.
        every: global layers, every so many-th, are marked; None marks none.
        log: the scale.
    """
    figure, axes = new_figure(7.5, 3.2)
    most = max(len(values) for values in lines.values())
    for label, values in lines.items():
        axes.plot(range(len(values)), values, "o-", ms=3, label=label)
    for layer in range((every or most + 1) - 1, most, every or 1):
        axes.axvline(layer, color=INK, lw=5, alpha=0.18)
    axes.set(xlabel="layer" + (" (global ones in grey)" if every else ""), ylabel=ylabel)
    axes.set_yscale("log" if log else "linear")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid()
    figure.legend(loc="outside upper center", ncols=len(lines))
    return figure


@styled
def plot_lines(x: np.ndarray, lines: Mapping[str, np.ndarray], xlabel: str, ylabel: str) -> Any:
    """Draw functions of a number.

    Args:
        x: [n], from left to right.
        lines: label -> [n] numbers.
        xlabel, ylabel: what they are.
    """
    figure, axes = new_figure(7.5, 3.2)
    for label, values in lines.items():
        axes.plot(x, values, label=label)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.grid()
    axes.legend()
    return figure


@styled
def plot_choices(settings: Mapping[str, np.ndarray], pieces: Sequence[str]) -> Any:
    """Draw the probabilities of some tokens as bars, side by side for each setting.

    Args:
        settings: label -> [T] probabilities.
        pieces: T texts of the tokens.
    """
    figure, axes = new_figure(7.5, 3.2)
    width = 0.8 / len(settings)
    for number, (label, probs) in enumerate(settings.items()):
        axes.bar(np.arange(len(probs)) + (number - (len(settings) - 1) / 2) * width, probs, width, label=label)
    label_tokens(axes.xaxis, pieces)
    for one in axes.get_xticklabels():
        one.set(rotation=45, ha="right", rotation_mode="anchor")
    axes.set(xlabel="token", ylabel="probability")
    axes.grid(axis="y")
    axes.legend()
    return figure


@styled
def plot_codes(codes: Mapping[str, np.ndarray]) -> Any:
    """Draw the numbers that number formats can hold, a row a format, a stroke a number.

    Args:
        codes: label -> [n] numbers.
    """
    figure, axes = new_figure(8, 0.5 * len(codes) + 0.7)
    rows = -np.arange(len(codes))
    colours = [(BLUE, ORANGE)[row % 2] for row in rows]
    axes.eventplot(list(codes.values()), lineoffsets=rows, linelengths=0.7, linewidths=0.8, colors=colours)
    axes.set_yticks(rows, [f"{label}: {len(values)}" for label, values in codes.items()])
    axes.tick_params("y", length=0)
    axes.set(frame_on=False)
    return figure


@styled
def plot_positions(
    panels: Mapping[str, Mapping[str, np.ndarray]], positions: np.ndarray, ylabel: str, smooth: int = 1, mark: int = 0
) -> Any:
    """Draw numbers along a text, smoothed, in one picture or several below each other.

    Args:
        panels: title -> label -> [n] numbers; [n] is the same in all.
        positions: [n] of the tokens that they belong to.
        ylabel: what they are.
        smooth: how many neighbours a point is the mean of.
        mark: a position to be marked; 0 marks none.
    """
    figure, axes = new_figure(8.5, 2.2 * len(panels) + 0.5, rows=len(panels), squeeze=False, sharex=True)
    share = np.ones(smooth) / smooth
    places = np.convolve(positions, share, "valid")
    for one, (title, lines) in zip(axes[:, 0], panels.items(), strict=True):
        for label, values in lines.items():
            one.plot(places, np.convolve(values, share, "valid"), lw=1.2, label=label)
        if mark:
            one.axvline(mark, ls="--", color=INK, lw=0.8)
        one.set(title=title, ylabel=ylabel)
        one.grid()
        one.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    axes[-1, 0].set_xlabel(f"position, means of {smooth}" if smooth > 1 else "position")
    return figure


@styled
def plot_floors(rows: Sequence[Mapping[str, Any]], limit: float = 2.0) -> Any:
    """Draw both errors of every tap, in the order of execution, in multiples of the noise floor; but no error of 0.

    Args:
        rows: the `taps` of a report of `ref.compare`.
        limit: floors up to which a tap matches; the line.
    """
    figure, axes = new_figure(9, 3.2)
    for key, label, style in (("inherited_ratio", "inherited", "-"), ("local_ratio", "local", ".")):
        values = np.array([row[key] for row in rows], float)  # None becomes NaN
        drawn = np.flatnonzero(values)  # exact values have an error of 0, or an infinite one
        axes.semilogy(drawn, np.minimum(values[drawn], 1e9), style, lw=1.2, ms=4, label=label)
    axes.axhline(limit, ls="--", color=INK, lw=0.8)
    starts = [i for i, row in enumerate(rows) if row["tap"].endswith(".in")]
    axes.set_xticks(starts, [str(rows[i]["layer"]) for i in starts])
    axes.set(xlabel="taps, in the order of execution; where each layer begins", ylabel="floors")
    axes.grid()
    axes.legend()
    return figure
