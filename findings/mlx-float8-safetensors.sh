#!/usr/bin/env bash
# mlx 0.32.4 loads a float8 tensor of a safetensors file as uint8, without a word.
#
# Guessed before running: it raises, since it has no float8 dtype. Seen: F8_E4M3 becomes uint8; 1.0 and 2.0 are 56 and 64.
# Arithmetic goes on with them as numbers, since uint8 is promoted to any float. mx.from_fp8 makes them right.
#
# Needs Linux on x86-64 or a Mac, Python 3.11 or newer and a package index. Fails if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
extra=""; [ "$(uname)" = Linux ] && extra="[cpu]"
"$folder/venv/bin/pip" install -q "mlx$extra==0.32.4" safetensors==0.8.0 numpy==2.4.6
"$folder/venv/bin/python" - "$folder" <<'PY'
import json
import pathlib
import struct
import sys

import mlx.core as mx

header = json.dumps({"a": {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}}).encode()
path = pathlib.Path(sys.argv[1]) / "a.safetensors"
path.write_bytes(struct.pack("<Q", len(header)) + header + bytes([0x38, 0x40]))  # 1 and 2
array = mx.load(str(path))["a"]
print(array, (array * mx.array([1.0, 1.0])).tolist())
assert array.dtype == mx.uint8 and array.tolist() == [56, 64], "another dtype now"
assert mx.from_fp8(array, mx.float32).tolist() == [1, 2]
print("as found: the bits are taken for whole numbers")
PY
