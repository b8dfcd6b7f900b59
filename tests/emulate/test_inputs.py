"""What the registry says a tap is made from is what its value depends on, as the graph computes it."""

import numpy as np
import pytest

import ref
from ref.emulate.arithmetic import TRUTH
from ref.emulate.graph import Run
from ref.emulate.one_pass import pass_of
from ref.emulate.stages import prepare_stage, stages_of, taps_of
from ref.golden_files.sampled import made_pixels
from ref.model.multimodal import Images, embed_images
from ref.model.taps import Recorder, row_of
from ref.model.text import How, forward

OTHER = {"out of the layer before", "out of the last layer", "out of the block before", "out of the last block"}


@pytest.fixture(scope="module")
def known():
    """A pass with images, and the values of all its taps."""
    loaded = ref.load("tiny")
    ids = [5, 7, *([97] * loaded.vision.config.soft_tokens), *range(20, 31)]
    recorder = Recorder()
    how = How(dtype=np.float64, taps=recorder)
    images = Images(loaded.vision, made_pixels(1, loaded.vision.config.image))
    forward(loaded.params, [ids], how, soft=embed_images(images, [ids], loaded.params.config, how))
    return loaded, pass_of(loaded, np.array(ids), pixels=images.pixels), recorder.values


def changed(value):
    """Return another value of the same kind; of ranges, each without its last key."""
    return value * 1.5 + 0.25 if value.dtype.kind == "f" else value - [0, 1]


def depends_on(one_pass, values, stage, weights, tap):
    """List the taps that a change of changes this one, of those that its rule reads."""

    def computed(given):
        run = Run(one_pass, TRUTH, {name: lambda value=value: value for name, value in given.items()})
        run.enter(stage, weights)
        return run.compute(tap), run.inputs[tap]

    value, read = computed(values)
    others = {name: computed(values | {name: changed(values[name])})[0] for name in read}
    return [name for name, other in others.items() if not np.array_equal(value, other)]


def named(tap, inputs, layers, blocks):
    """Return the inputs of a registry row as names of taps."""
    part, _, rest = tap.partition(".")
    layer = int(rest.split(".")[1]) if rest.startswith("layer.") else None
    before = (layers if part == "text" else blocks) if layer is None else layer
    last = f"{part}.layer.{before - 1}.out"
    prefix = "" if layer is None else f"{part}.layer.{layer}."
    return [last if name in OTHER else prefix + name for name in inputs]


def test_the_inputs_of_a_row_are_those_that_the_value_depends_on(known):
    loaded, one_pass, values = known
    layers, blocks = loaded.params.config.layers, loaded.vision.config.layers
    seen = set()
    for stage in stages_of(one_pass):
        weights = prepare_stage(loaded, stage, "file", np.float64)
        for tap in taps_of(stage, cached=True, images=True):
            wanted = named(tap, row_of(tap).inputs, layers, blocks)
            if tap.endswith("layer.0.in"):  # there is no layer before
                wanted = ["model.merged"] if tap.startswith("text.") else ["vision.embed"]
            assert sorted(depends_on(one_pass, values, stage, weights, tap)) == sorted(wanted), tap
            seen.add(tap)
    assert set(values) < seen  # and what a cache holds
