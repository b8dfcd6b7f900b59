"""`kernel`: Numba's compiler as all kernels here use it, with machine code kept under a key of all their sources."""

import pickle
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache, cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

import llvmlite
import numba
import numpy as np
from numba.core import config
from numba.core.caching import CompileResultCacheImpl, FunctionCache, NullCache, UserProvidedCacheLocator
from numba.core.runtime.nrt import rtsys

from ref.kernel_cache import SOURCES, kernel_folder

_CUT_SHORT = (EOFError, pickle.UnpicklingError)  # a file, when the machine went down

# what C would call takes a sixteenth of compiling, and nobody calls a kernel from C
_OPTIONS = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}
_SWITCHES = ("OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "BOUNDSCHECK", "DEBUGINFO_DEFAULT")  # that change the code


def kernel(function: Callable | None = None, **options: Any) -> Any:
    """Compile a function when it is first called with arguments of new types, and keep its machine code.

        @kernel                                   @kernel(fastmath={"contract", "reassoc"})
        def _norm_rows(x, gain, eps, out): ...    def _dot(a, b): ...

    It runs without the interpreter's lock, and divides as NumPy does: x / 0 is inf or NaN, no error.

    Args:
        function: the loops.
        options: of `numba.njit`, where they differ from these.

    Returns:
        Numba's dispatcher; the function itself where NUMBA_DISABLE_JIT is set.
    """
    if function is None:
        return lambda function: kernel(function, **options)
    compiled = numba.njit(function, **_OPTIONS | options)
    if compiled is not function:
        compiled._cache = _Kept(function)  # type: ignore[attr-defined] # as `cache=True` does
    return compiled


class _Kept(NullCache):
    """The machine code of one kernel on disk. Nothing is read, hashed or made before the kernel is first needed."""

    def __init__(self, function: Callable):
        self._function = function

    @cached_property
    def _files(self) -> FunctionCache:
        return _Files(self._function)

    @property
    def cache_path(self):
        return self._files.cache_path

    def load_overload(self, sig, target_context):
        """Load what was compiled for a signature; None where nothing was.

        Numba would first import all that a compiler may need, 0.2 s. What is compiled already needs only its memory
        manager, and whatever compiles later sees to the rest by itself.
        """
        rtsys.initialize(target_context)
        with suppress(OSError):  # no folder, or removed meanwhile
            try:
                return self._files._load_overload(sig, target_context)
            except _CUT_SHORT:
                self._files.flush()

    def save_overload(self, sig, data):
        """Save what was compiled; a kernel runs all the same where that fails."""
        with suppress(OSError):
            self._files._save_overload(sig, data)

    def flush(self):
        self._files.flush()


class _Locator(UserProvidedCacheLocator):
    """The folder of all kernels. Its name says what they were made from."""

    def __init__(self, py_func, py_file):
        super().__init__(py_func, py_file)
        self._cache_path = str(kernel_folder(_machine()))
        self._module, self._file = py_func.__module__, Path(py_file)

    def get_source_stamp(self):
        if SOURCES in self._file.parents:
            return ""  # the folder's name says it
        return sha256(self._file.read_bytes()).hexdigest()

    def get_disambiguator(self):
        return f"{self._module}-{self._lineno}"

    @classmethod
    def from_function(cls, py_func, py_file):
        return cls(py_func, py_file)


class _Format(CompileResultCacheImpl):
    _locator_classes: ClassVar = [_Locator]


class _Files(FunctionCache):
    _impl_class = _Format


@cache
def _machine() -> tuple:
    """Return what machine code depends on beside the kernels' sources."""
    from numba.core.registry import cpu_target

    versions = (sys.version, numba.__version__, llvmlite.__version__, np.__version__)
    switches = {name: getattr(config, name, None) for name in _SWITCHES}
    return versions, cpu_target.target_context.codegen().magic_tuple(), switches  # type: ignore[attr-defined]
