"""Which goldens catch each mistake in number formats."""

from typing import NamedTuple

import numpy as np

from ref.golden_files.files import golden_root, read_checked
from ref.mutants.format_coders import Coded
from ref.mutants.formats import FORMAT_MUTANTS
from ref.ops.blocks import Blocks, decode


class FormatGolden(NamedTuple):
    """Weights, and what a witness makes of them."""

    kind: str
    weight: np.ndarray  # [O, I] float32
    scaled: bool  # SFP8: each row is first brought to 1.875
    codes: np.ndarray | None  # [O, bytes] uint8; None where the witness says values only
    values: np.ndarray  # [O, I] float32


def format_goldens() -> dict[str, FormatGolden]:
    """Read golden/vectors/quantise.json and switching_float.json: what is right.

    Returns:
        id -> FormatGolden.

    Raises:
        BadInput: a golden is missing or damaged.
    """
    out = {}
    for name in ("quantise", "switching_float"):
        for row in read_checked(golden_root() / f"vectors/{name}.json", "vectors")["vectors"]:
            if row["result"] == "must":
                out[row["id"]] = _golden(row["inputs"], np.array(row["expected"]))
    return out


def _golden(inputs, expected: np.ndarray) -> FormatGolden:
    weight = np.array(inputs["weight"], np.float32)
    if "format" not in inputs:
        return FormatGolden("SFP8", weight, bool(inputs["scaled"]), None, expected.astype(np.float32))
    kind, codes = inputs["format"], expected.astype(np.uint8)
    scale = np.float32(7) * (np.float32(1) / np.abs(weight).max(axis=1)) if kind == "INT4" else None
    return FormatGolden(kind, weight, True, codes, decode(Blocks(codes, kind, scale)))


def _is_right(golden: FormatGolden, made: Coded) -> bool:
    codes, values = made
    if golden.codes is None:
        return not (codes == 0x80).any() and np.array_equal(values, golden.values)
    return np.array_equal(codes, golden.codes) and np.array_equal(values, golden.values)


def kills() -> dict[str, list[str]]:
    """Say which goldens catch each mutant.

    Returns:
        name of a mutant -> ids of the vectors that it gets wrong.

    Raises:
        BadInput: as `format_goldens`.
    """
    goldens = format_goldens().items()
    return {
        mutant.name: [
            name for name, one in goldens if one.kind == kind and not _is_right(one, mutant.run(one.weight, one.scaled))
        ]
        for kind, mutants in FORMAT_MUTANTS.items()
        for mutant in mutants
    }
