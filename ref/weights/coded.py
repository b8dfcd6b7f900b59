"""Folders that `gemma3-ref quantize` wrote: matrices as codes, each with the scales of its channels beside it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ref.errors import wanted
from ref.ops.blocks import FORMATS, Blocks
from ref.untrusted import quoted
from ref.weights.shards import Shards

METHOD = "gemma3-ref"  # in `quantization_config`, as transformers names methods
CODED = tuple(sorted(name for name, form in FORMATS.items() if form.type_id < 0))  # those that GGUF has not
SUFFIX = "_scale"  # NAME.weight holds codes [O, bytes], NAME.weight_scale float32 [O]: value = code / scale


class CodedShards:
    """The tensors of such a folder, codes and scales put together."""

    def __init__(self, files: Shards, kind: str):
        self.files, self.kind = files, kind
        self.coded = {name for name in files.names() if files.type(name) == "U8"}
        for name in sorted(self.coded):
            self._check(name)

    def _check(self, name: str) -> None:
        shape, scale = self.files.shape(name), name + SUFFIX
        if len(shape) != 2:
            raise wanted(f"tensor {quoted(name)}", self.files.path, "codes [O, bytes]", list(shape))
        got = f"{self.files.type(scale)} {list(self.files.shape(scale))}"
        if got != f"F32 [{shape[0]}]":
            raise wanted(f"tensor {quoted(scale)}", self.files.path, f"F32 [{shape[0]}]", got)
        if not (np.isfinite(values := self.files.array(scale)) & (values > 0)).all():
            raise wanted(f"tensor {quoted(scale)}", self.files.path, "finite scales above 0", "others")

    def names(self) -> list[str]:
        """Return the names of all tensors; scales belong to their matrices."""
        return [
            name for name in self.files.names() if name.removesuffix(SUFFIX) not in self.coded or name in self.coded
        ]

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape that a tensor decodes to."""
        shape, form = self.files.shape(name), FORMATS[self.kind]
        return (shape[0], shape[1] // form.size * form.length) if name in self.coded else shape

    def type(self, name: str) -> str:
        """Return the format of codes, else the dtype."""
        return self.kind if name in self.coded else self.files.type(name)

    def array(self, name: str) -> Any:
        """Return a tensor as a Weight, a view of the file."""
        array = self.files.array(name)
        return Blocks(array, self.kind, self.files.array(name + SUFFIX)) if name in self.coded else array


def with_codes(files: Shards, config: Mapping[str, Any], where: Path) -> "Shards | CodedShards":
    """Put codes and scales together where a folder's configuration says that it has some.

    Args:
        files: the folder's tensors.
        config: its `config.json`.
        where: that file, for refusals.

    Raises:
        BadInput: quantised by somebody else, in an unknown format, or with scales missing or not above 0.

    Source: own; transformers' `quantization_config` for where the method is named.
    """
    quantised = config.get("quantization_config")
    if quantised is None:
        return files
    if not isinstance(quantised, dict) or quantised.get("quant_method") != METHOD:
        got = quantised.get("quant_method") if isinstance(quantised, dict) else quantised
        raise wanted("quantization_config", where, f"quant_method {METHOD}", quoted(str(got)))
    if quantised.get("format") not in CODED:
        raise wanted("quantization_config", where, f"format {' or '.join(CODED)}", quoted(str(quantised.get("format"))))
    return CodedShards(files, quantised["format"])
