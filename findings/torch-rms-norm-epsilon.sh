#!/usr/bin/env bash
# torch 2.13.0: RMSNorm's default epsilon in bfloat16 is float32's 1.2e-7, where its documentation says bfloat16's 7.8e-3.
#
# Guessed before running, and written in the documentation: eps=None means torch.finfo(x.dtype).eps, 0.0078 for bfloat16
# and 0.00098 for float16. Seen: float32's in all three. Who ports nn.RMSNorm(dim) to another framework by the
# documentation gets norms that are nine times too small for rows of 0.01. (Gemma's own epsilon is 1e-6: always write it.)
#
# Needs Python 3.10 or newer and a package index; installs torch. Fails if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0
"$folder/venv/bin/python" - "$folder" <<'PY'
import torch

for dtype in (torch.float32, torch.float16, torch.bfloat16):
    row = torch.full((1, 8), 0.01, dtype=dtype)
    got = torch.nn.RMSNorm(8, dtype=dtype)(row)[0, 0].item()
    by_documentation = 0.01 / (1e-4 + torch.finfo(dtype).eps) ** 0.5
    print(f"{str(dtype):15} {got:.4f}; with finfo's epsilon {by_documentation:.4f}")
    assert abs(got - 0.01 / (1e-4 + torch.finfo(torch.float32).eps) ** 0.5) < 5e-3, "another epsilon now"
assert "finfo" in torch.nn.RMSNorm.__doc__, "the documentation says something else now"
print("as found: float32's epsilon whatever the dtype")
PY
