"""What torch does with a model's numbers: its switches, read and not touched, and what follows for products."""

import os
import warnings
from collections.abc import Callable
from typing import Any

from ref.capture.transformers.model import text_model, vision_tower
from ref.capture.transformers.parallel import ranks_of
from ref.capture.transformers.tensors import Product, name_of
from ref.capture.transformers.wrapped import device_of, is_compiled

NARROW = ("bfloat16", "float16")
TF32_SINCE = (8, 0)  # the compute capability of the first GPU whose tensor cores take TF32
# field of the dump: where torch has the switch
SWITCHES = {
    "cuda_matmul_allow_tf32": "cuda.matmul.allow_tf32",
    "cuda_matmul_fp32_precision": "cuda.matmul.fp32_precision",
    "cudnn_allow_tf32": "cudnn.allow_tf32",
    "cudnn_conv_fp32_precision": "cudnn.conv.fp32_precision",
    "mkldnn_matmul_fp32_precision": "mkldnn.matmul.fp32_precision",
    "mkldnn_conv_fp32_precision": "mkldnn.conv.fp32_precision",
    "fp16_reduced_precision_reduction": "cuda.matmul.allow_fp16_reduced_precision_reduction",
    "bf16_reduced_precision_reduction": "cuda.matmul.allow_bf16_reduced_precision_reduction",
    "fp16_accumulation": "cuda.matmul.allow_fp16_accumulation",
}
BACKENDS = {"flash": "flash_sdp", "efficient": "mem_efficient_sdp", "math": "math_sdp", "cudnn": "cudnn_sdp"}


def policy_of(model: Any, heard: Product | None) -> dict[str, Any]:
    """Describe the arithmetic of a model that was run.

    Args:
        model: transformers'.
        heard: the first product of the text; None where none was, then what torch says now.

    Returns:
        The dump's `policy`, as its schema has it.

    Source: torch 2.13 `torch.backends`, `torch.set_float32_matmul_precision`; "CUDA semantics" of its documentation.
    """
    device = device_of(model)
    implementation = str(text_model(model).config._attn_implementation)
    product = heard or Product(name_of(model.dtype), None)
    found = arithmetic_of(name_of(model.dtype), product, implementation, device, is_compiled(model))
    ranks = ranks_of(text_model(model))
    found |= {"ranks": ranks.count} if ranks and ranks.sliced else {}
    tower = vision_tower(model)
    if tower is not None:
        own = name_of(tower.embeddings.patch_embedding.weight.dtype)
        found |= _operands("conv_operands", product.autocast or own, read_switches(device), device)
    return found


def arithmetic_of(dtype: str, product: Product, attention: str, device: Any, compiled: bool) -> dict[str, Any]:
    """Describe the arithmetic of any torch model that was run.

    Args:
        dtype: of its weights.
        product: the first one that was heard.
        attention: the name of its implementation.
        device: of the model.
        compiled: whether any part of it is.

    Returns:
        As `policy_of`, without the vision tower.
    """
    switches = read_switches(device)
    names: dict[str, Any] = dict.fromkeys(("compute_dtype", "matmul_activations", "kv_dtype"), dtype)
    names |= {"rope_angle": "float32", "attention_impl": attention}
    names |= {"products": product.stored} | _of_products(product, switches, device)
    return names | {"torch": switches | {"autocast": product.autocast, "compiled": compiled}}


def _of_products(product: Product, switches: dict[str, Any], device: Any) -> dict[str, str]:
    operands = product.autocast or product.stored
    found = _operands("matmul_operands", operands, switches, device)
    if found:
        narrow = operands == "float16" and device.type == "cuda" and switches.get("fp16_accumulation")
        found["accumulate"] = "float16" if narrow else "float32"
    return found


def _operands(field: str, dtype: str, switches: dict[str, Any], device: Any) -> dict[str, str]:
    """Say what operands are rounded to; nothing of formats that nobody makes narrower."""
    if dtype in NARROW:
        return {field: dtype}
    return {field: narrowed(field, switches, device)} if dtype == "float32" else {}


def narrowed(field: str, switches: dict[str, Any], device: Any) -> str:
    """Return what float32 operands are rounded to before they are multiplied.

    Args:
        field: `matmul_operands` or `conv_operands`.
        switches: from `read_switches`.
        device: of the model.

    Returns:
        `tf32` on a GPU that has it, with the switch on; on a CPU what oneDNN may take, where it does; else `float32`.

    Source: torch 2.13 `aten/src/ATen/Context.cpp`; NVIDIA_TF32_OVERRIDE of cuBLAS and cuDNN.
    Differs: of oneDNN the switch alone says nothing: without AMX it multiplies float32 as it is.
    """
    is_conv = field.startswith("conv")
    if device.type == "cuda":
        field, old = ("cudnn_conv", "cudnn") if is_conv else ("cuda_matmul", "cuda_matmul")
        new = switches.get(f"{field}_fp32_precision")
        on = switches.get(f"{old}_allow_tf32") if new is None else new == "tf32"
        return "tf32" if on and _has_tf32(device) else "float32"
    if device.type == "cpu":
        asked = switches.get(f"mkldnn_{'conv' if is_conv else 'matmul'}_fp32_precision")
        kind = {"bf16": "bfloat16", "tf32": "tf32"}.get(str(asked))
        return kind if kind and rounds_operands(is_conv) else "float32"
    return "float32"


def _has_tf32(device: Any) -> bool:
    import torch

    if torch.version.cuda is None or os.environ.get("NVIDIA_TF32_OVERRIDE") == "0":
        return False
    return torch.cuda.get_device_capability(device) >= TF32_SINCE


def rounds_operands(convolves: bool) -> bool:
    """Multiply numbers that bfloat16 and TF32 do not hold, on the CPU, and tell whether they were rounded.

        sum_k (1 + 2^-14) = K + K 2^-14, or K

    Args:
        convolves: by a convolution instead of a product.

    Source: own; both sums are exact in float32.
    """
    import torch

    fine = torch.full((64, 256), 1 + 2.0**-14)
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        if convolves:
            out = torch.nn.functional.conv2d(fine.view(1, 64, 16, 16), torch.ones(64, 64, 2, 2))
        else:
            out = torch.nn.functional.linear(fine, torch.ones(64, 256))
    return bool((out == 256).all())


def read_switches(device: Any) -> dict[str, Any]:
    """Read torch's switches, as fields of the dump's `policy.torch`; those that this version has not are left out.

    Args:
        device: of the model.

    Source: torch 2.13 `torch/backends`; a switch of the old kind refuses to be read where one of the new was set.
    """
    import torch

    name = f"{device.type}: {torch.cuda.get_device_name(device)}" if device.type == "cuda" else device.type
    found: dict[str, Any] = {"version": str(torch.__version__), "device": name}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # reading is not use
        found["deterministic"] = bool(torch.are_deterministic_algorithms_enabled())
        found |= _read("float32_matmul_precision", torch.get_float32_matmul_precision)
        for field, path in SWITCHES.items():
            found |= _read(field, lambda path=path: _at(torch.backends, path))
        enabled = {name: getattr(torch.backends.cuda, f"{way}_enabled", None) for name, way in BACKENDS.items()}
        found["sdpa_backends"] = [name for name, ask in enabled.items() if ask is not None and ask()]
    return found


def _read(field: str, ask: Callable[[], Any]) -> dict[str, Any]:
    try:
        value = ask()
    except (AttributeError, RuntimeError):
        return {}
    return {field: value if isinstance(value, str) else bool(value)}


def _at(root: Any, path: str) -> Any:
    for name in path.split("."):
        root = getattr(root, name)
    return root
