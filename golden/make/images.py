"""Make golden/images/*.json: what other implementations make of photographs; needs the extras [witness] and [test].

    python golden/make/images.py                                # transformers.json
    python golden/make/images.py --gemma-pytorch CLONE          # and gemma_pytorch.json, from a clone of its repository
    python golden/make/images.py --jax PYTHON                   # and gemma.json; PYTHON has jax and gemma installed

The photographs are in the wheel of scikit-image. Nothing of `ref/` is imported.
"""

import argparse
import hashlib
import importlib.util
import json
import platform
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import jsonschema
import numpy as np
import skimage
from PIL import Image
from transformers.image_utils import load_image
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

GOLDEN = Path(__file__).resolve().parents[1]
DATA = Path(skimage.data_dir)
SIZE = 896
# as preprocessor_config.json of google/gemma-3-*-it; the class's own defaults are others
HUB = {"size": {"height": SIZE, "width": SIZE}, "resample": 2, "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
       "rescale_factor": 1 / 255}  # fmt: skip
SCAN = {"pan_and_scan_min_crop_size": 256, "pan_and_scan_max_num_crops": 4, "pan_and_scan_min_ratio_to_activate": 1.2}
# name: file, box y0 x0 y1 x1 or None, each pixel repeated so many times
PICTURES = {
    "landscape": ("coffee.png", None, 1),
    "landscape-odd": ("motorcycle_left.png", None, 1),
    "landscape-large": ("motorcycle_left.png", [20, 3, 497, 738], 4),
    "landscape-half": ("coffee.png", [100, 50, 300, 550], 5),  # 2500 x 1000: 2.5 strips make 3
    "portrait": ("coffee.png", [0, 150, 400, 380], 4),  # Pillow 13 sums over its rows first
    "square": ("astronaut.png", None, 1),
    "square-as-wanted": ("ihc.png", [0, 0, 448, 448], 2),  # 896 x 896: nothing to resize
    "extreme": ("coffee.png", [180, 0, 220, 600], 8),
    "extreme-tall": ("chelsea.png", [0, 200, 300, 207], 1),
    "tiny": ("chelsea.png", [100, 200, 107, 205], 1),
    "one-pixel": ("astronaut.png", [100, 200, 101, 201], 1),
    "grey": ("camera.png", None, 1),
    "transparent": ("logo.png", None, 1),
}
EXACT = {"atol": 0.0, "basis": "exact: float32 pixels bit-equal"}
FLOAT = {"atol": 1.5e-7, "basis": "float64 truth; float32 of a resize to 255, a difference and a quotient"}
LICENCE = "Apache-2.0; digests and single values of the photographs in the scikit-image wheel, which are not here"


def picture(file, box, repeat):
    """Read a photograph as transformers does, cut it, and enlarge it by repeating pixels."""
    whole = np.array(load_image(str(DATA / file)))
    y0, x0, y1, x1 = box or (0, 0, *whole.shape[:2])
    part = whole[y0:y1, x0:x1].repeat(repeat, axis=0).repeat(repeat, axis=1)
    return np.ascontiguousarray(part), digest(whole)


def digest(value):
    """Hash the values in C order, little-endian."""
    return hashlib.sha256(np.ascontiguousarray(value, value.dtype.newbyteorder("<")).tobytes()).hexdigest()


def samples(value, count):
    """Take values at the places that golden/README.md describes."""
    places = (np.arange(min(count, value.size), dtype=np.uint64) * 2_654_435_761 + 97) % value.size
    return value.ravel()[places].tolist()


def row(name, image, photograph, crops, resize):
    """Say what went in."""
    file, box, repeat = PICTURES[name]
    return {"picture": name, "file": file, "photograph_sha256": photograph, "box": box, "repeat": repeat,
            "width": image.shape[1], "height": image.shape[0], "sha256": digest(image), "crops": crops,
            "resize": resize}  # fmt: skip


def transformers_rows():
    """Whole images, and whole images with crops."""
    plain = Gemma3ImageProcessorPil(**HUB)
    for name, recipe in PICTURES.items():
        image, photograph = picture(*recipe)
        for scan in (False, True):
            settings = {"do_pan_and_scan": scan, "return_tensors": "np", **(SCAN if scan else {})}
            made = plain([Image.fromarray(image)], **settings)
            levels = plain([Image.fromarray(image)], do_rescale=False, do_normalize=False, **settings)["pixel_values"]
            pixels = made["pixel_values"]
            assert (pixels.dtype, levels.dtype) == (np.float32, np.uint8)
            yield row(name, image, photograph, "transformers" if scan else None, "pillow") | {
                "boxes": boxes_of(image) if scan else [],
                "shape": list(pixels.shape),
                "levels_sha256": digest(levels),
                "pixels_sha256": digest(pixels),
                "samples": samples(pixels, 16),
                "tolerance": EXACT,
            }


