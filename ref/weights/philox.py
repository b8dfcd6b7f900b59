"""Random draws by their place: any stretch of a sequence, without the draws before it."""

import numpy as np

from ref.ops.jit import kernel
from ref.ops.team import Divided

BLOCK = 16  # draws that one value of the counter gives
SMALL = 2**14  # blocks; fewer do not pay for compiling the kernel or starting threads


def look_up(table: np.ndarray, key: np.ndarray, first: int, blocks: int) -> np.ndarray:
    """Replace the 16-bit draws of a counter-based generator by a table's entries.

        out[i] = table[u[16 * first + i]],    u the 16-bit draws of Philox 4x64-10, the low bits of each word first

    Args:
        table: [65536], any dtype.
        key: [2] uint64.
        first: block to begin with.
        blocks: how many, of 16 draws each.

    Returns:
        [16 * blocks] table.dtype.

    Source: Salmon et al. 2011, as NumPy implements it (`numpy.random.Philox`).
    """
    words = np.random.Philox(key=key).advance(int(first)).random_raw(4 * blocks)
    return table[words.astype("<u8", copy=False).view("<u2")]


@kernel
def _upper(a, b):
    # Of the product of two 64-bit numbers, out of four of 32-bit halves. LLVM knows the pattern and makes one
    # multiplication of it; with inline="always" it does not (5 times slower).
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    cross = (a >> half) * (b & low) + ((a & low) * (b & low) >> half)
    other = (a & low) * (b >> half) + (cross & low)
    return (a >> half) * (b >> half) + (cross >> half) + (other >> half)


@kernel
def _fill(table, key, first, out):
    bits, key_0, key_1 = np.uint64(0xFFFF), key[0], key[1]
    for block in range(out.size // BLOCK):
        a, b, c, d = np.uint64(first) + np.uint64(block + 1), np.uint64(0), np.uint64(0), np.uint64(0)
        k, m = key_0, key_1
        for _ in range(10):
            upper_a, lower_a = _upper(np.uint64(0xD2E7470EE14C6C93), a), np.uint64(0xD2E7470EE14C6C93) * a
            upper_c, lower_c = _upper(np.uint64(0xCA5A826395121157), c), np.uint64(0xCA5A826395121157) * c
            a, b, c, d = upper_c ^ b ^ k, lower_c, upper_a ^ d ^ m, lower_a
            k, m = k + np.uint64(0x9E3779B97F4A7C15), m + np.uint64(0xBB67AE8584CAA73B)
        for j in range(4):
            shift = np.uint64(16 * j)
            out[BLOCK * block + j] = table[(a >> shift) & bits]
            out[BLOCK * block + 4 + j] = table[(b >> shift) & bits]
            out[BLOCK * block + 8 + j] = table[(c >> shift) & bits]
            out[BLOCK * block + 12 + j] = table[(d >> shift) & bits]


@Divided
@kernel
def _fill_some(start, stop, table, key, first, out):
    _fill(table, key, first + start, out[BLOCK * start : BLOCK * stop])


def look_up_jit(table: np.ndarray, key: np.ndarray, first: int, blocks: int) -> np.ndarray:
    """Kernel of `look_up`: the generator itself, block by block; the same bits."""
    if blocks < SMALL:
        return look_up(table, key, first, blocks)
    out = np.empty(BLOCK * blocks, table.dtype)
    _fill_some(blocks, SMALL, table, key, first, out)
    return out
