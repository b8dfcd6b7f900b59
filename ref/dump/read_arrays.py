"""Tensors of files and of memory, not read before they are asked for: safetensors, NumPy arrays."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ref.dump.align import Raw
from ref.errors import wanted
from ref.untrusted import quoted
from ref.weights.safetensors_file import DTYPES, SafetensorsFile, open_safetensors

MOST_OPEN = 32  # files mapped at one time: a dump of a thousand decode steps has a thousand
FLOATS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
STORED = {kind: FLOATS.get(kind, np.dtype(code).name) for kind, code in DTYPES.items()}  # as dump.json writes them


def judged(value: np.ndarray, dtype: str) -> np.ndarray:
    """Return an array in the dtypes that the judge takes.

    Args:
        value: floats, integers, booleans, or the uint16 bits of bfloat16.
        dtype: as it was stored.

    Returns:
        bfloat16 as its bits (`ref.dump.align.values_of` widens them), integers as int64, the rest as it is; in the
        machine's byte order.

    Source: `ref.dump.align.Stored`.
    """
    if dtype == "bfloat16":
        return value
    if value.dtype.kind in "iu":
        return value.astype(np.int64, copy=False)
    return value.astype(value.dtype.newbyteorder("="), copy=False)


def judged_dtype(dtype: str) -> str:
    """Return the name of a stored dtype as `Stored` has it: every integer is int64."""
    return "int64" if dtype.startswith(("int", "uint")) else dtype


class Files:
    """Safetensors files by path, of which few are mapped at one time; each is checked when it is opened.

    Args:
        most: how many.
    """

    def __init__(self, most: int = MOST_OPEN):
        self.most = most
        self._open: dict[Path, SafetensorsFile] = {}

    def get(self, path: Path) -> SafetensorsFile:
        """Return an open file, forgetting the one that was opened first where there are too many."""
        file = self._open.get(path)
        if file is None:
            while len(self._open) >= self.most:
                self._open.pop(next(iter(self._open)), None)
            file = self._open[path] = open_safetensors(path)
        return file

    def raw(self, path: Path, name: str, layout: str = "") -> Raw:
        """Return one tensor of a file, which is looked for now and read later.

        Args:
            path: of the file.
            name: of the tensor.
            layout: its axes.

        Raises:
            BadInput: no such file or tensor, or a broken file; later, if it has changed.
        """
        kind, shape = self.get(path).info(name)[:2]

        def read() -> np.ndarray:
            file = self.get(path)
            if file.info(name)[:2] != (kind, shape):
                raise wanted(f"tensor {quoted(name)}", path, f"{kind} {list(shape)}", "a file that has changed")
            return judged(file.array(name), STORED[kind])

        return Raw(judged_dtype(STORED[kind]), shape, read, layout)


def read_safetensors(path: Path) -> dict[str, Raw]:
    """List the tensors of one file.

    Args:
        path: of the file.

    Raises:
        BadInput: no safetensors file.

    Source: `ref.weights.safetensors_file`.
    """
    files = Files()
    return {name: files.raw(path, name) for name in files.get(path).names()}


def from_memory(arrays: Mapping[str, Any], where: object) -> dict[str, Raw]:
    """Take arrays in memory as tensors; they are not copied.

    Args:
        arrays: name -> what NumPy makes an array of; bfloat16 as `ml_dtypes.bfloat16`.
        where: for refusals.

    Raises:
        BadInput: object arrays, complex numbers, text.
    """
    out = {}
    for name, given in arrays.items():
        what = f"array {quoted(str(name))}"
        try:
            value = np.asarray(given)
        except (ValueError, TypeError, RuntimeError) as error:  # ragged; of a device; torch's bfloat16
            raise wanted(what, where, "what NumPy makes an array of", error) from None
        check_kind(value.dtype, what, where)
        wide = value.astype(np.float32) if value.dtype.name == "bfloat16" else value
        out[str(name)] = Raw(judged_dtype(value.dtype.name), value.shape, _reader(wide))
    return out


def _reader(value: np.ndarray) -> Callable[[], np.ndarray]:
    return lambda: judged(value, value.dtype.name)


def check_kind(dtype: np.dtype, what: str, where: object) -> None:
    """Refuse a dtype that no tap has.

    Raises:
        BadInput: Python objects, complex numbers, text, records, long double.
    """
    if dtype.name == "bfloat16" or (dtype.kind in "iub" or (dtype.kind == "f" and dtype.itemsize <= 8)):
        return
    got = "Python objects, which only a pickle holds" if dtype.hasobject else dtype
    raise wanted(f"dtype of {what}", where, "floats, integers or booleans", got)
