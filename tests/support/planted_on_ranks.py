"""Run on every rank: the example of a model cut by hand, clean and with one mistake each, as a porter's code has them.

python -m torch.distributed.run --nproc-per-node N tests/support/planted_on_ranks.py WEIGHTS DTYPE FOLDER
"""

import sys
from importlib import util
from pathlib import Path

import torch
import torch.distributed as dist

EXAMPLE = Path(__file__).parents[2] / "examples" / "sharded_dump" / "tensor_parallel.py"
IDS = [2, 5, 6, 7, 11, 3, 9, 8, 100, 42, 17, 23]
LAYER = 1


def example():
    spec = util.spec_from_file_location("tensor_parallel", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def wrong_half(layer, rank, of):
    """The last rank's queries are those of the first: both have the same half."""
    weight = layer.self_attn.q_proj.weight
    other = weight.detach().clone()
    dist.broadcast(other, 0)
    if rank == of - 1:
        layer.self_attn.q_proj.weight = torch.nn.Parameter(other, requires_grad=False)


def half_a_head(layer, rank, of):
    """The first rank's queries begin half a head too late."""
    linear, size = layer.self_attn.q_proj, layer.self_attn.head_dim
    parts = [torch.empty_like(linear.weight) for _ in range(of)]
    dist.all_gather(parts, linear.weight.detach())
    if rank == 0:
        rows = torch.cat(parts)[size // 2 : size // 2 + len(linear.weight)]
        linear.weight = torch.nn.Parameter(rows, requires_grad=False)


def twice(layer, rank, of):
    """The sum of attention is reduced twice."""
    inner = layer.self_attn.o_proj.forward

    def forward(x):
        total = inner(x)
        dist.all_reduce(total)
        return total

    layer.self_attn.o_proj.forward = forward


def left_out(layer, rank, of):
    """The last rank's part of the feed-forward is not in the sum."""

    def forward(x):
        part = down.part(x)
        total = part * (rank != of - 1)
        dist.all_reduce(total)
        return total

    down = layer.mlp.down_proj
    down.forward = forward


def not_reduced(layer, rank, of):
    """Each rank goes on with its own part."""
    layer.mlp.down_proj.forward = lambda x: layer.mlp.down_proj.part(x).clone()


def other_gain(norm):
    def plant(layer, rank, of):
        if rank == 1:
            weight = getattr(layer, norm).weight.detach().clone()
            weight[3:11] += 0.75
            getattr(layer, norm).weight = torch.nn.Parameter(weight, requires_grad=False)

    return plant


def first_is_wrong(layer, rank, of):
    """The first rank has no gain in its norm, the others are right."""
    if rank == 0:
        weight = torch.zeros_like(layer.pre_feedforward_layernorm.weight)
        layer.pre_feedforward_layernorm.weight = torch.nn.Parameter(weight, requires_grad=False)


def wrong_key_head(layer, rank, of):
    """Ranks take key heads in turn, not several ranks behind each other the same one."""
    attention = layer.self_attn
    for name in ("k_proj", "v_proj"):
        linear = getattr(attention, name)
        parts = [torch.empty_like(linear.weight) for _ in range(of)]
        dist.all_gather(parts, linear.weight.detach())
        heads = [parts[0], parts[of // 2]]  # two heads, each on half of the ranks
        linear.weight = torch.nn.Parameter(heads[rank % 2], requires_grad=False)


PLANTED = {
    "clean": lambda layer, rank, of: None,
    "wrong_half": wrong_half,
    "half_a_head": half_a_head,
    "twice": twice,
    "left_out": left_out,
    "not_reduced": not_reduced,
    "pre_norm": other_gain("input_layernorm"),
    "post_norm": other_gain("post_attention_layernorm"),
    "first_is_wrong": first_is_wrong,
}


def main(weights, dtype, folder, names):
    tp = example()
    rank, of = tp.begin()
    for name in names:
        model, held = tp.load(weights, dtype, rank, of)
        (PLANTED | {"wrong_key_head": wrong_key_head})[name](model.model.layers[LAYER], rank, of)
        tp.write(model, held, IDS, folder / name, "of several ranks", rank, of)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4:] or list(PLANTED))
