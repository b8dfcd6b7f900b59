#!/usr/bin/env bash
# mlx 0.32.4 writes `"__metadata__": null` into the header of every safetensors file that is saved without metadata.
#
# Guessed before running: the key is left out, or holds {}. The format's description has it as a map from string to
# string (huggingface/safetensors, README, "Format"), so that a reader which checks the header by that refuses the file.
# Seen: {"__metadata__":null,"a":{...}}. The safetensors package itself takes null for nothing and opens it.
#
# Needs Linux on x86-64 or a Mac, Python 3.10 or newer and a package index. Fails if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
extra=""; [ "$(uname)" = Linux ] && extra="[cpu]"
"$folder/venv/bin/pip" install -q "mlx$extra==0.32.4" safetensors==0.8.0 numpy==2.4.6
"$folder/venv/bin/python" - "$folder/a.safetensors" <<'PY'
import json, struct, sys

import mlx.core as mx
from safetensors import safe_open

mx.save_safetensors(sys.argv[1], {"a": mx.zeros((2,))})
data = open(sys.argv[1], "rb").read()
(length,) = struct.unpack("<Q", data[:8])
header = json.loads(data[8 : 8 + length])
print("header:", json.dumps(header))
assert "__metadata__" in header, "the key is left out now"
assert header["__metadata__"] is None, header["__metadata__"]
with safe_open(sys.argv[1], "numpy") as file:
    assert list(file.keys()) == ["a"] and file.metadata() is None
print("as found: the key is there and null; the safetensors package opens the file")
PY
