"""MLX on rows with left pads and on images: clean ones match, and what is wrong in it, or planted, is named."""

from contextlib import contextmanager
from unittest import mock

import numpy as np
import pytest
from support.captures import passes_of
from support.mlx_models import IDS, needs_mlx, needs_mlx_vlm, seeing_mlx_vlm
from support.transformers_captures import SEEING

import ref
from ref.capture.mlx import capture
from ref.capture.mlx.model import build_from
from ref.dump.write import read_dump
from ref.errors import BadInput
from ref.golden_files.sampled import made_pixels
from ref.model.taps import vision_tap_names

PIXELS = made_pixels(2, 40)
BLOCKS = [(2, 6), (8, 12)]  # of SEEING
PADDED = [IDS, [0, 0, 0, *IDS[:-3]]]


@pytest.fixture
def model():
    """Return mlx-lm's model of `tiny`, whose width has a root that bfloat16 holds."""
    return build_from(ref.load("tiny"))


@needs_mlx
@pytest.mark.parametrize("steps", [0, 4])
def test_rows_with_left_pads_match(model, tmp_path, steps):
    folder = capture(model, PADDED, tmp_path / "d", left_pads=[0, 3], steps=steps, weights="tiny")
    assert ref.compare(folder)["verdict"] == "match"
    rows = read_dump(folder)["passes"]
    assert [one["left_pads"] for one in rows] == [0] * (steps + 1) + [3] * (steps + 1)
    assert [place for one in rows[steps + 1 :] for place in one["positions"]] == [-1, -1, -1, *range(6 + steps)]


@needs_mlx
def test_pads_that_a_global_layer_attends_to_are_named(model, tmp_path, monkeypatch):
    from mlx_lm.models import cache

    made = cache.create_causal_mask
    monkeypatch.setattr(cache, "create_causal_mask", lambda *args, left_padding, **more: made(*args, **more))
    report = ref.compare(capture(model, PADDED, tmp_path / "d", left_pads=[0, 3], weights="tiny"))
    assert (report["first"]["tap"], report["first"]["pass"]) == ("text.layer.5.attn.mix", 1)
    assert report["causes"][0]["mutant"] == "pads_visible"


@contextmanager
def blocks_seen():
    """Let an image's tokens see each other, as Gemma's do, within local layers' windows and beyond."""
    from mlx_vlm.models.gemma3 import language

    made = language.create_attention_mask

    def mask(h, cache=None, window_size=None):
        if h.shape[1] == 1:
            return made(h, cache, window_size=window_size)
        back = np.subtract.outer(np.arange(h.shape[1]), np.arange(h.shape[1]))
        seen = (back >= 0) & (back < (window_size or h.shape[1]))
        for start, stop in BLOCKS:
            seen[start:stop, start:stop] = True
        return language.mx.array(seen)

    with mock.patch.object(language, "create_attention_mask", mask):
        yield


@pytest.fixture
def seeing():
    """Return mlx-vlm's model of `tiny`, its epsilon mended."""
    model = seeing_mlx_vlm(ref.load("tiny"))
    model.vision_tower.vision_model.post_layernorm.eps = 1e-6
    return model


@needs_mlx_vlm
def test_mlx_vlm_as_it_is_has_another_epsilon_and_causal_images(tmp_path):
    model = seeing_mlx_vlm(ref.load("tiny"))
    report = ref.compare(capture(model, SEEING, tmp_path / "d", pixel_values=PIXELS, weights="tiny"))
    assert (report["verdict"], report["first"]["tap"]) == ("bug", "vision.post_norm")
    assert {one["mutant"] for one in report["causes"]} >= {"layer_norm_eps_1e-5", "image_causal"}
    wrong = {one["tap"].partition(".attn.mix")[1] for one in report["taps"] if one["verdict"] == "bug"}
    assert wrong == {"", ".attn.mix"}


@needs_mlx_vlm
def test_mended_it_matches_with_steps_after_the_images(seeing, tmp_path):
    with blocks_seen():
        folder = capture(seeing, SEEING, tmp_path / "d", pixel_values=PIXELS, steps=2, weights="tiny")
    assert ref.compare(folder)["verdict"] == "match"
    first, *steps = passes_of(folder)
    lacks = (".scores", ".probs")
    assert {tap for tap in first if tap.startswith("vision.")} == {
        tap for tap in vision_tap_names(2) if not tap.endswith(lacks)
    }
    np.testing.assert_array_equal(first["vision.pixels"], PIXELS)
    assert not any(tap.startswith(("vision.", "model.")) for one in steps for tap in one)
    assert [one["image_blocks"] for one in read_dump(folder)["passes"]] == [[[2, 6], [8, 12]], [], []]


@needs_mlx_vlm
def test_a_mistake_in_the_tower_is_named(seeing, tmp_path):
    import mlx.nn as nn

    seeing.vision_tower.vision_model.encoder.layers[1].mlp.activation_fn = nn.GELU()
    with blocks_seen():
        report = ref.compare(capture(seeing, SEEING, tmp_path / "d", pixel_values=PIXELS, weights="tiny"))
    assert (report["first"]["tap"], report["causes"][0]["mutant"]) == ("vision.layer.1.ffn.act", "vision_gelu_erf")


@needs_mlx
def test_pixels_of_a_model_without_a_tower_are_refused(model, tmp_path):
    with pytest.raises(BadInput, match="pixel_values: wanted a whole model of mlx-vlm, with its tower, got Model"):
        capture(model, SEEING, tmp_path / "d", pixel_values=PIXELS)


@needs_mlx_vlm
def test_soft_tokens_without_their_images_are_refused(seeing, tmp_path):
    with pytest.raises(BadInput, match="soft tokens: wanted 4 for 1 images, 4 each, whole images in a row"):
        capture(seeing, SEEING, tmp_path / "d", pixel_values=PIXELS[:1])
    assert not (tmp_path / "d").exists()
