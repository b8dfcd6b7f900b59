"""Matrix products by BLAS whose bits depend on neither the number of threads nor the tiles a weight is widened in.

A BLAS library that splits a product over threads gives each another edge, and edges are summed in another order: on one
processor the bits agree, on the next a fifth of them do not. So each call here has one thread and a block of outputs of
fixed length; the blocks go side by side.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from threading import Lock

import numpy as np
from numba import get_num_threads
from threadpoolctl import ThreadpoolController

FOUR = 4  # blocks are as many as a multiple of it, so that two or four threads have the same to do
LENGTH, STEP = 256, 16  # outputs of a block: about so many, and a multiple of what BLAS takes at once
SMALL = 2**22  # products of numbers up to which one thread is as fast as several


class _OneThread:
    """Keeps BLAS at one thread while anybody needs it so; what was set before comes back with the last to leave."""

    def __init__(self) -> None:
        self.lock, self.inside, self.before = Lock(), 0, []
        self.libraries = ThreadpoolController().select(user_api="blas").lib_controllers

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self.lock:
            if self.inside == 0:
                self.before = [library.num_threads for library in self.libraries]
                self.set([1] * len(self.libraries))
            self.inside += 1
        try:
            yield
        finally:
            with self.lock:
                self.inside -= 1
                if self.inside == 0:
                    self.set(self.before)

    def set(self, counts) -> None:
        for library, count in zip(self.libraries, counts, strict=True):
            # from 3.8 on threadpoolctl lets one thread of Python set a number, and does nothing for others
            getattr(library, "_real_set_num_threads", library.set_num_threads)(count)


_FIRST = Lock()  # two threads that come first must not make two


@cache
def _made() -> _OneThread:
    return _OneThread()


def _one_thread() -> _OneThread:
    with _FIRST:
        return _made()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    one = _one_thread()  # OpenMP has a number for each thread that calls it
    return ThreadPoolExecutor(threads, initializer=lambda: one.set([1] * len(one.libraries)))


def _forget() -> None:
    """Begin anew in a forked child: it has none of the threads, and perhaps a lock that nobody will open."""
    global _FIRST
    _FIRST = Lock()
    _made.cache_clear()
    _pool.cache_clear()


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing is forked
    os.register_at_fork(after_in_child=_forget)


def block_of(outputs: int) -> int:
    """Return how many outputs of a matrix are multiplied by one call; it depends on nothing else."""
    blocks = FOUR * max(1, round(outputs / (FOUR * LENGTH)))
    return -(-outputs // (blocks * STEP)) * STEP


def multiply(rows: np.ndarray, weight: np.ndarray, out: np.ndarray, block: int) -> None:
    """Multiply by the transpose of a matrix, into an array.

        out[t, o] = sum_i rows[t, i] * weight[o, i]

    Args:
        rows: [T, I] float.
        weight: [O, I] of the same dtype.
        out: [T, O] of the same dtype, written to.
        block: outputs of a call: `block_of` the whole matrix, also where `weight` is a tile of it.

    Rounding: sums in that dtype, in the order of BLAS on one thread for T rows and `block` outputs.
    Differs: `np.matmul` hands all threads to BLAS.
    """
    inputs = weight.shape[1]
    starts = range(0, weight.shape[0], block)

    def several(here) -> None:
        for start in here:
            outputs = slice(start, start + block)
            np.matmul(rows, weight[outputs].T, out=out[:, outputs])

    threads = min(get_num_threads(), len(starts)) if rows.shape[0] * weight.shape[0] * inputs > SMALL else 1
    with _one_thread()():
        if threads <= 1:
            several(starts)
            return
        shares = [starts[first::threads] for first in range(threads)]
        others = [_pool(threads - 1).submit(several, share) for share in shares[1:]]
        several(shares[0])
        for other in others:
            other.result()
