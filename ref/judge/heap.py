"""Freed memory is kept: a judgement frees large arrays and asks for the like again, thousands of times."""

import ctypes
import sys

TRIM, PAD, MMAP_MAX = -1, -2, -4  # of glibc's mallopt
MOST, STEP = 2**31 - 1, 2**26


def keep_freed_memory() -> bool:
    """Have the C library keep what is freed, for the next who asks; tell whether it does.

    By default each large array is mapped anew, and the system clears its pages each time: a tenth of a judgement. Done
    by processes that do nothing else, the command and its workers.

    Source: glibc's mallopt(3); other C libraries are left as they are.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return all([mallopt(MMAP_MAX, 0), mallopt(TRIM, MOST), mallopt(PAD, STEP)])
