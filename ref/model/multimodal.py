"""Images and text together: which tokens stand for image features, and one pass over both."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ref.config import SOFT_TOKEN, TextConfig
from ref.errors import wanted
from ref.model.cache import Cache
from ref.model.inputs import SoftTokens, rows_of
from ref.model.params import TextParams, VisionParams
from ref.model.text import How, forward
from ref.model.vision import encode_images


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


def soft_places(ids: ArrayLike, c: TextConfig, per_image: int) -> np.ndarray:
    """Find the soft tokens.

    Args:
        ids: [B, T] integers.
        c: the text configuration.
        per_image: M.

    Returns:
        [B, T] bool.

    Raises:
        BadInput: no [B, T] integers; a run of soft tokens whose length is no multiple of M.

    Source: transformers 5.23 `get_placeholder_mask`.
    Differs: transformers counts only, so that half an image may stand in one place and half in another.
    """
    places = rows_of(ids) == soft_token_id(c)
    for row in np.diff(np.pad(places, ((0, 0), (1, 1))).astype(np.int8), axis=1):
        runs = np.flatnonzero(row == -1) - np.flatnonzero(row == 1)
        odd = runs[runs % per_image > 0]
        if odd.size:
            raise wanted("image placeholders", "ids", f"runs of {per_image}", f"a run of {odd[0]}")
    return places


def check_count(found: int, images: "Images | None", c: TextConfig) -> None:
    """Refuse a prompt whose soft tokens are not as many as its images fill.

    Args:
        found: how many soft tokens the prompt, or the batch, has.
        images: its images, None where there are none.
        c: the text configuration.

    Raises:
        BadInput: wanted and got, in tokens and images.

    Source: transformers 5.23 `get_placeholder_mask`.
    Differs: google-deepmind/gemma ignores images beyond those that have places.
    """
    count, per_image = (len(images.pixels), images.vision.config.soft_tokens) if images else (0, 0)
    if found != count * per_image:
        want = f"{count * per_image} of id {soft_token_id(c)}, for {count} images and crops"
        raise wanted("image placeholders", "ids", want, found)


def embed_images(images: Images, ids: ArrayLike, c: TextConfig, how: How) -> SoftTokens:
    """Look at the images and say where their rows go.

    Args:
        images: pixels and tower.
        ids: [B, T] integers with 262144 in the soft tokens' places.
        c: the text configuration.
        how: as for `forward`.

    Raises:
        BadInput: as `soft_places` and `encode_images`; a projector to another width.

    Source: transformers 5.23 `Gemma3Model.get_image_features`.
    """
    if images.vision.text_width != c.width:
        raise wanted("projector", "vision", f"width {c.width}, as the text model's", images.vision.text_width)
    places = soft_places(ids, c, images.vision.config.soft_tokens)
    check_count(int(places.sum()), images, c)
    return SoftTokens(encode_images(images.vision, images.pixels, how), places)


def forward_images(
    text: TextParams,
    images: Images,
    ids: ArrayLike,
    how: How = How(),  # noqa: B008
    cache: Cache | None = None,
    first: ArrayLike | None = None,
) -> tuple[Any, Any]:
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
