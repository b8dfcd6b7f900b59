"""Which goldens catch each mistake in pixels."""

import hashlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from ref.golden_files.files import golden_root, read_checked
from ref.mutants.pixels import PIXEL_MUTANTS
from ref.prompt.images import read_image, scale_levels


def photographs() -> Path | None:
    """Return the folder of the photographs that golden/images speaks of, in scikit-image (extra [test]), or None."""
    found = find_spec("skimage")
    return Path(found.origin).parent / "data" if found and found.origin else None


def vector_goldens() -> dict[str, tuple[np.ndarray, tuple[int, int], np.ndarray]]:
    """Read what Pillow resizes, out of golden/vectors/resize.json.

    Returns:
        id -> image [Y, X, 3] uint8, (height, width) wanted, levels [height, width, 3] uint8.

    Raises:
        BadInput: the golden is missing or damaged.

    Source: Pillow 13.
    """
    cases = {}
    for row in read_checked(golden_root() / "vectors" / "resize.json", "vectors")["vectors"]:
        given = row["inputs"]
        if row["result"] == "must" and given["rule"] == "pillow":
            image, levels = (np.array(values, np.uint8) for values in (given["image"], row["expected"]))
            cases[row["id"]] = (image, (given["height"], given["width"]), levels)
    return cases


def photo_goldens(folder: Path) -> dict[str, tuple[np.ndarray, dict[str, Any]]]:
    """Read the photographs of golden/images/transformers.json that are seen whole.

    Args:
        folder: where they are, as `photographs` finds it.

    Returns:
        id -> image [Y, X, 3] uint8, and what the witness made of it: the row of the golden.

    Raises:
        BadInput: a golden or a photograph is missing or damaged.

    Source: transformers 5.23 `Gemma3ImageProcessorPil`.
    """
    cases = {}
    for row in read_checked(golden_root() / "images" / "transformers.json", "images")["rows"]:
        if row["crops"] is None:
            whole = read_image(folder / row["file"])
            y0, x0, y1, x1 = row["box"] or (0, 0, *whole.shape[:2])
            image = whole[y0:y1, x0:x1].repeat(row["repeat"], axis=0).repeat(row["repeat"], axis=1)
            cases[f"images/transformers/{row['picture']}"] = (np.ascontiguousarray(image), row)
    return cases


def kills(folder: Path | None = None) -> dict[str, list[str]]:
    """Say which goldens catch each mutant.

    Args:
        folder: of the photographs, as `photographs` finds it; None: the small vectors only.

    Returns:
        name of a mutant -> ids of the cases whose pixels it gets wrong: levels of Pillow scaled to [-1, 1], and
        photographs by the sha256 of their pixels.

    Raises:
        BadInput: as `vector_goldens` and `photo_goldens`.

    Source: `vector_goldens`, `photo_goldens`.
    """
    caught: dict[str, list[str]] = {mutant.name: [] for mutant in PIXEL_MUTANTS}
    small = vector_goldens()
    for mutant in PIXEL_MUTANTS:
        for name, (image, sides, levels) in small.items():
            if not np.array_equal(mutant.run(image, sides), scale_levels(levels).transpose(2, 0, 1)):
                caught[mutant.name].append(name)
    for name, (image, row) in (photo_goldens(folder) if folder else {}).items():
        for mutant in PIXEL_MUTANTS:
            pixels = mutant.run(image, row["shape"][2])
            if hashlib.sha256(pixels[None].tobytes()).hexdigest() != row["pixels_sha256"]:
                caught[mutant.name].append(name)
    return caught
