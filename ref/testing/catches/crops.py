"""Which goldens catch each mistake in Pan & Scan."""

from ref.config import CROPS, CropConfig
from ref.golden_files.files import golden_root, read_checked
from ref.mutants.crops import CROP_MUTANTS, Boxes


def crop_goldens() -> dict[str, tuple[int, int, CropConfig, Boxes]]:
    """Read what witnesses cut.

    Returns:
        id -> width, height, settings, boxes: of golden/vectors/pan_and_scan.json, and of the photographs in
        golden/images that were cut or asked to be.

    Raises:
        BadInput: a golden is missing or damaged.

    Source: transformers 5.23, gemma_pytorch; see the files.
    """
    cases = {}
    for row in read_checked(golden_root() / "vectors" / "pan_and_scan.json", "vectors")["vectors"]:
        given = row["inputs"]
        if row["result"] == "must":
            settings = (given[name] for name in ("min_ratio", "min_crop", "max_crops", "past_edge"))
            cases[row["id"]] = (given["width"], given["height"], CropConfig("golden", *settings), row["expected"])
    for path in sorted((golden_root() / "images").glob("*.json")):
        for row in read_checked(path, "images")["rows"]:
            if row["crops"]:
                name = f"images/{path.stem}/{row['picture']}/crops"
                cases[name] = (row["width"], row["height"], CROPS[row["crops"]], row["boxes"])
    return cases


def kills() -> dict[str, list[str]]:
    """Say which goldens catch each mutant.

    Returns:
        name of a mutant -> ids of the cases whose boxes it gets wrong.

    Raises:
        BadInput: as `crop_goldens`.

    Source: `crop_goldens`.
    """
    goldens = crop_goldens().items()
    return {m.name: [name for name, (*asked, boxes) in goldens if m.run(*asked) != boxes] for m in CROP_MUTANTS}
