"""The operations of Gemma 3, and the two sets of them that a run chooses from: DEFINITION and KERNEL."""

from typing import Any, NamedTuple

from ref.ops.attend import attend, attend_jit
from ref.ops.attention import mix, mix_jit, scores, scores_jit, softmax, softmax_jit
from ref.ops.gelu import geglu, geglu_jit, gelu_tanh, gelu_tanh_jit
from ref.ops.linear import embed, embed_jit, linear, linear_jit
from ref.ops.norm import layer_norm, layer_norm_jit, rms_norm, rms_norm_jit
from ref.ops.patches import average_pool, average_pool_jit
from ref.ops.rope import rotate, rotate_jit
from ref.ops.sampling import filtered_probs, filtered_probs_jit


class Ops(NamedTuple):
    """One callable an op; the composition in `ref.model` is written once over this argument."""

    embed: Any
    rms_norm: Any
    linear: Any
    rotate: Any
    scores: Any
    softmax: Any
    mix: Any
    attend: Any
    geglu: Any
    filtered_probs: Any
    average_pool: Any
    layer_norm: Any
    gelu: Any


# fmt: off
DEFINITION = Ops(embed, rms_norm, linear, rotate, scores, softmax, mix, attend, geglu, filtered_probs, average_pool,
                 layer_norm, gelu_tanh)
KERNEL = Ops(embed_jit, rms_norm_jit, linear_jit, rotate_jit, scores_jit, softmax_jit, mix_jit, attend_jit, geglu_jit,
             filtered_probs_jit, average_pool_jit, layer_norm_jit, gelu_tanh_jit)
