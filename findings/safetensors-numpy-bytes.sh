#!/usr/bin/env bash
# safetensors 0.8.0: safetensors.numpy.load(bytes) has no bfloat16, which load_file of the same module reads.
#
# Guessed before running: two ways into one table of dtypes, so that both read it; and what `save` writes, `load` reads.
# Seen: save and load_file know bfloat16 (as ml_dtypes'), load raises KeyError: 'BF16'. A test that keeps its files in
# memory, or reads them from a zip or a URL, says that a good file is broken.
#
# Needs Python 3.11 or newer and a package index. Fails if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q numpy==2.4.6 ml_dtypes==0.6.0 safetensors==0.8.0
"$folder/venv/bin/python" - "$folder" <<'PY'
import pathlib
import sys

import ml_dtypes
import numpy as np
from safetensors.numpy import load, load_file, save

data = save({"array": np.ones(2, ml_dtypes.bfloat16)})
path = pathlib.Path(sys.argv[1]) / "array.safetensors"
path.write_bytes(data)
print("load_file:", load_file(path)["array"].dtype)
assert load_file(path)["array"].dtype == ml_dtypes.bfloat16
try:
    load(data)
except KeyError as error:
    print("load: KeyError", error)
else:
    raise SystemExit("load reads bfloat16 now")
print("as found: only load_file reads bfloat16")
PY
