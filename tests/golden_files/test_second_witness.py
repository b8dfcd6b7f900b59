"""The second witness, google-deepmind/gemma in JAX: visibility, RoPE, expansion of ids, preprocessing, vision tower.

Where it differs from the first, transformers, the golden says so in `differs`, and a test here shows that difference.
"""

from functools import cache

import numpy as np
import pytest
from safetensors.numpy import load_file
from support.tiny import BOTH

from ref.config import SIZES, SOFT_TOKEN, VISION
from ref.golden_files.files import golden_root, read_checked
from ref.golden_files.sampled import made_pixels, relative_l2
from ref.model.tap_rows import VISION_LAYER_TAPS, VISION_TAPS
from ref.model.taps import Recorder
from ref.model.text import How
from ref.model.vision import encode_images
from ref.ops.patches import split_patches
from ref.ops.resize import resize_float, resize_float_jit
from ref.ops.rope import rope_table, rotate, rotate_jit
from ref.ops.visibility import as_matrix, image_blocks, visible_ranges
from ref.prompt.placeholders import expand_ids
from ref.weights.synthetic import synthetic_vision

ROOT = golden_root() / "gemma_jax"
VISIBILITY, ROPE, EXPANSION, VISION_GOLDEN = (
    read_checked(ROOT / f"{kind}.json", "gemma_jax") for kind in ("visibility", "rope", "expansion", "vision")
)


def named(rows):
    return pytest.mark.parametrize("case", rows, ids=[row["name"] for row in rows])


# Visibility


def bits(rows):
    return np.array([[letter == "1" for letter in row] for row in rows])


def seen_by_us(case, kind, composition):
    """[T, S] of the real tokens, right pads cut off: to us a row ends where its tokens end."""
    tokens = case["tokens"].rstrip(".")
    soft = np.array([[letter == "I" for letter in tokens]])
    first = np.full(soft.shape, len(tokens) - len(tokens.lstrip(".")))
    window = case["window"] if kind == "local" else None
    return as_matrix(visible_ranges(first, 0, window, image_blocks(soft, first, 0), composition), soft.shape[1])[0]


def seen_by_gemma(case, kind):
    """The same of the golden, the rows of left pads blanked, after checking that nobody sees a right pad."""
    tokens = case["tokens"].rstrip(".")
    seen = bits(case[kind])
    assert not seen[:, len(tokens) :].any()
    real = np.array([letter != "." for letter in tokens])
    return seen[: len(tokens), : len(tokens)] & real[:, None]


@pytest.mark.parametrize("kind", ["global", "local"])
@named(VISIBILITY["cases"])
def test_each_query_sees_the_keys_that_gemma_lets_it_see(case, kind):
    np.testing.assert_array_equal(seen_by_us(case, kind, "two_sided"), seen_by_gemma(case, kind))


def longest_block(case):
    return max(len(run) for run in case["tokens"].replace(".", "t").split("t"))


def assert_differs_in_the_windows_future_only(case, kind, other):
    """Transformers sees more than gemma: keys of the same block, W or more after the query, in local layers."""
    more = other & ~seen_by_gemma(case, kind)
    assert (other >= seen_by_gemma(case, kind)).all()
    assert more.any() == (kind == "local" and longest_block(case) > case["window"])
    for query, key in np.argwhere(more):
        assert key - query >= case["window"]
        assert set(case["tokens"][query : key + 1]) == {"I"}


@pytest.mark.parametrize("kind", ["global", "local"])
@named(VISIBILITY["cases"])
def test_the_current_composition_differs_as_the_golden_says(case, kind):
    assert_differs_in_the_windows_future_only(case, kind, seen_by_us(case, kind, "current"))


