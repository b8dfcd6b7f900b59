"""Ordinary low-precision arithmetic: the operations as implementations really run them, by policy and in any order.

Arrays are float32 and hold values of the policy's format; each function rounds where the policy says. The reference's
own kernels are no measure of what float32 must cost, since they are wider inside.
"""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from ref.emulate.operands import as_it_is
from ref.emulate.operations import Operations
from ref.emulate.policy import Policy
from ref.ops import KERNEL
from ref.ops.rope import rope_table


class Arithmetic(NamedTuple):
    """The operations as the judge calls them: those of `ref.ops`, and what lies between them."""

    dtype: Any  # of the arrays
    by_weight: bool  # weights are wanted as they lie in their file, since their format tells what inputs are rounded to
    embed: Callable
    rms_norm: Callable
    linear: Callable
    row_parallel: Callable  # attn.out and ffn.out: linear, but where ranks hold slices of the inputs
    convolve: Callable  # patches of pixels with weights; a convolution elsewhere, whose precision is set apart
    table: Callable  # positions, H, base, factor -> cos, sin
    rotate: Callable
    scores: Callable
    softmax: Callable
    mix: Callable
    attend: Callable
    geglu: Callable
    gelu: Callable
    layer_norm: Callable
    average_pool: Callable
    add: Callable
    keep: Callable  # keys and values, as the cache holds them
    round: Callable  # any value to the format between operations
    stored: str = "float64"  # the format of values between operations
    rounding: tuple[str, ...] = ()  # how it rounds inside operations: runs that have it in common err alike
    in_chains: bool = False  # each output of a product is one chain of float32 sums
    formats: Mapping[str, str] = MappingProxyType({})  # tap group -> its format, where that is not `stored`


def _attend(q, k, v, seen, scale):
    scores = KERNEL.scores(q, k, scale)
    return KERNEL.mix(KERNEL.softmax(scores, seen), v)


TRUTH = Arithmetic(
    dtype=np.float64,
    by_weight=False,
    embed=partial(KERNEL.embed, dtype=np.float64),
    rms_norm=KERNEL.rms_norm,
    linear=KERNEL.linear,
    row_parallel=KERNEL.linear,
    convolve=KERNEL.linear,
    table=partial(rope_table, dtype=np.float64),
    rotate=KERNEL.rotate,
    scores=KERNEL.scores,
    softmax=KERNEL.softmax,
    mix=KERNEL.mix,
    attend=_attend,
    geglu=KERNEL.geglu,
    gelu=KERNEL.gelu,
    layer_norm=KERNEL.layer_norm,
    average_pool=KERNEL.average_pool,
    add=np.add,
    keep=as_it_is,
    round=as_it_is,
)


# norms whose input is the result of a product: under autocast they return its format
_OF_PRODUCTS = ("attn.q_norm", "attn.k_norm", "attn.post_norm", "ffn.post_norm")
NORMS_OF_PRODUCTS = tuple(f"text.layer.*.{name}" for name in _OF_PRODUCTS)


def emulate(policy: Policy, order: int) -> Arithmetic:
    """Return the operations of a policy, summing in one order.

    Args:
        policy: where to round.
        order: 0 sums as the axes lie; any other number permutes each summed axis, consistently. Odd ones also write
            softmax, norm, GELU and angles in the other usual way.

    Source: `ref.emulate.policy`; docs/judging.md, the noise floor.
    Differs: permuting the axes of a model's weights instead gives the same sums.
    """
    if policy.stored == "float64":
        return TRUTH
    made = Operations(policy, order)
    rounding = (policy.norm, policy.gelu, policy.trig, policy.softmax, policy.scaled)
    formats = {} if policy.products == "stored" else dict.fromkeys(NORMS_OF_PRODUCTS, policy.products)
    return Arithmetic(
        dtype=np.float32,
        by_weight=policy.by_weight,
        embed=made.embed,
        rms_norm=made.rms_norm,
        linear=made.linear,
        row_parallel=made.row_parallel,
        convolve=made.convolve,
        table=made.table,
        rotate=made.rotate,
        scores=made.scores,
        softmax=made.softmax,
        mix=made.mix,
        attend=made.attend,
        geglu=made.geglu,
        gelu=made.gelu,
        layer_norm=made.layer_norm,
        average_pool=made.average_pool,
        add=made.add,
        keep=made.keep,
        round=made.round,
        stored=policy.stored,
        rounding=rounding,
        in_chains=made.in_chains and not policy.by_weight and policy.ranks == 1,
        formats=formats,
    )
