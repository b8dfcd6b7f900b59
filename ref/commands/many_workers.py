"""Many dumps judged side by side: each whole, by a process of its own, some ahead of the one whose turn it is."""

from __future__ import annotations

import multiprocessing
from argparse import Namespace
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

WEIGHTS = 4  # of how many weights the last ones are kept open
PLAIN = (str, int, float, bool, list, Path, type(None))  # flags that can go to another process
Found = tuple[dict[str, Any], dict[tuple[int, str], dict[str, list[float]]]]
Judge = Callable[[Any, str], Found]


@contextmanager
def by_workers(args: Any, paths: Sequence[Path], judge: Judge) -> Iterator[Judge]:
    """Yield what judges dumps one after the other, as --workers says.

    Args:
        args: the command line.
        paths: of the dumps, in the order in which they will be asked for.
        judge: (args, dump) -> (report, profiles), a function of a module.
    """
    if (args.workers or 1) == 1:
        yield judge
        return
    workers = _Workers(args, paths, judge)
    try:
        yield lambda _, path: workers.found(path)
    finally:
        workers.pool.shutdown(wait=True, cancel_futures=True)


class _Workers:
    def __init__(self, args: Any, paths: Sequence[Path], judge: Judge):
        import numba  # not at the top: the command line is read before it is loaded

        self.judge, self.count = judge, args.workers
        self.settings = {key: value for key, value in vars(args).items() if isinstance(value, PLAIN)}
        self.settings |= {"workers": None, "quiet": True, "planned": {}}
        self.threads = max(1, numba.get_num_threads() // self.count)
        self.left, self.begun = deque(str(path) for path in paths), deque[tuple[str, Future[Found]]]()
        self.pool = self._pool()

    def found(self, path: str) -> Found:
        """Return what was found in the next dump; others have begun meanwhile."""
        while self.left and len(self.begun) < 2 * self.count:
            self._begin(self.left.popleft())
        asked, future = self.begun.popleft()
        assert asked == path
        try:
            return future.result()
        except BrokenExecutor:
            self._renew()
            return self.pool.submit(in_worker, self.judge, self.settings, path).result()  # once more, by itself

    def _begin(self, path: str) -> None:
        self.begun.append((path, self.pool.submit(in_worker, self.judge, self.settings, path)))

    def _renew(self) -> None:
        """Take other processes in the place of those that died, and begin anew what they had not finished."""
        self.pool.shutdown(wait=False, cancel_futures=True)
        self.pool, waiting = self._pool(), [path for path, _ in self.begun]
        self.begun.clear()
        for path in waiting:
            self._begin(path)

    def _pool(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(self.count, context, use_threads, (self.threads,))


def use_threads(count: int) -> None:
    """Set the threads of a process."""
    import numba

    numba.set_num_threads(count)


def in_worker(judge: Judge, settings: dict[str, Any], path: str) -> Found:
    """Judge one dump as the command line says; weights stay open for the next."""
    return judge(Namespace(**settings, load=_load()), path)


@cache
def _load() -> Callable[..., Any]:
    from ref.weights.resolve import load

    return lru_cache(WEIGHTS)(load)
