"""Whose noise floor a dump is measured by, from what it says of its arithmetic."""

from collections.abc import Mapping
from typing import Any

from ref.diagnosis.find_arithmetic import ENDS, PRODUCTS, WIDE
from ref.emulate.policy import FAMILIES, POLICIES, ranks_family
from ref.errors import nearest, wanted
from ref.model.taps import tap_group


def family_of(policy: Mapping[str, Any], producer: str = "", heard: Mapping[str, str] | None = None) -> str:
    """Return whose noise floor a dump is measured by, from what its producer says of its arithmetic.

    Args:
        policy: of the dump.
        producer: its name; those whose rounding is known are measured by their own runs.
        heard: tap -> dtype of its tensor. Narrow products beside a wide residual stream are autocast's.

    Returns:
        `llama.cpp` where activations are quantised or keys are kept narrower than the arithmetic; what is said of
        operands and sums of products; else the dtype, after the producer's name where that is known; of a narrow
        one behind it on how many ranks the inputs of attn.out and ffn.out lie.
    """
    compute = str(policy.get("compute_dtype") or "float32")
    quantised = str(policy.get("matmul_activations") or compute).startswith("q8")
    narrow = policy.get("kv_dtype") == "float16" and compute == "float32"
    products = policy.get("products") or _autocast(heard or {})
    if compute == "float32" and products in ("bfloat16", "float16"):
        return f"autocast-{products}"
    if quantised or narrow:
        return "llama.cpp-flash" if policy.get("attention_impl") == "flash" else "llama.cpp"
    if compute == "float64" and policy.get("rope_angle") == "float32":
        compute = "float32"  # transformers in double keeps float32 in norms, softmax and angles
    family = _by_products(policy, compute) or _by_producer(producer, compute)
    ranks = policy.get("ranks") or 1
    split = ranks_family(family, ranks)
    return split if ranks > 1 and split in FAMILIES else family


def _autocast(heard: Mapping[str, str]) -> str | None:
    """Return the format of products where they are narrow and the residual stream is not."""
    formats = {dtype for tap, dtype in heard.items() if tap_group(tap) in PRODUCTS - ENDS}
    wide = any(dtype == "float32" for tap, dtype in heard.items() if tap_group(tap) in WIDE)
    return next(iter(formats)) if wide and len(formats) == 1 and "float32" not in formats else None


def _by_products(policy: Mapping[str, Any], compute: str) -> str | None:
    """Return the family of what a dump says of its products: "matmul_operands", "conv_operands", "accumulate"."""
    if compute == "float16":
        return "float16-sums" if policy.get("accumulate") == "float16" else None
    operands, patches = policy.get("matmul_operands"), policy.get("conv_operands")
    if compute != "float32":
        return None
    if operands in ("tf32", "bfloat16", "float16"):
        return "tf32" if operands == "tf32" else f"{operands}-operands"
    return f"{patches}-convolutions" if patches in ("tf32", "bfloat16") else None


def _by_producer(producer: str, compute: str) -> str:
    own = f"{producer}-{compute}"
    known = own in FAMILIES or (own in POLICIES and compute != "float32")
    return own if known else compute if compute in FAMILIES else "float32"


def check_family(family: str) -> None:
    """Refuse a name that is of no family and of no policy.

    Raises:
        BadInput: with the names that are near.
    """
    if family not in FAMILIES and family not in POLICIES:
        near = nearest(family, [*FAMILIES, *POLICIES])
        want = f"one of {', '.join(dict.fromkeys([*FAMILIES, *POLICIES]))}"
        raise wanted("--policy", "compare", f"{near}, or another {want}" if near else want, family)
