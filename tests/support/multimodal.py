"""A pass of text and made-up images."""

import numpy as np
from support.tiny import TINY, params, vision

from ref.config import VISION
from ref.golden_files.sampled import made_pixels
from ref.model.multimodal import Images, forward_images, soft_token_id
from ref.model.text import How

SOFT = soft_token_id(TINY)
WIDE = How(dtype=np.float64)


def images(name="tiny", count=1, start=0):
    made = made_pixels(start + count, VISION[name].image)
    return Images(vision(name), made[start:])


def image(name="tiny"):
    return [SOFT] * VISION[name].soft_tokens


def run(ids, pictures, how=WIDE, **more):
    return forward_images(params(), pictures, np.array(ids), how, **more)[0]
