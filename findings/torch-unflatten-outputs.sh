#!/usr/bin/env bash
# torch 2.13.0: `torch.export.unflatten` gives a float32 norm two outputs, the first of which is its input; and the arguments
# of a module come in another order.
#
# Guessed before running: a module of an unflattened program is called with what the original was called with, and returns
# what it returned. Seen: of a norm that computes in float32, as Gemma's and Llama's do, `x.float()` of a float32 x is x
# itself, which the residual reads later; so the norm returns (x, result), and a hook that takes `output[0]` of several hears
# x. A block that is called with (x, angles) is called with (angles, x). In bfloat16 the norm has one output. Whoever listens
# to modules of an exported model compares wrong values, and finds a bug that is none.
#
# Needs Python 3.11 or newer and a package index; installs torch. Fails if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - 2>/dev/null <<'PY'
import torch


class Norm(torch.nn.Module):
    def forward(self, x):
        wide = x.float()
        return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)).type_as(x)


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.linear = Norm(), torch.nn.Linear(8, 8)

    def forward(self, x, angles):
        return x + self.linear(self.norm(x) * angles.cos())


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.blocks = torch.nn.Linear(8, 8), torch.nn.ModuleList(Block() for _ in range(2))

    def forward(self, x):
        angles, x = x * 0.1, self.embedding(x)
        for block in self.blocks:
            x = block(x, angles)
        return x


def heard(model, x):
    """Run a model; return what the second block is given, and what its norm returns."""
    values = {}
    block = model.get_submodule("blocks.1")
    block.register_forward_pre_hook(lambda module, args: values.update(given=args))
    block.norm.register_forward_hook(lambda module, args, out: values.update(out=out, into=args[0]))
    model(x)
    return values


def unflattened(dtype):
    torch.manual_seed(0)
    model, x = Model().to(dtype).eval(), torch.randn(3, 8, dtype=dtype)
    flat = torch.export.unflatten(torch.export.export(model, (x,)))
    return heard(model, x), heard(flat, x)


own, flat = unflattened(torch.float32)
print("norm of the model:", type(own["out"]).__name__, "| unflattened:", type(flat["out"]).__name__, len(flat["out"]))
first, second = flat["out"]
assert torch.equal(first, own["into"]) and torch.allclose(second, own["out"]), "the norm's own result comes first now"
assert torch.equal(flat["given"][0], own["given"][1]), "the arguments of a block are in their order now"
narrow, flat = unflattened(torch.bfloat16)
assert torch.equal(flat["out"], narrow["out"]), "in bfloat16, too, now"
print("as found: output[0] of an unflattened norm is its input")
PY
