"""Dumps of `tiny` with images, whole: a row of a batch is a pass, and a wrong step may stand in any of them."""

import numpy as np
from support.judged import dumped

import ref
from ref import compare
from ref.config import SIZES, VISION
from ref.emulate.arithmetic import emulate
from ref.emulate.graph import Run
from ref.emulate.one_pass import pass_of
from ref.emulate.policy import POLICIES
from ref.emulate.stages import prepare_stage, stages_of, taps_of
from ref.golden_files.sampled import made_pixels
from ref.model.multimodal import soft_token_id

SOFT, EACH = soft_token_id(SIZES["tiny"]), VISION["tiny"].soft_tokens


def prompt_with(images, seed=0):
    """Draw ids of text with so many images in it."""
    rng = np.random.default_rng(seed)
    parts = [[2], *([*rng.integers(3, 96, 3 + number % 2), *[SOFT] * EACH] for number in range(images))]
    return [int(one) for part in [*parts, rng.integers(3, 96, 6)] for one in part]


def taps_with_images(ids, pixels, rules=None):
    """Compute every tap of a prompt with images in float32, with other rules in the place of some."""
    loaded = ref.load("tiny")
    one_pass = pass_of(loaded, ids, pixels=pixels)
    run, taps = Run(one_pass, emulate(POLICIES["transformers-float32"], 1), {}, None, rules), {}
    for stage in stages_of(one_pass):
        run.enter(stage, prepare_stage(loaded, stage, "file", np.float32))
        with np.errstate(all="ignore"):
            taps |= {tap: run.value(tap) for tap in taps_of(stage, False, one_pass.places.any())}
    return taps


def report_of_images(count, rules):
    """Judge one prompt with so many images, and wrong steps in it."""
    ids, pixels = prompt_with(count), made_pixels(count, VISION["tiny"].image)
    return report_of_rows([ids], [pixels], [taps_with_images(ids, pixels, rules)])


def report_of_rows(rows, pixels, taps):
    """Judge the taps of rows of a batch; `pixels[i]` are row i's images, or None."""
    passes = []
    for number, (ids, images, values) in enumerate(zip(rows, pixels, taps, strict=True)):
        made = dumped(values, ids=np.array(ids))
        passes.append(made.passes[0]._replace(number=number, image_blocks=blocks_of(ids), pixels=images))
    return compare(made._replace(passes=passes), loaded=ref.load("tiny"))


def blocks_of(ids):
    """List the images of a prompt as [start, stop]."""
    starts = [place for place, one in enumerate(ids) if one == SOFT and ids[place - 1] != SOFT]
    return [[start, start + EACH] for start in starts]
