"""Rows of a batch, their pads, steps and images: each is shown as the model ran it."""

from importlib.util import find_spec

import numpy as np
import pytest
from safetensors import safe_open
from support.captures import passes_of
from support.transformers_captures import IDS, SEEING, assert_same, only_pass, text_only

from ref.capture.transformers import build_model, capture
from ref.config import SIZES
from ref.dump.write import read_dump

pytestmark = pytest.mark.witness
if find_spec("torch") and find_spec("transformers"):
    import torch

TINY = SIZES["tiny"]


def prompt(ids):
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.ones_like(torch.tensor(ids))}


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_steps_are_the_tokens_that_generate_chooses(tmp_path, attention):
    rows, pads, steps = [IDS, [0, 0, 0, 0, *IDS[:-4]]], [0, 4], 6
    model = text_only(attention=attention)
    given = prompt(rows)
    given["attention_mask"][1, :4] = 0
    text = model.generate(**given, do_sample=False, max_new_tokens=steps, eos_token_id=None, pad_token_id=0)
    capture(model, rows, tmp_path / "dump", left_pads=pads, steps=steps)
    passes = read_dump(tmp_path / "dump")["passes"]
    by_row = [passes[: steps + 1], passes[steps + 1 :]]
    for row, own in enumerate(by_row):
        assert [one["cached"] for one in own] == [0, *range(11, 11 + steps)]
        assert [i for one in own for i in one["ids"]] == text[row].tolist()
        positions = [p for one in own for p in one["positions"]]
        assert positions == [max(-1, key - pads[row]) for key in range(11 + steps)]
        assert {one["left_pads"] for one in own} == {pads[row]}


def test_a_padded_row_sees_what_it_sees_alone(tmp_path, model):
    pads = 4
    padded = [0] * pads + IDS
    rows = passes_of(capture(model, [[1] * 4 + IDS, padded], tmp_path / "rows", left_pads=[0, pads], steps=3))
    alone = passes_of(capture(model, IDS, tmp_path / "alone", steps=3))
    for step, one in enumerate(alone):
        for tap, value in rows[4 + step].items():
            if tap.endswith("visible"):
                real = value[:, pads:] if step == 0 else value
                np.testing.assert_array_equal(real - pads, one[tap], err_msg=tap)
            elif not tap.endswith((".scores", ".probs")):
                real = value[:, value.shape[1] - one[tap].shape[1] :]
                np.testing.assert_allclose(real, one[tap], rtol=1e-4, atol=1e-5, err_msg=tap)
    np.testing.assert_array_equal(rows[4]["text.layer.0.attn.visible"][0, :pads], [[n, n] for n in range(pads)])


def test_a_cache_is_shown_as_attention_was_given_it(tmp_path, model):
    first, *steps = passes_of(capture(model, IDS, tmp_path / "dump", steps=2))
    assert first["text.layer.0.cache.k"].shape == (1, len(IDS), TINY.kv_heads, TINY.head_dim)
    np.testing.assert_array_equal(first["text.layer.0.cache.k"], first["text.layer.0.attn.k_rope"])
    np.testing.assert_array_equal(first["text.layer.0.cache.v"], first["text.layer.0.attn.v"])
    for n, one in enumerate(steps):
        total = len(IDS) + n + 1
        for i, keys in ((0, TINY.window), (5, total)):
            at = f"text.layer.{i}."
            assert one[at + "cache.k"].shape == one[at + "cache.v"].shape == (1, keys, TINY.kv_heads, TINY.head_dim)
            assert one[at + "attn.probs"].shape == (1, TINY.query_heads, 1, keys)
            assert one[at + "attn.visible"].tolist() == [[[total - keys, total]]]
            np.testing.assert_array_equal(one[at + "cache.k"][:, -1:], one[at + "attn.k_rope"])
            np.testing.assert_array_equal(one[at + "cache.v"][:, -1:], one[at + "attn.v"])
    np.testing.assert_array_equal(steps[0]["text.layer.5.cache.k"][:, :-1], first["text.layer.5.cache.k"])


def test_rows_with_images_have_their_own(tmp_path, pixels):
    rows = [SEEING, [0, 0, 0, 97, 97, 97, 97, 1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]]
    model = build_model("tiny")
    capture(model, rows, tmp_path / "rows", pixel_values=pixels, left_pads=[0, 3, 0], steps=1)
    passes = read_dump(tmp_path / "rows")["passes"]
    assert [one["image_blocks"] for one in passes] == [[[2, 6], [8, 12]], [], [[3, 7]], [], [], []]
    assert [one["pixels"] is not None for one in passes] == [True, False, True, False, False, False]
    assert {name for name in passes[4]["tensors"] if not name.startswith("text.")} == set()
    values = passes_of(tmp_path / "rows")
    assert [len(one["vision.soft_tokens"]) for one in values[:3:2]] == [2, 1]
    for number, own in ((0, pixels[:2]), (2, pixels[2:])):
        np.testing.assert_array_equal(values[number]["vision.pixels"], own.numpy())
    merged = values[0]["model.merged"][0]
    soft = [place for place, token in enumerate(SEEING) if token == 97]
    np.testing.assert_array_equal(merged[soft], values[0]["vision.soft_tokens"].reshape(-1, TINY.width))
    alone = only_pass(model, tmp_path / "alone", SEEING, pixel_values=pixels[:2])
    for tap, value in alone.items():
        if tap.startswith("vision."):
            np.testing.assert_allclose(values[0][tap], value, rtol=1e-4, atol=1e-5, err_msg=tap)


def test_images_without_their_token_types_are_shown_causal(tmp_path, pixels):
    more = {"pixel_values": pixels[:2], "token_type_ids": [0] * len(SEEING)}
    values = only_pass(build_model("tiny"), tmp_path / "dump", SEEING, **more)
    assert values["text.layer.5.attn.visible"].tolist() == [[[0, n + 1] for n in range(len(SEEING))]]
    [one] = read_dump(tmp_path / "dump")["passes"]
    assert one["image_blocks"] == [[2, 6], [8, 12]]


def test_pixels_are_what_a_bfloat16_tower_is_given(tmp_path, pixels):
    values = only_pass(build_model("tiny", "bfloat16"), tmp_path / "dump", SEEING, pixel_values=pixels[:2])
    assert_same(values["vision.pixels"], pixels[:2].bfloat16())
    [one] = read_dump(tmp_path / "dump")["passes"]
    with safe_open(tmp_path / "dump" / one["pixels"], "pt") as file:
        assert torch.equal(file.get_tensor("pixels"), pixels[:2].bfloat16())
