"""The judge's graph of taps computes what the model computes, bit by bit."""

import numpy as np
import pytest

import ref
from ref.emulate.arithmetic import TRUTH
from ref.emulate.graph import RULES, Run
from ref.emulate.one_pass import pass_of
from ref.emulate.stages import prepare_stage, stages_of, taps_of
from ref.golden_files.sampled import made_pixels
from ref.model.multimodal import Images, embed_images
from ref.model.taps import Recorder
from ref.model.text import How, forward


@pytest.mark.parametrize("weights", ["tiny", "tiny-long"])
@pytest.mark.parametrize("with_images", [False, True])
def test_equals_the_model(weights, with_images):
    loaded = ref.load(weights)
    M = loaded.vision.config.soft_tokens
    ids = [5, 7, *([97] * M if with_images else []), 9, 11, *([97] * M if with_images else []), *range(20, 31)]
    recorder = Recorder()
    how = How(dtype=np.float64, taps=recorder)
    pixels = made_pixels(2, loaded.vision.config.image) if with_images else None
    soft = embed_images(Images(loaded.vision, pixels), [ids], loaded.params.config, how) if with_images else None
    forward(loaded.params, [ids], how, soft=soft)
    one_pass = pass_of(loaded, np.array(ids), pixels=pixels)
    run = Run(one_pass, TRUTH)
    for stage in stages_of(one_pass):
        run.enter(stage, prepare_stage(loaded, stage, "file", np.float64))
        for tap in taps_of(stage, cached=False, images=with_images):
            np.testing.assert_array_equal(run.value(tap), recorder.values[tap], err_msg=tap)
            recorder.values.pop(tap)
    assert not recorder.values
    assert len(RULES) == 26 + 3 + 15 + 7 + 1
