"""The operations of Gemma 3, and the two sets of them that a run chooses from: DEFINITION and KERNEL."""

from collections.abc import Callable
from typing import NamedTuple

from ref.ops.attend import attend, attend_jit
from ref.ops.attention import mix, mix_jit, scores, scores_jit, softmax, softmax_jit
from ref.ops.gelu import geglu, geglu_jit, gelu_tanh, gelu_tanh_jit
from ref.ops.linear import embed, embed_jit, linear, linear_jit, linears, linears_jit
from ref.ops.norm import layer_norm, layer_norm_jit, rms_norm, rms_norm_jit
from ref.ops.patches import average_pool, average_pool_jit
from ref.ops.rope import rotate, rotate_jit
from ref.ops.sampling import filtered_probs, filtered_probs_jit


class Ops(NamedTuple):
    """One callable per op; the composition in `ref.model` is written once over this argument."""

    embed: Callable
    rms_norm: Callable
    linear: Callable
    linears: Callable
    rotate: Callable
    scores: Callable
    softmax: Callable
    mix: Callable
    attend: Callable
    geglu: Callable
    filtered_probs: Callable
    average_pool: Callable
    layer_norm: Callable
    gelu: Callable


DEFINITION = Ops(
    embed=embed,
    rms_norm=rms_norm,
    linear=linear,
    linears=linears,
    rotate=rotate,
    scores=scores,
    softmax=softmax,
    mix=mix,
    attend=attend,
    geglu=geglu,
    filtered_probs=filtered_probs,
    average_pool=average_pool,
    layer_norm=layer_norm,
    gelu=gelu_tanh,
)
KERNEL = Ops(
    embed=embed_jit,
    rms_norm=rms_norm_jit,
    linear=linear_jit,
    linears=linears_jit,
    rotate=rotate_jit,
    scores=scores_jit,
    softmax=softmax_jit,
    mix=mix_jit,
    attend=attend_jit,
    geglu=geglu_jit,
    filtered_probs=filtered_probs_jit,
    average_pool=average_pool_jit,
    layer_norm=layer_norm_jit,
    gelu=gelu_tanh_jit,
)
