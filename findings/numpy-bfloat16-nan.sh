#!/usr/bin/env bash
# ml_dtypes 0.6.0 with NumPy 2.4.6: sort, median and nan_to_num do not know a NaN of bfloat16.
#
# Guessed before running: as with float16: NaN is sorted to the end, the median of values with a NaN is NaN, nan_to_num
# writes 0. Seen: NaN stays where it is between sorted values, the median of five values is a number, and nan_to_num leaves
# NaN in place. NumPy asks whether the dtype is one of its own floats, and this one is not. Statistics of a broken dump
# look whole, and a clean-up cleans nothing. np.isnan and np.max are right.
#
# Needs Python 3.11 or newer and a package index. Fails if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q numpy==2.4.6 ml_dtypes==0.6.0
"$folder/venv/bin/python" - "$folder" <<'PY'
import warnings

import ml_dtypes
import numpy as np

warnings.simplefilter("ignore")  # the comparisons with NaN
half = np.array([1, np.nan, 3, 2, 5], np.float16)
brain = half.astype(ml_dtypes.bfloat16)
for name, values in (("float16: ", half), ("bfloat16:", brain)):
    print(name, "sort", np.sort(values), "median", np.median(values), "nan_to_num", np.nan_to_num(values))
assert np.isnan(np.median(half)) and np.isnan(np.sort(half)[-1]) and not np.isnan(np.nan_to_num(half)).any()
assert not np.isnan(float(np.median(brain))), "the median is NaN now"
assert not np.isnan(np.sort(brain).astype(float)[-1]), "NaN is sorted now"
assert np.isnan(np.nan_to_num(brain).astype(float)).any(), "nan_to_num works now"
assert np.isnan(float(np.max(brain)))
print("as found: three functions take NaN for a number")
PY