@pytest.mark.witness
@named(VISIBILITY["cases"])
def test_the_first_witness_differs_as_the_golden_says(case):
    import torch
    from transformers import Gemma3TextConfig
    from transformers.models.gemma3 import modeling_gemma3

    tokens = case["tokens"].rstrip(".")
    config = Gemma3TextConfig(sliding_window=case["window"], num_hidden_layers=1, attn_implementation="eager")
    real, soft = (torch.tensor([[letter in kinds for letter in tokens]]).long() for kinds in ("tI", "I"))
    masks = modeling_gemma3.create_masks_for_vision_model(
        config=config,
        inputs_embeds=torch.zeros(1, len(tokens), 8),
        attention_mask=real,
        past_key_values=None,
        position_ids=None,
        block_sequence_ids=modeling_gemma3.get_block_sequence_ids_for_mask(soft),
    )
    for kind, name in (("global", "full_attention"), ("local", "sliding_attention")):
        seen = (masks[name][0, 0] == 0).numpy() & (real[0] == 1).numpy()[:, None]
        np.testing.assert_array_equal(seen, seen_by_us(case, kind, "current"))
        assert_differs_in_the_windows_future_only(case, kind, seen)


def test_the_layouts_are_those_that_can_go_wrong():
    cases = VISIBILITY["cases"]
    assert {np.sign(longest_block(case) - case["window"]) for case in cases} == {-1, 0, 1}
    assert {case["tokens"][0] + case["tokens"][-1] for case in cases} == {"tt", ".t", "t.", "tI", "It", "II"}


# RoPE


@pytest.mark.parametrize("turn", [rotate, rotate_jit], ids=["definition", "kernel"])
@named(ROPE["cases"])
def test_rope_as_gemma(case, turn):
    positions, x = np.array([ROPE["positions"]]), np.array([ROPE["x"]])
    wanted, single = np.array([case["float64"]]), np.array([case["float32"]])
    tables = rope_table(positions, x.shape[-1], case["base"], case["factor"], np.float64)
    error = np.abs(turn(x, *tables) - wanted).max(axis=(0, 2, 3))
    angle = positions[0] / case["factor"]  # the largest of a position, in radians
    assert (error <= 2.0**-52 * np.maximum(angle, 1) * np.abs(x).max()).all()
    tables = rope_table(positions, x.shape[-1], case["base"], case["factor"], np.float32)
    ours = turn(x.astype(np.float32), *tables)
    assert np.abs(ours - wanted).max() <= 4e-7  # one rounding each of x, cos and sin: 3 * 2^-24 * 2 (|x| <= 2)
    gemma = np.abs(single - wanted).max(axis=(0, 2, 3))
    assert gemma[-1] > 50 * np.abs(ours - wanted).max()  # `differs`: its angles are float32
    assert gemma[-1] <= 7e-4


# Expansion of ids


def unpacked(expanded):
    return [token for part in expanded for token in ([SOFT_TOKEN] * part[1] if isinstance(part, list) else [part])]


@pytest.mark.parametrize("case", EXPANSION["cases"], ids=lambda case: f"{case['name']}, {len(case['ids'])} ids")
def test_ids_expand_as_in_gemma(case):
    theirs, ours = unpacked(case["expanded"]), expand_ids(case["ids"], case["soft_tokens"])
    unused = (case["room"] - case["ids"].count(255_999)) * (case["soft_tokens"] + 3)
    assert theirs == ours + [0] * unused


def test_gemma_loses_an_image_that_is_the_very_first_token():
    [case] = EXPANSION["unlike"]
    assert SOFT_TOKEN not in unpacked(case["expanded"])
    assert expand_ids(case["ids"], 3) == [108, 255_999, SOFT_TOKEN, SOFT_TOKEN, SOFT_TOKEN, 256_000, 108, 5, 6]


# Preprocessing, tower, projector


@cache
def tower(name):
    """Return a tower's golden row, its arrays, our parameters and pixels."""
    [row] = [row for row in VISION_GOLDEN["towers"] if row["name"] == name]
    vision = VISION[row["weights"]["size"]]
    params = synthetic_vision(vision, row["weights"]["text_width"], row["weights"]["seed"])
    levels = np.rint((made_pixels(row["images"], vision.image).astype(np.float64) + 1) * 127.5)
    return row, load_file(ROOT / row["file"]), params, levels / 127.5 - 1


