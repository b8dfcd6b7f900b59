"""Images: the toy models, and one block of SigLIP at its full size with the projector."""

from functools import partial

import numpy as np
import torch

from ref.golden_files.sampled import made_pixels

from .of_transformers import row
from .products import Products, chain, tf32, to_bfloat16, to_tf32

SEED = 1
SIDES = {"tiny": 40, "tiny-long": 60, "siglip-224": 224}  # of an image
CONTEXTS = {
    "tf32-convolutions": lambda loaded: Products(convolve=to_tf32),
    "tf32-everything": lambda loaded: Products(tf32, convolve=to_tf32),
    "bfloat16-convolutions": lambda loaded: Products(convolve=to_bfloat16),
    "chain": lambda loaded: Products(chain),
    "autocast-bfloat16": lambda loaded: torch.autocast("cpu", dtype=torch.bfloat16),
}
# of [heads, 4096, 4096] scores and probabilities one has a gigabyte, and all that is made of them still needs it
SPARED = ["vision.pixels", "vision.patch_embed", "vision.embed", "vision.layer.*.attn.[qkv]", "vision.layer.*.mid"]
SPARED += ["vision.layer.*.ffn.*", "vision.layer.*.out", "vision.post_norm", "vision.pool", "vision.soft*", "text.*"]


def with_images(loaded, images: int) -> list[int]:
    """Return ids with images between text."""
    config = loaded.params.config
    text = np.random.default_rng(SEED).integers(3, config.vocabulary, 12).tolist()
    return [2, 5, *[7, *[config.vocabulary] * loaded.vision.config.soft_tokens] * images, *text]


def images_row(kind, name, side, dtype, attention, images, **how):
    """Make a row with images; with two of them one cached step follows."""
    pixels, ids = torch.from_numpy(made_pixels(images, side)), partial(with_images, images=images)
    what = f"{images}-images"
    return row(kind, name, dtype, attention, what, ids, pixel_values=pixels, steps=images - 1, **how)


def rows():
    """Yield the rows."""
    for name, side in SIDES.items():
        for dtype in ("float32", "bfloat16", "float16"):
            for attention in ("eager", "sdpa"):
                for images in (1, 2):
                    yield images_row("torch", name, side, dtype, attention, images)
                if name != "siglip-224":
                    yield from texts(name, dtype, attention)
            for kind, context in CONTEXTS.items() if dtype == "float32" else ():
                yield images_row(kind, name, side, dtype, "eager", 1, context=context, nightly=name == "siglip-224")
    for dtype in ("float32", "bfloat16"):
        yield images_row("torch", "siglip-896", 896, dtype, "sdpa", 1, taps=SPARED)


def texts(name, dtype, attention):
    """Yield rows of text: a window that has gone round, pads of two rows, short and long."""
    rng = np.random.default_rng(SEED)
    ring, pads = rng.integers(3, 97, 9).tolist(), rng.integers(3, 97, (2, 15))
    yield row("torch", name, dtype, attention, "ring", lambda loaded: ring, steps=8)
    yield row("torch", name, dtype, attention, "pads", lambda loaded: pads, left_pads=[0, 6], steps=2)
    for count in (3, 40):
        ids = rng.integers(3, 97, count).tolist()
        yield row("torch", name, dtype, attention, f"{count}", lambda loaded, ids=ids: ids)
