"""What writers of GGUF files share: the `gguf` package, and where a tensor will lie."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from ref.errors import wanted


def import_gguf(command: str, install: str) -> Any:
    """Return the `gguf` package.

    Args:
        command: who asks for it, for the refusal.
        install: how it is had.

    Raises:
        BadInput: it is not installed.
    """
    try:
        import gguf
    except ImportError:
        raise wanted("gguf", command, install, "not installed") from None
    return gguf


def announce(gguf: Any, writer: Any, name: str, shape: Sequence[int], kind: str, where: object) -> None:
    """Say where a tensor will lie, before its data are written: its rows are blocks of `length` values in `size` bytes.

    Args:
        gguf: the package.
        writer: its GGUFWriter.
        name: of the tensor.
        shape: in NumPy order.
        kind: its type, as ggml names it.
        where: the file, for refusals.

    Raises:
        BadInput: rows that are no whole number of blocks.
    """
    held = gguf.GGMLQuantizationType[kind]
    length, size = gguf.GGML_QUANT_SIZES[held]
    if shape[-1] % length:
        raise wanted(f"rows of tensor {name}", where, f"a multiple of {length} values", shape[-1])
    writer.add_tensor_info(name, list(shape), np.dtype(np.float32), prod(shape) // length * size, held)
