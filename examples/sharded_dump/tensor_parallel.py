"""Run Gemma 3 of transformers on several ranks, cut by hand, and write what each rank holds.

    torchrun --nproc-per-node 2 tensor_parallel.py path/to/weights dump
    gemma3-ref compare dump --weights path/to/weights

Heads and feed-forward channels lie in slices, sums of ranks are added by all-reduce, norms are replicas, the vocabulary
is cut. Fewer key heads than ranks (270M and 1B have one) are shared. Each rank writes dump/rankN; GPUs are taken where
there are any.
"""

import argparse
import os
from pathlib import Path

import torch
import torch.distributed as dist
import transformers
from torch import nn

from ref.record import Recorder  # in a copy: from record import Recorder

IDS = [2, 5, 6, 7, 11, 3, 9, 8, 100]


class RowParallel(nn.Module):
    """A linear layer whose input lies in slices: each rank's part of the sum, then the sum over ranks."""

    def __init__(self, weight):
        super().__init__()
        self.part = linear(weight)

    def forward(self, x):
        """Add this rank's part to the others'."""
        total = self.part(x).clone()
        dist.all_reduce(total)
        return total


def linear(weight):
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, dtype=weight.dtype, device="meta")
    layer.weight = nn.Parameter(weight.clone(), requires_grad=False)
    return layer


def cut(length, rank, of):
    """Return the slice of an axis that a rank holds."""
    step = -(-length // of)
    return rank * step, min((rank + 1) * step, length)


def shard(model, rank, of):
    """Leave a rank its slices of a model; return which, as the dump names them."""
    config = model.config.get_text_config()
    query, key, size = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    heads, group = cut(query, rank, of), query // key
    keys = heads[0] // group, -(-heads[1] // group)  # ranks may share a key head
    channels, words = cut(config.intermediate_size, rank, of), cut(config.vocab_size, rank, of)
    rows = lambda layer, pair, each=1: linear(layer.weight[pair[0] * each : pair[1] * each])  # noqa: E731
    columns = lambda layer, pair, each=1: RowParallel(layer.weight[:, pair[0] * each : pair[1] * each])  # noqa: E731
    for layer in model.model.layers:
        attention, mlp = layer.self_attn, layer.mlp
        attention.q_proj, attention.o_proj = rows(attention.q_proj, heads, size), columns(attention.o_proj, heads, size)
        attention.k_proj, attention.v_proj = rows(attention.k_proj, keys, size), rows(attention.v_proj, keys, size)
        attention.num_key_value_groups = (heads[1] - heads[0]) // (keys[1] - keys[0])
        mlp.gate_proj, mlp.up_proj = rows(mlp.gate_proj, channels), rows(mlp.up_proj, channels)
        mlp.down_proj = columns(mlp.down_proj, channels)
    model.lm_head = rows(model.lm_head, words)
    return {"N": heads, "K": keys, "F": channels, "V": words}


def listen(model, rec, held):
    """Record what this rank computes, under gemma3-ref's names."""

    def out(module, name, layout, **more):
        def hook(_, given, value):
            rec(name, value.cpu(), layout, **more)

        module.register_forward_hook(hook)

    def given(module, name, layout, **more):
        def hook(_, given):
            rec(name, given[0].cpu(), layout, **more)

        module.register_forward_pre_hook(hook)

    of = {axis: {"slice": {axis: pair}} for axis, pair in held.items()}
    out(model.model.embed_tokens, "text.embed", "B T D")
    for i, layer in enumerate(model.model.layers):
        attention, mlp, at = layer.self_attn, layer.mlp, f"text.layer.{i}."
        given(layer, at + "in", "B T D")
        out(layer.input_layernorm, at + "attn.pre_norm", "B T D")
        out(attention.q_proj, at + "attn.q", "B T (N H)", **of["N"])
        out(attention.k_proj, at + "attn.k", "B T (K H)", **of["K"])
        out(attention.v_proj, at + "attn.v", "B T (K H)", **of["K"])
        out(attention.q_norm, at + "attn.q_norm", "B N T H", **of["N"])
        out(attention.k_norm, at + "attn.k_norm", "B K T H", **of["K"])
        given(attention.o_proj, at + "attn.mix", "B T (N H)", **of["N"])
        out(attention.o_proj.part, at + "attn.out", "B T D", partial=True)
        out(attention.o_proj, at + "attn.out", "B T D")
        out(layer.post_attention_layernorm, at + "attn.post_norm", "B T D")
        given(layer.pre_feedforward_layernorm, at + "mid", "B T D")
        out(layer.pre_feedforward_layernorm, at + "ffn.pre_norm", "B T D")
        out(mlp.gate_proj, at + "ffn.gate", "B T F", **of["F"])
        out(mlp.up_proj, at + "ffn.up", "B T F", **of["F"])
        given(mlp.down_proj, at + "ffn.act", "B T F", **of["F"])
        out(mlp.down_proj.part, at + "ffn.out", "B T D", partial=True)
        out(mlp.down_proj, at + "ffn.out", "B T D")
        out(layer.post_feedforward_layernorm, at + "ffn.post_norm", "B T D")
    out(model.model.norm, "text.final_norm", "B T D")
    out(model.lm_head, "text.logits", "B T V", **of["V"])


def load(weights, dtype, rank, of):
    """Load a model onto this rank's device and leave it its slices."""
    device = f"cuda:{rank}" if torch.cuda.is_available() else "cpu"
    model = transformers.AutoModelForCausalLM.from_pretrained(weights, dtype=dtype, attn_implementation="eager")
    held = shard(model, rank, of)
    return model.to(device), held


def write(model, held, ids, folder, name, rank, of):
    """Run a model that was cut and write what this rank holds."""
    with Recorder(Path(folder) / f"rank{rank}", ids, weights=name, tensor=(rank, of), producer="transformers") as rec:
        listen(model, rec, held)
        with torch.no_grad():
            model(input_ids=torch.tensor([ids], device=model.device), use_cache=False)


def begin():
    """Join the ranks; return which this is, and of how many."""
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    return dist.get_rank(), dist.get_world_size()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights")
    parser.add_argument("folder")
    parser.add_argument("--ids", default=",".join(map(str, IDS)))
    parser.add_argument("--dtype", default="bfloat16")
    arguments = parser.parse_args()
    rank, of = begin()
    model, held = load(arguments.weights, arguments.dtype, rank, of)
    ids = [int(one) for one in arguments.ids.split(",")]
    write(model, held, ids, arguments.folder, arguments.weights, rank, of)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
