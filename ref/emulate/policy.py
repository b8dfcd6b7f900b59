"""Policies: where an implementation rounds, as data. One row per implementation and format."""

from typing import Literal, NamedTuple

Format = Literal["float64", "float32", "bfloat16", "float16"]
Operand = Literal["stored", "tf32", "bfloat16", "float16", "float8"]


class Policy(NamedTuple):
    """Where an implementation rounds. Between two operations a value has the format `stored`; sums are in float32."""

    name: str
    stored: Format
    angle: Literal["float32", "recurrence"] = "float32"  # of the rotation; each from the one before, or not
    trig: Literal["stored", "float32"] = "stored"  # cosines and sines are rounded to it, and the rotation's products
    norm: Literal["float32", "stored", "gain apart"] = "float32"  # the steps inside RMSNorm; of MLX the last two only
    scaled: Literal["scores", "q"] = "scores"  # what is multiplied by the scale of the attention
    attention: Literal["steps", "fused", "flash"] = "steps"  # rounded: scores and probs; none; undivided weights
    keys: Format | Literal["stored"] = "stored"  # of the KV cache
    attention_operands: Operand = "stored"  # what queries and probabilities are rounded to in llama.cpp
    by_weight: bool = False  # inputs of a product are rounded as the format of its weight wants: q8_0, float16 ...
    softmax: Literal["float32", "stored"] = "float32"  # the steps inside
    gelu: Literal["float32", "stored", "float16 table"] = "float32"  # the steps inside
    fused: bool = False  # sums of the residual stream take what is added before it is rounded, as where XLA fuses both
    tanh: Literal["libm", "rational"] = "libm"  # within an ulp, or a quotient of polynomials as XLA's
    operands: Operand = "stored"  # what both operands of every product are rounded to; of one row by some only
    convolution: Operand = "stored"  # the same of the tower's patches
    rotation: Operand = "stored"  # what a rotation's input and result are rounded to
    products: Format | Literal["stored"] = "stored"  # of what a product results in, and of what is made of it alone
    sums: Literal["float32", "float16", "float8"] = "float32"  # of products
    ranks: int = 1  # that hold slices of the inputs of attn.out and ffn.out; each rounds its sum before they are added


# fmt: off
_ROWS = [
    Policy("transformers-float32",        "float32"),
    Policy("transformers-sdpa-float32",   "float32",  attention="fused"),
    Policy("gemma-float32",               "float32",  scaled="q", fused=True, tanh="rational"),
    Policy("transformers-bfloat16",       "bfloat16"),
    Policy("transformers-sdpa-bfloat16",  "bfloat16", attention="flash"),
    Policy("gemma-bfloat16",              "bfloat16", trig="float32", norm="stored", scaled="q", softmax="stored",
           gelu="stored"),
    Policy("keras-bfloat16",              "bfloat16", scaled="q", gelu="stored"),
    Policy("mlx-bfloat16",                "bfloat16", norm="gain apart", scaled="q", gelu="stored"),
    Policy("transformers-float16",        "float16"),
    Policy("transformers-sdpa-float16",   "float16",  attention="flash"),
    Policy("gemma-float16",               "float16",  trig="float32", norm="stored", scaled="q", softmax="stored",
           gelu="stored"),
    Policy("mlx-float16",                 "float16",  norm="gain apart", scaled="q", gelu="stored"),
    Policy("llama.cpp",                   "float32",  "recurrence", scaled="q", keys="float16",
           attention_operands="float16", by_weight=True, gelu="float16 table"),
    Policy("llama.cpp-flash",             "float32",  "recurrence", scaled="q", keys="float16",
           attention_operands="float16", by_weight=True, gelu="float16 table", attention="fused"),
    Policy("float64",                     "float64"),
]
# fmt: on
POLICIES = {row.name: row for row in _ROWS}
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
# products in other formats than the values between them: (suffix, family it is made of, what changes)
_NARROWED: tuple[tuple[str, str, dict], ...] = (
    ("tf32", "float32", {"operands": "tf32", "convolution": "tf32"}),
    ("tf32-convolutions", "float32", {"convolution": "tf32"}),
    ("bfloat16-convolutions", "float32", {"convolution": "bfloat16"}),
    ("bfloat16-operands", "float32", {"operands": "bfloat16", "convolution": "bfloat16"}),
    ("float16-operands", "float32", {"operands": "float16", "convolution": "float16"}),
    ("float8-operands", "bfloat16", {"operands": "float8", "sums": "float8"}),
    ("float8-operands-float32", "float32", {"operands": "float8", "sums": "float8"}),
    ("autocast-bfloat16", "float32", {"operands": "bfloat16", "convolution": "bfloat16", "products": "bfloat16"}),
    ("autocast-float16", "float32", {"operands": "float16", "convolution": "float16", "products": "float16"}),
    ("float16-sums", "float16", {"sums": "float16"}),
)
RANKS = (2, 3, 4, 6, 8, 12, 16)  # of tensor parallelism


def _add_narrowed() -> None:
    """Add a family for each row of _NARROWED. Its first policy leaves convolutions alone, as XLA does with TF32."""
    for name, of, change in _NARROWED:
        rows = [POLICIES[one]._replace(**change, name=f"{one}-{name}") for one in FAMILIES[of]]
        if len(change) > 1 and "convolution" in change:
            rows[0] = rows[0]._replace(convolution="stored")
        POLICIES.update((row.name, row) for row in rows)
        FAMILIES[name] = tuple(row.name for row in rows)


_add_narrowed()


def ranks_family(family: str, ranks: int) -> str:
    """Name the family whose row-parallel products are added of so many rounded sums, of the next larger number known.

    Args:
        family: of one rank, such as `bfloat16`.
        ranks: how many.
    """
    known = next((n for n in RANKS if n >= ranks), RANKS[-1])
    return f"{family}-ranks-{known}"


def _add_ranks() -> None:
    for family in ("bfloat16", "float16", "transformers-bfloat16", "transformers-float16"):
        for ranks in RANKS:
            name = ranks_family(family, ranks)
            rows = [POLICIES[one]._replace(ranks=ranks, name=f"{one}-ranks-{ranks}") for one in FAMILIES[family]]
            POLICIES.update((row.name, row) for row in rows)
            FAMILIES[name] = tuple(row.name for row in rows)


_add_ranks()
# OpenVINO on a CPU with bfloat16 instructions: its rotation is cut out of the graph, too
_openvino = POLICIES["transformers-float32-bfloat16-operands"]._replace(name="openvino-bfloat16", rotation="bfloat16")
POLICIES[_openvino.name] = _openvino
FAMILIES["bfloat16-operands"] += (_openvino.name,)
RUNS = 6  # valid runs a noise floor is made of, at least


def members_of(family: str) -> list[tuple[Policy, int]]:
    """List the runs that make a noise floor: each policy of the family in several orders of summation.

    Args:
        family: a key of FAMILIES, or the name of one policy.

    Returns:
        RUNS pairs of policy and order; order 0 sums as the axes lie, each other permutes them.

    Source: six runs differed by 2.45x on the real weights (`golden/make/witness.py` runs as many of transformers).
    Differs: one run as the floor, as others take it.
    """
    policies = [POLICIES[name] for name in FAMILIES.get(family, (family,))]
    return [(policies[i % len(policies)], i) for i in range(RUNS)]
