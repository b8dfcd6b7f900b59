"""The rows of a batch on their way into a dump: all are written as they are heard, and listed one after another."""

from pathlib import Path
from typing import Any

import numpy as np

from ref.dump.write import DumpWriter
from ref.dump.write_pass import PassWriter


class NoWriter:
    """Stands for the dump, and for each of its passes, on the ranks that write none."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __enter__(self) -> "NoWriter":
        return self

    def __exit__(self, *_) -> None:
        """Nothing is there to be completed."""

    def begin_pass(self) -> "NoWriter":
        """Begin a pass."""
        return self

    def add_tensor(self, name: str, value: np.ndarray, *_) -> None:
        """Let a value go."""

    def end(self, row: dict[str, Any], pixels: np.ndarray | None = None) -> dict[str, Any]:
        """End the pass."""
        return row

    def list_pass(self, ended: dict[str, Any]) -> None:
        """Let a pass go."""


class Rows:
    """Writes the passes of a batch's rows; in the dump the passes of one row stand together.

    Args:
        writer: the dump.
        count: B.
    """

    def __init__(self, writer: DumpWriter | NoWriter, count: int):
        self.writer, self.count = writer, count
        self.now: list[PassWriter | NoWriter] = []
        self.ended: list[list[dict[str, Any]]] = [[] for _ in range(count)]

    def keep(self, row: int, name: str, value: np.ndarray) -> None:
        """Write a value of the pass that is running."""
        self._open()[row].add_tensor(name, value)

    def end_pass(self, rows: list[dict[str, Any]], pixels: list[np.ndarray | None]) -> None:
        """End the pass; of each row what the dump says of it, and its pixels."""
        for one, about, seen, ended in zip(self._open(), rows, pixels, self.ended, strict=True):
            ended.append(one.end(about, seen))
        self.now = []

    def finish(self) -> None:
        """List the passes."""
        for ended in self.ended:
            for one in ended:
                self.writer.list_pass(one)

    def _open(self) -> list[PassWriter | NoWriter]:
        self.now = self.now or [self.writer.begin_pass() for _ in range(self.count)]
        return self.now