def our_taps(name, ops, dtype, tapped=True):
    _, _, params, pixels = tower(name)
    if not tapped:
        return {"vision.soft_tokens": encode_images(params, pixels, How(ops=BOTH[ops], dtype=dtype))}
    taps = Recorder()
    encode_images(params, pixels, How(ops=BOTH[ops], dtype=dtype, taps=taps))
    return taps.values


def distances(name, got):
    """Return relative distances from gemma's float64 values, of the taps that it has and we have."""
    row, truth, *_ = tower(name)
    rows = {tap: value for tap, value in truth.items() if tap in got}
    assert {tap: list(value.shape) for tap, value in truth.items()} == row["shapes"]
    return {tap: relative_l2(got[tap].reshape(value.shape).astype(np.float64), value) for tap, value in rows.items()}


@pytest.mark.parametrize("name", ["tiny", "tiny-long"])
@pytest.mark.parametrize("tapped", [True, False], ids=["tapped", "untapped"])
@pytest.mark.parametrize("ops", BOTH)
def test_tower_and_projector_in_float64_as_gemma(name, ops, tapped):
    found = distances(name, our_taps(name, ops, np.float64, tapped))
    assert "vision.soft_tokens" in found
    assert max(found.values()) <= 1e-14, max(found.items(), key=lambda one: one[1])


@pytest.mark.parametrize("name", ["tiny", "tiny-long"])
@pytest.mark.parametrize("ops", BOTH)
def test_tower_and_projector_in_float32_are_as_near_as_gemma_itself(name, ops):
    found, theirs = distances(name, our_taps(name, ops, np.float32)), tower(name)[0]["float32_distance"]
    worst = max(found, key=lambda tap: found[tap] / theirs[tap])
    assert found[worst] <= 2 * theirs[worst], (worst, found[worst], theirs[worst])


def test_every_tap_of_the_tower_has_this_witness_too():
    _, truth, *_ = tower("tiny")
    without = {"vision.pixels"}  # kept as patches
    assert set(VISION_TAPS) - set(truth) == without
    inside = {tap.removeprefix("vision.layer.1.") for tap in truth if tap.startswith("vision.layer.1.")}
    # gemma forms these in functions or adds them in place: no module has them as its output
    assert set(VISION_LAYER_TAPS) - inside == {"in", "attn.scores", "attn.probs", "attn.mix", "mid"}


@pytest.mark.parametrize("name", ["tiny", "tiny-long"])
def test_patches_hold_the_same_pixels_in_another_order(name):
    _, truth, params, pixels = tower(name)
    v = params.config
    ours = split_patches(pixels, v.patch)
    theirs = truth["patches"].reshape(*ours.shape[:2], v.patch, v.patch, v.channels).transpose(0, 1, 4, 2, 3)
    np.testing.assert_allclose(ours, theirs.reshape(ours.shape), rtol=0, atol=2.0**-52)
    assert not np.allclose(ours, truth["patches"])  # `differs`


@pytest.mark.parametrize("resize", [resize_float, resize_float_jit], ids=["definition", "kernel"])
@pytest.mark.parametrize("case", VISION_GOLDEN["preprocess"], ids=lambda case: f"{case['height']}x{case['width']}")
def test_float_preprocessing_as_gemma(case, resize):
    height, width, target = case["height"], case["width"], case["target"]
    pixels = made_pixels(1, max(height, width))[0].transpose(1, 2, 0)[:height, :width].astype(np.float64)
    levels = np.rint((pixels + 1) * 127.5)
    ours = np.clip((resize(levels, target, target) - 127.5) / 127.5, -1, 1)
    np.testing.assert_allclose(ours, np.array(case["pixels"]), rtol=0, atol=2.0**-48)


def test_the_projector_is_as_wide_as_the_text_model():
    assert {row["weights"]["text_width"] for row in VISION_GOLDEN["towers"]} == {SIZES["tiny"].width}
