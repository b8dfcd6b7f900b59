#!/usr/bin/env bash
# torch 2.13.0 exports `x.type_as(y)` to ONNX as a Cast that does not say which module it was in; all other nodes do.
#
# Guessed before running: `torch.onnx.export(dynamo=True)` writes `pkg.torch.onnx.name_scopes` into every node. Seen: of a
# norm that computes in float32 and returns its input's format, as Gemma's and Llama's do, the last node, which makes the
# result, carries no metadata at all. "The last node of a module's scope is its output" then gives a float32 value that the
# model never hands on. In a float32 model there is no such node, which hides it.
#
# Needs Python 3.11 or newer and a package index; installs torch. Fails if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 onnx==1.23.2 onnxscript==0.7.2 numpy==2.4.6
"$folder/venv/bin/python" - 2>/dev/null <<'PY'
import torch

SCOPES = "pkg.torch.onnx.name_scopes"


class Norm(torch.nn.Module):
    def forward(self, x):
        wide = x.float()
        return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)).type_as(x)


class Outer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = Norm()

    def forward(self, x):
        return self.norm(x) + 1


exported = torch.onnx.export(Outer(), (torch.ones(2, 4, dtype=torch.bfloat16),), dynamo=True, verbose=False)
nodes = [(node.op_type, node.metadata_props.get(SCOPES)) for node in exported.model.graph]
for op, scopes in nodes:
    print(op, scopes)
without = [op for op, scopes in nodes if not scopes]
assert without == ["Cast"], f"without scopes now: {without}"
assert all("norm" in scopes for op, scopes in nodes[:-2]), "others are not where they were"
print("as found: the cast that ends the norm has no scopes")
PY
