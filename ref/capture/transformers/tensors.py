"""torch's tensors: their bits as arrays, and what format a product of them has."""

from typing import Any, NamedTuple

import ml_dtypes
import numpy as np


class Product(NamedTuple):
    """The formats of a product as it was heard."""

    stored: str  # of its result
    autocast: str | None  # what its operands were cast to, None without autocast


def product_of(value: Any) -> Product:
    """Describe a product by its result, while it is being heard: autocast may reach no further than that."""
    import torch

    kind = value.device.type
    cast = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
    return Product(name_of(value.dtype), cast and name_of(cast))


def name_of(dtype: Any) -> str:
    """Name a dtype of torch as NumPy and the dumps do."""
    return str(dtype).removeprefix("torch.")


def same_bits(a: Any, b: Any) -> bool:
    """Tell whether two tensors of floats are equal, where NaN is equal to itself."""
    import torch

    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    kind = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[a.element_size()]
    return torch.equal(a.detach().view(kind), b.detach().view(kind))


def to_numpy(value: Any) -> np.ndarray:
    """Return a tensor as an array, bfloat16 as `ml_dtypes.bfloat16`, bit for bit.

    Args:
        value: on any device; the array may share its memory.

    Source: torch 2.13 `Tensor.numpy`, which knows no bfloat16.
    """
    value = value.detach().cpu().contiguous()
    if str(value.dtype) != "torch.bfloat16":
        return value.numpy()
    import torch

    return value.view(torch.int16).numpy().view(ml_dtypes.bfloat16)


def of_numpy(value: np.ndarray) -> Any:
    """Return an array as a tensor on the CPU, bit for bit; it may share its memory."""
    import torch

    if value.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(value.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(value)
