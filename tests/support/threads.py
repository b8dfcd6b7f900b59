"""Running with one thread or two, in Numba and in BLAS."""

from contextlib import contextmanager

import pytest
from numba import config, get_num_threads, set_num_threads
from threadpoolctl import threadpool_limits

TWO_THREADS = pytest.mark.skipif(
    config.DISABLE_JIT or config.NUMBA_NUM_THREADS < 2, reason="Numba has one thread, or none of its own"
)


@contextmanager
def threads(count):
    """Limit Numba and BLAS to `count` threads."""
    before = get_num_threads()
    try:
        set_num_threads(count)
        with threadpool_limits(count):
            yield
    finally:
        set_num_threads(before)
