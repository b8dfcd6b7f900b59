"""How far it is, and how long it will take: a bar on a terminal, else a line now and then, on stderr."""

import sys
import time

from ref.commands.shared import note

EVERY = 30  # seconds after which a log that is no terminal is told how far it is


class Pace:
    """How far it is.

    Args:
        what: that goes on.
        unit: what is counted.
        total: how many; None: it is told later.
        quiet: whether nothing is said of it.
    """

    def __init__(self, what: str, unit: str, total: int | None = None, quiet: bool = False):
        self.what, self.unit, self.total, self.done, self.quiet = what, unit, total, 0, quiet
        self.start = self.told = time.monotonic()

    def __enter__(self) -> "Pace":
        from tqdm import tqdm

        how = {"disable": self.quiet or None, "delay": 1, "leave": False, "file": sys.stderr}
        self.bar = tqdm(total=self.total, desc=self.what, unit=self.unit, **how)
        return self

    def __exit__(self, *_) -> None:
        self.bar.close()

    def step(self) -> None:
        """Count one more."""
        self.reach(self.done + 1, self.total or 0)

    def reach(self, done: int, total: int) -> None:
        """Be told a number of done and of all."""
        self.bar.total = self.total = total
        self.bar.update(done - self.done)
        self.done, now = done, time.monotonic()
        if done and self.bar.disable and not self.quiet and now - self.told >= EVERY and done < total:
            self.told = now
            left = (now - self.start) / done * (total - done)
            note(f"{self.what}: {done} of {total} {self.unit}s, about {_time(left)} left")

    def say(self, text: str) -> None:
        """Say something beside the bar."""
        self.bar.write(text, file=sys.stderr)


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
