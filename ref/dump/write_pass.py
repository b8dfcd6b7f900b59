"""One pass of a dump on its way to the disk: each tensor is written when it is given, and none is held."""

from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from ref.errors import wanted
from ref.model.taps import tap_row
from ref.record import KINDS, Sketch, TensorFile, sketch_of, token_axis
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
        sketch: how small what is kept of each tensor is; None keeps them whole.
    """

    def __init__(self, folder: Path, number: int, sketch: Sketch | None = None):
        self.folder, self.number, self.sketch = folder, number, sketch
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
        layout = axes_of(name) if layout is None else layout
        said: dict[str, Any] = {} if plus is None else {"plus": f"{name}.plus"}
        if self.sketch is not None:
            parts, sketched = self._sketched(self.sketch, name, tensors, layout)
            tensors, said = (parts, {"sketch": sketched}) if sketched else (tensors, said)
        self._add(tensors)
        assert self._file is not None
        entry = {"file": self._file.path.name, "layout": layout, "shape": list(arrays[name].shape)}
        self._listing[name] = entry | {"dtype": str(arrays[name].dtype)} | said

    def _add(self, tensors: list[tuple[str, np.ndarray, str]]) -> None:
        """Write tensors into one file: into that which is open, where it has none of them and room."""
        names = {name for name, _, _ in tensors}
        try:
            if self._file is None or self._written & names or not self._file.add(*tensors):
                self._next_file().add(*tensors)
        except OSError as error:
            raise self._no_room(error) from None
        self._written |= names

    def _sketched(self, sketch: Sketch, name: str, tensors: list[tuple[str, np.ndarray, str]], layout: str):
        """Return what a sketch keeps of a tensor, and of another that is added to it."""
        first, *more = [_bits(array) for _, array, _ in tensors]
        axis = token_axis(layout, first.shape)
        return sketch_of(sketch, name, self.number, first, tensors[0][2], axis, *more)

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
        number = {} if self.sketch is None else {"sketch": self.number}
        return row | {"pixels": seen, "tensors": self._listing} | number

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


def _bits(value: np.ndarray) -> np.ndarray:
    return value.view(np.uint16) if value.dtype.name == "bfloat16" else value


def _kind(name: str, value: np.ndarray) -> str:
    if value.dtype.name not in KINDS:
        raise wanted(f"tensor {name}", "dump", f"one of {' '.join(KINDS)}", value.dtype)
    return value.dtype.name
