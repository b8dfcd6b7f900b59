"""Policies: where an implementation rounds, as data. One row an implementation and format."""

from typing import Literal, NamedTuple

Format = Literal["float64", "float32", "bfloat16", "float16"]


class Policy(NamedTuple):
    """Where an implementation rounds. Between two operations a value has the format `stored`; sums are in float32."""

    name: str
    stored: Format
    angle: Literal["float32", "recurrence"] = "float32"  # of the rotation; each from the one before, or not
    trig: Literal["stored", "float32"] = "stored"  # cosines and sines are rounded to it, and the rotation's products
    norm: Literal["float32", "stored"] = "float32"  # the steps inside RMSNorm
    scaled: Literal["scores", "q"] = "scores"  # what is multiplied by the scale of the attention
    attention: Literal["steps", "fused"] = "steps"  # whether scores and probs are rounded to `stored`
    keys: Format | Literal["stored"] = "stored"  # of the KV cache
    operands: Literal["stored", "float16"] = "stored"  # of the products of attention: queries and probabilities
    by_weight: bool = False  # inputs of a product are rounded as the format of its weight wants: q8_0, float16 ...
    softmax: Literal["float32", "stored"] = "float32"  # the steps inside
    gelu: Literal["float32", "stored", "float16 table"] = "float32"  # the steps inside
    fused: bool = False  # sums of the residual stream take what is added before it is rounded, as where XLA fuses both
    tanh: Literal["libm", "rational"] = "libm"  # within an ulp, or a quotient of polynomials as XLA's


# fmt: off
POLICIES = {p.name: p for p in [
    Policy("transformers-float32",        "float32"),
    Policy("transformers-sdpa-float32",   "float32",  attention="fused"),
    Policy("gemma-float32",               "float32",  scaled="q", fused=True, tanh="rational"),
    Policy("transformers-bfloat16",       "bfloat16"),
    Policy("transformers-sdpa-bfloat16",  "bfloat16", attention="fused"),
    Policy("gemma-bfloat16",              "bfloat16", trig="float32", norm="stored", scaled="q", softmax="stored",
           gelu="stored"),
    Policy("keras-bfloat16",              "bfloat16", scaled="q", gelu="stored"),
    Policy("transformers-float16",        "float16"),
    Policy("transformers-sdpa-float16",   "float16",  attention="fused"),
    Policy("gemma-float16",               "float16",  trig="float32", norm="stored", scaled="q", softmax="stored",
           gelu="stored"),
    Policy("llama.cpp",                   "float32",  "recurrence", scaled="q", keys="float16", operands="float16",
           by_weight=True, gelu="float16 table"),
    Policy("llama.cpp-flash",             "float32",  "recurrence", scaled="q", keys="float16", operands="float16",
           by_weight=True, gelu="float16 table", attention="fused"),
    Policy("float64",                     "float64"),
]}
# fmt: on
_EAGER_AND_FUSED = {
    f"transformers-{kind}": (f"transformers-{kind}", f"transformers-sdpa-{kind}") for kind in ("bfloat16", "float16")
}
FAMILIES: dict[str, tuple[str, ...]] = {  # whose runs make a floor; a format alone stands for everybody who uses it
    "float32": ("transformers-float32", "gemma-float32", "transformers-sdpa-float32"),
    "bfloat16": ("transformers-bfloat16", "gemma-bfloat16", "transformers-sdpa-bfloat16"),
    "float16": ("transformers-float16", "gemma-float16", "transformers-sdpa-float16"),
    "float64": ("float64",),
    **_EAGER_AND_FUSED,
}
RUNS = 6  # valid runs a noise floor is made of, at least


def members_of(family: str) -> list[tuple[Policy, int]]:
    """List the runs that make a noise floor: each policy of the family in several orders of summation.

    Args:
        family: a key of FAMILIES, or the name of one policy.

    Returns:
        RUNS pairs of policy and order; order 0 sums as the axes lie, each other permutes them.

    Source: ARCHITECTURE, noise floor: at least six valid low-precision runs.
    Differs: one run as the floor, as others take it; six differed by 2.45x on the real weights.
    """
    policies = [POLICIES[name] for name in FAMILIES.get(family, (family,))]
    return [(policies[i % len(policies)], i) for i in range(RUNS)]
