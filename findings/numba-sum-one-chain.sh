#!/usr/bin/env bash
# numba 0.68.1: np.sum and np.mean inside @njit add in one chain; of 20 million float32 ones the mean is 0.839.
#
# Guessed before running: numba compiles NumPy's function, so that it sums pairwise like NumPy and the mean is 1. Seen: the
# sum stops at 16777216 = 2^24, where adding 1 in float32 changes nothing. Long before, at 10^5
# random values, the error of a compiled mean (a loss, a mean of squares) is 150 times that of the same line uncompiled: a
# test that holds one against the other finds a bug that is none.
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


def mean(values):
    return np.mean(values)


ones = np.ones(20_000_000, np.float32)
compiled = numba.njit(mean)(ones)
print("NumPy:", mean(ones), "numba:", compiled)
assert mean(ones) == 1
assert abs(compiled - 2**24 / 2e7) < 1e-6, "another order now"
print("as found: one chain of additions")
PY
