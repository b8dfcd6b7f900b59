"""Images and text together: which tokens stand for image features, and one pass over both."""

from typing import NamedTuple

import numpy as np

from ref.config import SOFT_TOKEN, TextConfig
from ref.errors import wanted
from ref.model.inputs import SoftTokens
from ref.model.params import TextParams, VisionParams
from ref.model.text import How, forward
from ref.model.vision import look


class Images(NamedTuple):
    """The images of a pass and the tower that looks at them."""

    vision: VisionParams
    pixels: np.ndarray  # [images, C, Y, X] in [-1, 1], crops too, in the order of their soft tokens


def soft_token_id(c: TextConfig) -> int:
    """Return the id that stands for one row of image features: 262144, or the first id after a smaller vocabulary.

    Args:
        c: the text configuration.

    Source: `image_token_index` of the released config.json.
    Differs: google-deepmind/gemma writes -2 there, gemma_pytorch 0.
    """
    return min(SOFT_TOKEN, c.vocabulary)


def soft_places(ids, c: TextConfig, images: int, per_image: int):
    """Find the soft tokens and check that the images fill them.

    Args:
        ids: [B, T] integers.
        c: the text configuration.
        images: how many there are, crops included.
        per_image: M.

    Returns:
        [B, T] bool.

    Raises:
        BadInput: not images * M of them, or in runs that are no multiple of M long.

    Source: transformers 5.23 `get_placeholder_mask`.
    Differs: google-deepmind/gemma ignores images beyond those that have places.
    """
    places = np.asarray(ids) == soft_token_id(c)
    if places.sum() != images * per_image:
        want = f"{images * per_image} of id {soft_token_id(c)}: {images} images of {per_image}"
        raise wanted("image placeholders", "ids", want, int(places.sum()))
    edges = np.diff(np.pad(places, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    for row in edges:
        runs = np.flatnonzero(row == -1) - np.flatnonzero(row == 1)
        if (runs % per_image).any():
            raise wanted(
                "image placeholders", "ids", f"runs of {per_image}", f"a run of {runs[runs % per_image > 0][0]}"
            )
    return places


def embed_images(images: Images, ids, c: TextConfig, how: How) -> SoftTokens:
    """Look at the images and say where their rows go.

    Args:
        images: pixels and tower.
        ids: [B, T] integers with 262144 in the soft tokens' places.
        c: the text configuration.
        how: as for `forward`.

    Raises:
        BadInput: as `soft_places` and `look`; a projector to another width.

    Source: transformers 5.23 `Gemma3Model.get_image_features`.
    Differs: no known.
    """
    if images.vision.text_width != c.width:
        raise wanted("projector", "vision", f"width {c.width}, as the text model's", images.vision.text_width)
    places = soft_places(ids, c, len(images.pixels), images.vision.config.soft_tokens)
    return SoftTokens(look(images.vision, images.pixels, how), places)


def forward_images(text: TextParams, images: Images, ids, how: How = How(), cache=None, first=None):  # noqa: B008
    """Run one pass over text and images: the tower, the merge, then the text model.

    Args:
        text, ids, how, cache, first: as for `ref.model.text.forward`.
        images: all those whose soft tokens are among ids, in order.

    Returns:
        (logits, cache), as `forward`. Later tokens need no images: they are in the cache.

    Raises:
        BadInput: as `forward` and `embed_images`.

    Source: transformers 5.23 `Gemma3ForConditionalGeneration`.
    Differs: see `ops.visibility`.
    """
    return forward(text, ids, how, cache, first, embed_images(images, ids, text.config, how))