def boxes_of(image):
    """Read the crops' boxes off an image whose pixels hold their own place."""
    place = np.stack(np.meshgrid(*map(np.arange, image.shape[:2]), indexing="ij"))
    crops = Gemma3ImageProcessorPil().pan_and_scan(place, *SCAN.values())
    return [[*(int(v) for v in c.min((1, 2))), *(int(v) + 1 for v in c.max((1, 2)))] for c in crops]


def gemma_pytorch_rows(clone):
    """The whole image and its crops, as its own two functions make them."""
    scan, scale = (load(clone / "gemma/siglip_vision" / f"{name}.py") for name in ("pan_and_scan", "preprocessor"))
    for name in ("landscape", "landscape-odd", "landscape-half", "portrait", "square", "extreme", "tiny"):
        image, photograph = picture(*PICTURES[name])
        whole = Image.fromarray(image)
        crops, boxes = scan.pan_and_scan_os_with_crop_positions(whole)
        if len(crops) == 1:  # the whole image: its way to say none
            crops, boxes = [], []
        made = scale.preprocess_images_for_siglip_vision([whole, *crops])
        pixels = np.stack([one.numpy() for one in made])
        yield row(name, image, photograph, "gemma_pytorch", "pillow") | {
            "boxes": [list(box) for box in boxes],
            "shape": list(pixels.shape),
            "levels_sha256": None,
            "pixels_sha256": digest(pixels),
            "samples": samples(pixels, 16),
            "tolerance": EXACT,
        }


def load(path):
    """Import one file by its path."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def gemma_rows(python):
    """Each picture through gemma's pre_process_image in float64; how far its own float32 is from that."""
    pictures = {name: picture(*recipe) for name, recipe in PICTURES.items()}
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder) / "in.npz", Path(folder) / "out.npz"
        np.savez(given, **{name: image for name, (image, _) in pictures.items()})
        script = Path(__file__).with_name("jax_images.py")
        subprocess.run([python, str(script), "--pictures", str(given), str(made)], check=True)
        made = dict(np.load(made))
    versions = made["versions"].tolist()
    rows = []
    for name, (image, photograph) in pictures.items():
        truth, own = (made[name + ending].transpose(2, 0, 1)[None] for ending in ("", ".float32"))
        print(f"{name}: float32 gemma is {np.abs(own - truth).max():.1e} from float64", file=sys.stderr)
        rows.append(
            row(name, image, photograph, None, "float")
            | {"boxes": [], "shape": list(truth.shape), "levels_sha256": None, "pixels_sha256": None}
            | {"samples": samples(truth, 256), "tolerance": FLOAT}
        )
    return rows, versions


def write(name, purpose, source, rows):
    """Check against the schema, then replace the file; a draft that fails is left as `.rej`."""
    versions = {package: version(package) for package in ("numpy", "pillow", "scikit-image")}
    content = {
        "format_version": 1,
        "id": f"images/{name}",
        "purpose": purpose,
        "source": {"kind": "witness", **source},
        "generator": "python golden/make/images.py",
        "environment": {"python": platform.python_version(), **versions},
        "licence": LICENCE,
        "rows": rows,
    }
    path = GOLDEN / "images" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    draft = path.with_suffix(".rej")
    head = json.dumps({**content, "rows": 0}, indent=1, allow_nan=False).removesuffix("0\n}")
    draft.write_text(head + "[\n" + ",\n".join(json.dumps(one) for one in rows) + "\n ]\n}\n")
    jsonschema.validate(json.loads(draft.read_text()), json.loads((GOLDEN / "schema/images.schema.json").read_text()))
    draft.replace(path)


def main():
    """Make the files that the given witnesses allow."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gemma-pytorch", type=Path, metavar="CLONE")
    parser.add_argument("--jax", metavar="PYTHON")
    args = parser.parse_args()
    rows = list(transformers_rows())
    source = {"name": "transformers", "version": version("transformers"), "function": "Gemma3ImageProcessorPil"}
    write("transformers", "Photographs at all shapes, whole and with the crops of Pan & Scan.", source, rows)
    if args.gemma_pytorch:
        git = ["git", "-C", str(args.gemma_pytorch), "rev-parse", "HEAD"]
        commit = subprocess.run(git, check=True, capture_output=True, text=True).stdout.strip()
        source = {"name": "gemma_pytorch", "version": commit, "function": "preprocess_images_for_siglip_vision"}
        rows = list(gemma_pytorch_rows(args.gemma_pytorch))
        write("gemma_pytorch", "Photographs with crops that reach past the edge.", source, rows)
    if args.jax:
        rows, (gemma, jax) = gemma_rows(args.jax)
        source = {"name": "gemma", "version": f"{gemma}, jax {jax} in float64", "function": "pre_process_image"}
        write("gemma", "Photographs resized without rounding to levels.", source, rows)


if __name__ == "__main__":
    main()
