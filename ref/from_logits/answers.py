"""What is known of a model's output: logits, some log-probabilities of each token, the tokens it chose; and how to read
the same off a run.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from ref.emulate.graph import Run
from ref.emulate.one_pass import OnePass
from ref.emulate.stages import Stage

TILE = 8_192  # columns of the head that are multiplied at a time
COLUMNS = 2_048  # of the logits that stand for all
CENTRED = 4  # values of a token from which on its constant is left out: log-probabilities lose the logits' own

Kind = Literal["final_norm", "logits", "log-probabilities", "greedy"]


class Known(NamedTuple):
    """What is known of one pass."""

    rows: np.ndarray  # [R] tokens of the pass
    columns: np.ndarray  # [C] of all rows, or [R, C], -1 where a row has fewer
    values: np.ndarray  # [R, C] float; NaN is not known. Of greedy tokens 0: how far they are below the largest


class Answer(NamedTuple):
    """What is known of all passes."""

    kind: Kind
    known: tuple[Known, ...]
    step: float = 0.0  # that the values were rounded to when they were written

    @property
    def tokens(self) -> int:
        """Tokens of which something is known."""
        return sum(len(one.rows) for one in self.known)

    @property
    def numbers(self) -> int:
        """Values that are known."""
        return sum(int(np.isfinite(one.values).sum()) for one in self.known)

    @property
    def values(self) -> np.ndarray:
        """[R, C] of all passes, comparable with `read`."""
        return self._joined([one.values for one in self.known])

    def beginning(self, tokens: int) -> "Answer":
        """Return what is known of the first tokens of the first pass."""
        first = self.known[0]
        here = first.rows < tokens
        columns = first.columns if first.columns.ndim == 1 else first.columns[here]
        return self._replace(known=(Known(first.rows[here], columns, first.values[here]),))

    def read(self, several: Sequence[Sequence[Run]]) -> list[np.ndarray]:
        """Read what is known off runs.

        Args:
            several: of each candidate the run of each pass, from `ref.from_logits.runs.run_all`.

        Returns:
            [R, C] of each candidate.
        """
        by_pass = [_read(self.kind, one, [runs[i] for runs in several]) for i, one in enumerate(self.known)]
        return [self._joined(parts) for parts in zip(*by_pass, strict=True)]

    def _joined(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """Put passes below each other; the constant of each token is left out where it may be lost."""
        width = max(part.shape[1] for part in parts)
        padded = [np.pad(part, ((0, 0), (0, width - part.shape[1])), constant_values=np.nan) for part in parts]
        values = np.concatenate(padded).astype(np.float64, copy=False)
        return centred(values) if self.kind in ("logits", "log-probabilities") else values


def centred(values: np.ndarray) -> np.ndarray:
    """Take each token's mean off its values, where it has several.

    Args:
        values: [R, C]; NaN is not known.
    """
    there = np.isfinite(values)
    count = there.sum(axis=1, keepdims=True)
    mean = np.where(there, values, 0).sum(axis=1, keepdims=True) / np.maximum(count, 1)
    return np.where(count >= CENTRED, values - mean, values)


def some_columns(vocabulary: int) -> np.ndarray:
    """List the columns of the logits that stand for all, spread evenly."""
    return np.unique(np.linspace(0, vocabulary - 1, min(vocabulary, COLUMNS)).astype(np.int64))


def _read(kind: Kind, known: Known, runs: Sequence[Run]) -> list[np.ndarray]:
    """Read one pass off the runs of every candidate: [R, C] each."""
    if kind == "final_norm":
        return [run.value("text.final_norm")[0, known.rows][:, known.columns] for run in runs]
    if kind == "logits":
        narrow = _head(runs[0], known.columns)
        return [_logits(run, known.rows, narrow) for run in runs]
    if kind == "log-probabilities" and np.isfinite(known.values).sum(axis=1).min(initial=CENTRED) >= CENTRED:
        return _listed(known, runs)
    return _normalised(kind, known, runs)


def _head(run: Run, columns: slice | np.ndarray) -> OnePass:
    """Return a pass with some rows of the head in the dtype of a run, widened once for all."""
    return run.one_pass.narrowed(columns, run.arithmetic.dtype)


def _logits(run: Run, rows: np.ndarray, narrow: OnePass) -> np.ndarray:
    """Compute logits of some tokens and columns, by the candidate's own rule."""
    other = Run(run.one_pass._replace(text=narrow.text, held=narrow.held), run.arithmetic, mutant=run.mutant)
    other.memo["text.final_norm"] = run.memo["text.final_norm"][:, rows]
    other.enter(Stage("logits"), narrow.text)
    return other.value("text.logits")[0]


def _listed(known: Known, runs: Sequence[Run]) -> list[np.ndarray]:
    """Read the logits of the columns that each token lists."""
    columns, places = np.unique(known.columns[known.columns >= 0], return_inverse=True)
    place = np.zeros(known.columns.shape, np.int64)
    place[known.columns >= 0] = places
    narrow = _head(runs[0], columns)
    out = []
    for run in runs:
        logits = np.take_along_axis(_logits(run, known.rows, narrow), place, axis=1)
        out.append(np.where(np.isfinite(known.values), logits, np.nan))
    return out


def _normalised(kind: Kind, known: Known, runs: Sequence[Run]) -> list[np.ndarray]:
    """Read log-probabilities, or how far below the largest logit a token is: both need the whole vocabulary.

    The distance of greedy tokens is in standard deviations of the token's logits: which is largest says nothing of a
    scale, and a mistake that makes all logits small would else bring every token near the largest.
    """
    vocabulary, rows = runs[0].one_pass.head.shape[0], len(known.rows)
    most, total = np.full((len(runs), rows, 1), -np.inf), np.zeros((len(runs), rows, 1))
    mean, spread = np.zeros_like(total), np.zeros_like(total)
    found = np.full((len(runs), *known.columns.shape), np.nan)
    for start in range(0, vocabulary, TILE):
        narrow = _head(runs[0], slice(start, start + TILE))
        here = (known.columns >= start) & (known.columns < start + narrow.head.shape[0])
        place = np.where(here, known.columns - start, 0)
        for number, run in enumerate(runs):
            logits = _logits(run, known.rows, narrow).astype(np.float64, copy=False)
            larger = np.maximum(most[number], logits.max(axis=1, keepdims=True))
            if kind == "greedy":
                mean[number] += logits.sum(axis=1, keepdims=True) / vocabulary
                spread[number] += np.square(logits).sum(axis=1, keepdims=True) / vocabulary
            else:
                share = np.exp(logits - larger).sum(axis=1, keepdims=True)
                total[number] = total[number] * np.exp(most[number] - larger) + share
            most[number] = larger
            found[number] = np.where(here, np.take_along_axis(logits, place, axis=1), found[number])
    if kind == "greedy":
        deviation = np.sqrt(np.maximum(spread - np.square(mean), 0))
        return list(np.divide(most - found, deviation, out=np.full_like(found, np.inf), where=deviation > 0))
    return list(found - most - np.log(total))


def largest_at(run: Run, row: int) -> int:
    """Return the token that a run finds most probable after one of its tokens.

    Args:
        run: from `ref.from_logits.runs.run_all`.
        row: of the token.
    """
    best, most = 0, -np.inf
    for start in range(0, run.one_pass.head.shape[0], TILE):
        logits = _logits(run, np.array([row]), _head(run, slice(start, start + TILE)))[0]
        if logits.max() > most:
            best, most = start + int(logits.argmax()), float(logits.max())
    return best
