"""Runs side by side: each is ordinary NumPy on one thread, and there are six valid ones at every tap."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import lru_cache
from typing import TypeVar

import numba
import numpy as np
from threadpoolctl import threadpool_limits

Item = TypeVar("Item")
Result = TypeVar("Result")
MOST = 6  # at once: as many as there are valid runs, so that memory does not grow with the cores


def side_by_side(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Call a function on each item, several at once.

    Args:
        function: must not write into what another item's call touches. Floating-point warnings are silent inside.
        items: what to call it on.

    Returns:
        The results, in the order of the items.

    Raises:
        Whatever the function raises first, in the order of the items.
    """

    def call(item: Item) -> Result:
        with np.errstate(all="ignore"):  # threads begin with NumPy's defaults
            return function(item)

    threads, items = at_once(), list(items)
    if threads == 1 or len(items) == 1:  # alone it may have all threads for its kernels
        return [call(item) for item in items]
    futures = [_pool(threads).submit(call, item) for item in items]
    try:
        return [future.result() for future in futures]
    finally:  # after a failure: what has not begun does not, and what runs has ended before the caller goes on
        for future in futures:
            future.cancel()
        wait(futures)


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    """Return threads that stay: of a small dump most of the time went into new ones, and into OpenMP's for each."""
    return ThreadPoolExecutor(threads, "gemma3-ref", numba.set_num_threads, (1,))


if hasattr(os, "register_at_fork"):  # Windows has none
    os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not live on in a child


def at_once() -> int:
    """Return how many calls `side_by_side` makes at one time."""
    return min(numba.get_num_threads(), MOST)


@contextmanager
def blas_for_runs() -> Iterator[None]:
    """Give BLAS one thread: runs go side by side, and no sum is to depend on how many threads there are."""
    with threadpool_limits(1, "blas"):
        yield


@contextmanager
def threads_of(count: int) -> Iterator[None]:
    """Use so many threads, or as many as there are."""
    before = numba.get_num_threads()
    numba.set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
    try:
        yield
    finally:
        numba.set_num_threads(before)
