#!/usr/bin/env bash
# safetensors 0.8.0 writes the same tensors and metadata to different bytes each time.
#
# Guessed before running: the header is sorted, or in the order given, so that equal contents have equal digests. Seen: the
# keys of `__metadata__` stand in an order that is drawn anew for every call, while tensors are in a fixed one. Golden
# files with more than one key of metadata have no stable sha256, and a build that should be reproducible is not.
#
# Needs Python 3.11 or newer and a package index. Fails if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q numpy==2.4.6 safetensors==0.8.0
"$folder/venv/bin/python" - "$folder" <<'PY'
import hashlib

import numpy as np
from safetensors.numpy import save

tensors = {name: np.ones(2, np.float32) for name in "abcdef"}


def digests(metadata):
    return {hashlib.sha256(save(tensors, metadata=metadata)).hexdigest() for _ in range(20)}


many, one, none = digests({name: "1" for name in "abcdef"}), digests({"a": "1"}), digests(None)
print(f"20 files: {len(many)} digests with six keys, {len(one)} with one, {len(none)} without")
assert len(many) > 10, "the order is fixed now"
assert len(one) == len(none) == 1, "tensors are in a random order now"
print("as found: metadata is written in a random order")
PY
