"""ggml's tensors seen from Python: the part of its C structure that a callback needs, and their values as arrays."""

import ctypes
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from ref.errors import wanted

INSTALL = 'pip install -e ".[llama]"'
# number of a ggml type -> NumPy's; others (the quantised ones) are no activations
DTYPES = {0: np.float32, 1: np.float16, 26: np.int32, 27: np.int64, 30: ml_dtypes.bfloat16}


class Tensor(ctypes.Structure):
    """`struct ggml_tensor` of ggml 0.25, whose layout `Ggml.check` compares with what the library says."""


Tensor._fields_ = [
    ("type", ctypes.c_int),
    ("buffer", ctypes.c_void_p),
    ("ne", ctypes.c_int64 * 4),  # elements along each axis, the contiguous one first
    ("nb", ctypes.c_size_t * 4),  # strides in bytes
    ("op", ctypes.c_int),
    ("op_params", ctypes.c_int32 * 16),
    ("flags", ctypes.c_int32),
    ("src", ctypes.POINTER(Tensor) * 10),
    ("view_src", ctypes.c_void_p),
    ("view_offs", ctypes.c_size_t),
    ("data", ctypes.c_void_p),
    ("name", ctypes.c_char * 64),
]
POINTER = ctypes.POINTER(Tensor)


def import_llama_cpp() -> Any:
    """Import the module `llama_cpp`, or refuse with what to install."""
    try:
        import llama_cpp
    except ImportError:
        raise wanted("llama-cpp-python", "capture", INSTALL, "not installed") from None
    return llama_cpp


class Ggml:
    """The shared object `libggml-base` that lies in the wheel of llama-cpp-python."""

    def __init__(self, llama_cpp):
        from llama_cpp._ctypes_extensions import load_shared_library

        self._lib = lib = load_shared_library("ggml-base", Path(llama_cpp.__file__).parent / "lib")
        for name in ("ggml_get_name", "ggml_op_desc", "ggml_version", "ggml_commit"):
            getattr(lib, name).restype = ctypes.c_char_p
        lib.ggml_nbytes.restype = ctypes.c_size_t
        lib.ggml_get_data.restype = ctypes.c_void_p
        lib.ggml_backend_tensor_get.argtypes = [POINTER, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t]
        self.version = f"ggml {lib.ggml_version().decode()}, llama.cpp {lib.ggml_commit().decode()}"

    def op(self, tensor) -> str:
        """Return the operation that makes a tensor, as `MUL_MAT` or `GEGLU`."""
        return self._lib.ggml_op_desc(tensor).decode()

    def check(self, tensor) -> None:
        """Refuse a library whose tensors lie otherwise than `Tensor` says.

        Args:
            tensor: pointer to any tensor of the graph.

        Raises:
            BadInput: name, data or size differ from what the library's own functions return.
        """
        one = tensor.contents
        known = one.type in DTYPES
        size = np.dtype(DTYPES[one.type]).itemsize if known else 0
        size += sum((n - 1) * stride for n, stride in zip(one.ne, one.nb, strict=True))
        got = (one.name, one.data, size if known else None)
        said = (self._lib.ggml_get_name(tensor), self._lib.ggml_get_data(tensor))
        if got != (*said, self._lib.ggml_nbytes(tensor) if known else None):
            raise wanted("llama-cpp-python", "capture", "ggml 0.25, as in version 0.3.36", self.version)

    def read(self, tensor) -> np.ndarray:
        """Copy a tensor's values, on whatever device they are.

        Args:
            tensor: pointer to a tensor that has been computed.

        Returns:
            [ne3, ne2, ne1, ne0]: ggml's axes in reverse, so that the contiguous one is the last. float32, float16,
            bfloat16, int32 or int64 as it is held.

        Raises:
            BadInput: a quantised tensor.
        """
        one = tensor.contents
        if one.type not in DTYPES:
            raise wanted(f"type of node {one.name.decode()}", "capture", "a float or integer", f"ggml type {one.type}")
        raw = np.empty(self._lib.ggml_nbytes(tensor), np.uint8)
        self._lib.ggml_backend_tensor_get(tensor, raw.ctypes.data, 0, raw.nbytes)
        # a view's bytes have holes or lie in another order; the strides say where each value is
        return np.ndarray(one.ne[::-1], DTYPES[one.type], raw, strides=one.nb[::-1]).copy()
