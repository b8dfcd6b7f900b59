"""What Hypothesis draws: layouts of prompts in a batch, and shapes of attention."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

from ref.ops.visibility import prompt_starts


class Layout(NamedTuple):
    """A batch of rows, each left pads followed by packed prompts; all rows have T tokens."""

    lengths: tuple[tuple[int, ...], ...]
    left_pads: tuple[int, ...]

    @property
    def first(self) -> np.ndarray:
        """[B, T], as the model is told."""
        return prompt_starts(self.lengths, self.left_pads)[0]

    @property
    def prompts(self) -> list[list[int | None]]:
        """Whose prompt each token is, None for a pad: the oracle's form, made without `prompt_starts`."""
        rows = []
        for lengths, pads in zip(self.lengths, self.left_pads, strict=True):
            names = [name for name, length in enumerate(lengths) for _ in range(length)]
            rows.append([None] * pads + names)
        return rows


def _cut(total: int, cuts: list[int]) -> tuple[int, ...]:
    points = [0, *sorted({cut for cut in cuts if 0 < cut < total}), total]
    return tuple(b - a for a, b in pairwise(points))


@st.composite
def layouts(draw, max_tokens=24, max_rows=3, packed=True):
    """Layouts of 1 to `max_rows` rows of 1 to `max_tokens` tokens, each row with at least one real token."""
    tokens = draw(st.integers(1, max_tokens))
    rows = draw(st.integers(1, max_rows))
    pads = tuple(draw(st.integers(0, tokens - 1)) for _ in range(rows))
    cuts = st.lists(st.integers(1, max_tokens), max_size=3 if packed else 0)
    return Layout(tuple(_cut(tokens - pad, draw(cuts)) for pad in pads), pads)


class ImageLayout(NamedTuple):
    """A layout, and which of its real tokens are soft tokens."""

    layout: Layout
    soft: np.ndarray  # [B, T] bool


@st.composite
def image_layouts(draw, **bounds):
    """Layouts in which runs of soft tokens stand anywhere: first, last, touching a border of two prompts, or none."""
    layout = draw(layouts(**bounds))
    soft = np.zeros(layout.first.shape, bool)
    for row, prompts in zip(soft, layout.prompts, strict=True):
        for _ in range(draw(st.integers(0, 3))):
            begin = draw(st.integers(0, len(row) - 1))
            row[begin : begin + draw(st.integers(1, 12))] = True
        row &= np.array([prompt is not None for prompt in prompts])
    return ImageLayout(layout, soft)


windows = st.one_of(st.none(), st.integers(1, 30))
seeds = st.integers(0, 2**32 - 1)
dtypes = st.sampled_from([np.float32, np.float64])


class AttentionCase(NamedTuple):
    """Queries, keys, values and what each query sees."""

    q: np.ndarray
    k: np.ndarray
    v: np.ndarray
    visible: np.ndarray
    scale: float


@st.composite
def attention_cases(draw, max_tokens=150, dtype=np.float64):
    """Attention over random arrays: any number of queries and keys, some ranges empty."""
    B, K, G = draw(st.integers(1, 2)), draw(st.integers(1, 3)), draw(st.integers(1, 5))
    S, H = draw(st.integers(1, max_tokens)), draw(st.sampled_from([2, 4, 10, 16]))
    T = draw(st.integers(1, min(S, 20)))
    random = np.random.default_rng(draw(seeds))
    ends = np.sort(random.integers(0, S + 1, (B, T, 2)), axis=-1)  # start == stop: sees nothing
    q, k, v = (random.standard_normal(shape).astype(dtype) for shape in [(B, T, K * G, H), (B, S, K, H), (B, S, K, H)])
    return AttentionCase(q, k, v, ends, H**-0.5)


@st.composite
def chunkings(draw, total):
    """Cut `total` tokens into passes: 1 token, several, or all at once."""
    return _cut(total, draw(st.lists(st.integers(1, total), max_size=8)))
