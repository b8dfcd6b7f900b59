"""Mistakes in how the rows of attention's projections are read: heads, keys and values."""

import numpy as np

from ref.emulate.graph import LAYER
from ref.mutants.base import TapMutant
from ref.mutants.needs import Needs


def _by_channel(x):
    """Read [.., N, H] as if it lay as [.., H, N]."""
    return np.ascontiguousarray(np.swapaxes(x, -1, -2)).reshape(*x.shape[:2], -1)


def _heads_last(field, count):
    def rule(at):
        flat = at.ops.linear(at["attn.pre_norm"], getattr(at.weights, field))
        heads = getattr(at.config, count)
        return np.ascontiguousarray(np.swapaxes(flat.reshape(*flat.shape[:2], -1, heads), -1, -2))

    return rule


def _projected(field, count):
    def rule(at):
        y = at.ops.linear(at["attn.pre_norm"], getattr(at.weights, field))
        return y.reshape(*y.shape[:2], getattr(at.config, count), -1)

    return rule


HEAD_MUTANTS = [
    TapMutant(
        name="q_heads_transposed",
        what="The query projection's rows are read as [H, N] instead of [N, H].",
        needs=Needs(query_heads=2),
        rules={LAYER + "attn.q": _heads_last("q", "query_heads")},
    ),
    TapMutant(
        name="kv_heads_transposed",
        what="The key and value projections' rows are read as [H, K].",
        needs=Needs(kv_heads=2),
        rules={LAYER + "attn.k": _heads_last("k", "kv_heads"), LAYER + "attn.v": _heads_last("v", "kv_heads")},
    ),
    TapMutant(
        name="kv_swapped",
        what="Keys come out of the value projection and the reverse: a fused array read wrongly.",
        needs=Needs(),
        rules={LAYER + "attn.k": _projected("v", "kv_heads"), LAYER + "attn.v": _projected("k", "kv_heads")},
    ),
    TapMutant(
        name="mix_heads_transposed",
        what="The output projection is given [H, N] instead of [N, H].",
        needs=Needs(query_heads=2),
        rules={LAYER + "attn.out": lambda at: at.ops.linear(_by_channel(at["attn.mix"]), at.weights.attn_out)},
    ),
]
