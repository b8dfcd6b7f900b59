"""The rows of a batch on their way into a dump: one streams, several wait for each other."""

from pathlib import Path
from typing import Any

import numpy as np

from ref.dump.write import DumpWriter


class NoWriter:
    """Stands for the dump on the ranks that write none; as `DumpWriter`."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __enter__(self) -> "NoWriter":
        return self

    def __exit__(self, *_) -> None:
        """Nothing is there to be completed."""

    def add_tensor(self, name: str, value: np.ndarray, *_) -> None:
        """Let a value go."""

    def add_pass(self, *_) -> None:
        """Let a pass go."""

    def end_pass(self, *_) -> None:
        """Let a pass go."""


class Rows:
    """Streams the only row of a batch to the dump; of several holds all, and writes one after another.

    Args:
        writer: the dump.
        count: B.
    """

    def __init__(self, writer: DumpWriter | NoWriter, count: int):
        self.writer, self.count = writer, count
        self.now: list[dict[str, np.ndarray]] = [{} for _ in range(count)]
        self.held: list[list[tuple]] = [[] for _ in range(count)]

    def keep(self, row: int, name: str, value: np.ndarray) -> None:
        """Take a value of the pass that is running."""
        if self.count == 1:
            self.writer.add_tensor(name, value)
        else:
            self.now[row][name] = np.array(value)  # a framework may write over the one that it gave

    def end_pass(self, rows: list[dict[str, Any]], pixels: list[np.ndarray | None]) -> None:
        """End the pass; of each row what the dump says of it, and its pixels."""
        for row, (about, seen) in enumerate(zip(rows, pixels, strict=True)):
            if self.count == 1:
                self.writer.end_pass(about, seen)
            else:
                self.held[row].append((self.now[row], about, seen))
                self.now[row] = {}

    def finish(self) -> None:
        """Write what was held."""
        for passes in self.held:
            for tensors, about, pixels in passes:
                self.writer.add_pass(tensors, about, pixels)
