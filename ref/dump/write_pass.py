"""One pass of a dump on its way to the disk: each tensor is written when it is given, and none is held."""

from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from ref.errors import wanted
from ref.model.taps import tap_row
from ref.record import KINDS, TensorFile
from ref.weights.safetensors_file import open_safetensors


def axes_of(tap: str) -> str:
    """Return the axes of a tap's value, such as `B T N H`; empty for a name that is not registered."""
    row = tap_row(tap)
    return row.axes if row else ""


class PassWriter:
    """Write one pass; several may be open beside each other, as rows of a batch are.

    Args:
        folder: of the dump.
        number: of the pass, in the names of its files.
    """

    def __init__(self, folder: Path, number: int):
        self.folder, self.number = folder, number
        self._files = (f"pass{number:04}{f'-{part:02}' if part else ''}.safetensors" for part in count())
        self._file: TensorFile | None = None
        self._written: set[str] = set()  # tensors in the file that is open
        self._listing: dict[str, dict[str, Any]] = {}

    def add_tensor(
        self, name: str, value: np.ndarray, layout: str | None = None, plus: np.ndarray | None = None
    ) -> None:
        """Write a tensor now: what happens to its memory later does not matter. A second one of a name counts.

        Args:
            name: the tap's, or the producer's own where `names` says whose.
            value: any float, integer or bool; bfloat16 as `ml_dtypes.bfloat16`, stored as BF16.
            layout: its axes, where they are not the registry's.
            plus: what is to be added to it: a residual stream that is kept as two.

        Raises:
            BadInput: a dtype that the format has not, or no room on the disk.
        """
        values = {name: value} | ({} if plus is None else {f"{name}.plus": plus})
        arrays = {one: _little_endian(np.asarray(array)) for one, array in values.items()}
        tensors = [(one, array, _kind(one, array)) for one, array in arrays.items()]
        try:
            if self._file is None or self._written & arrays.keys() or not self._file.add(*tensors):
                self._next_file().add(*tensors)
        except OSError as error:
            raise self._no_room(error) from None
        assert self._file is not None
        self._written |= arrays.keys()
        entry = {"file": self._file.path.name, "layout": axes_of(name) if layout is None else layout}
        entry |= {"shape": list(arrays[name].shape), "dtype": str(arrays[name].dtype)}
        self._listing[name] = entry | ({} if plus is None else {"plus": f"{name}.plus"})

    def end(self, row: dict[str, Any], pixels: np.ndarray | None = None) -> dict[str, Any]:
        """End the pass; arguments as `DumpWriter.add_pass`.

        Returns:
            What dump.json says of it.
        """
        try:
            if self._file is None:
                self._next_file()
            self._close()
            seen = None if pixels is None else self._pixels(np.asarray(pixels))
        except OSError as error:
            raise self._no_room(error) from None
        return row | {"pixels": seen, "tensors": self._listing}

    def abandon(self) -> None:
        """Let go of the open file."""
        if self._file is not None:
            with suppress(OSError):  # a full disk, told already
                self._file.file.close()

    def _pixels(self, pixels: np.ndarray) -> str:
        self._next_file(f"pixels{self.number:04}.safetensors").add(("pixels", pixels, _kind("pixels", pixels)))
        self._written = {"pixels"}
        return self._close()

    def _next_file(self, name: str = "") -> TensorFile:
        self._close()
        self._file = TensorFile(self.folder / (name or next(self._files)))
        return self._file

    def _close(self) -> str:
        """Complete the open file, and read back where it says that its tensors lie; return its name."""
        if self._file is None:
            return ""
        path = self._file.path
        self._file.close()
        back = open_safetensors(path)
        if set(back.names()) != self._written:
            raise wanted("tensors", path, f"{len(self._written)} read back as written", len(back.names()))
        self._file, self._written = None, set()
        return path.name

    def _no_room(self, error: OSError) -> Exception:
        return wanted("tensors", self.folder, "room to write them", error.strerror)


def _little_endian(value: np.ndarray) -> np.ndarray:
    return value.astype(value.dtype.newbyteorder("<")) if value.dtype.byteorder == ">" else value


def _kind(name: str, value: np.ndarray) -> str:
    if value.dtype.name not in KINDS:
        raise wanted(f"tensor {name}", "dump", f"one of {' '.join(KINDS)}", value.dtype)
    return value.dtype.name
