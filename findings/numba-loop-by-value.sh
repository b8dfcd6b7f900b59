#!/usr/bin/env bash
# numba 0.68.1: with fastmath a loop over an array's values adds in one chain; the same loop by index adds in lanes.
#
# Guessed before running: `for value in x` and `for i in range(x.size)` are one loop to LLVM, and fastmath lets it reorder
# the sum in both. Seen: of 20 million float32 ones the first returns 16777216, where adding 1 in float32 changes nothing,
# the second 20000000. A kernel that is written the more readable way is neither as exact nor as fast as fastmath seems to
# promise, and two spellings of a loss or a norm do not agree.
#
# Needs Python 3.11 or newer and a package index. Fails if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q numpy==2.4.6 numba==0.68.1
"$folder/venv/bin/python" - "$folder" <<'PY'
import numba
import numpy as np


@numba.njit(fastmath=True)
def by_value(x):
    total = np.float32(0)
    for value in x:
        total += value
    return total


@numba.njit(fastmath=True)
def by_index(x):
    total = np.float32(0)
    for i in range(x.size):
        total += x[i]
    return total


ones = np.ones(20_000_000, np.float32)
sums = [float(f(ones)) for f in (by_value, by_index)]
print("by value:", sums[0], "by index:", sums[1])
assert sums[0] == 2**24, "a loop over values is reordered now"
assert sums[1] == 2e7, "a loop by index is not reordered now"
print("as found: one chain, and lanes")
PY
