"""Modules that are run on more than a prompt: step by step with a cache, on rows with left pads, on images."""

from importlib.util import find_spec

import numpy as np
import pytest
from support.captures import passes_of
from support.torch_stranger import IDS, TABLE, stranger, tiny
from support.transformers_captures import SEEING

import ref
from ref.capture.module import capture_module
from ref.capture.transformers import build_from, build_model
from ref.capture.transformers import capture as capture_transformers
from ref.dump.write import read_dump
from ref.errors import BadInput
from ref.golden_files.sampled import made_pixels
from ref.model.taps import vision_tap_names

pytestmark = pytest.mark.witness
if find_spec("torch") and find_spec("transformers"):
    import torch

BLOCK = "model.vision_tower.encoder.layers.{i}"
SEES = {  # of transformers, where what is its language model is one part of two
    "model.language_model.layers.{i}": [("L.in", "input"), "L.out"],
    "model.language_model.layers.{i}.self_attn.o_proj": [("L.attn.mix", "B T (N H)", "input"), "L.attn.out"],
    "model.language_model.embed_tokens": "text.embed",
    "model.language_model.layers.0": ("model.merged", "input"),
    "model.vision_tower.embeddings.patch_embedding": [("vision.pixels", "input"), ("vision.patch_embed", "B D P")],
    "model.vision_tower.embeddings": "vision.embed",
    BLOCK: [("V.in", "input"), "V.out"],
    f"{BLOCK}.layer_norm1": "V.attn.pre_norm",
    f"{BLOCK}.self_attn.q_proj": ("V.attn.q", "B P (N H)"),
    f"{BLOCK}.self_attn.k_proj": ("V.attn.k", "B P (N H)"),
    f"{BLOCK}.self_attn.v_proj": ("V.attn.v", "B P (N H)"),
    f"{BLOCK}.self_attn.out_proj": [("V.attn.mix", "B P (N H)", "input"), "V.attn.out"],
    f"{BLOCK}.layer_norm2": [("V.mid", "input"), "V.ffn.pre_norm"],
    f"{BLOCK}.mlp.fc1": "V.ffn.up",
    f"{BLOCK}.mlp.fc2": [("V.ffn.act", "input"), "V.ffn.out"],
    "model.vision_tower.post_layernorm": "vision.post_norm",
    "model.multi_modal_projector.mm_soft_emb_norm": [("vision.pool", "input"), "vision.soft_norm"],
    "model.multi_modal_projector": "vision.soft_tokens",
}
FUSED = ("scores", "probs")  # are functions of transformers' tower, which no hook hears


def own_cache(model, ids, at):
    return model(ids, at.mask, at.positions, keep=True)


def stepped(folder, call=own_cache, ids=IDS, **more):
    return capture_module(stranger(), ids, folder, table=TABLE, weights="tiny", call=call, **more)


def first_of(folder):
    report = ref.compare(folder)
    return report["first"]["pass"], report["first"]["tap"], report["causes"][0]["mutant"]


def test_steps_over_a_cache_of_its_own_match_and_are_what_transformers_chooses(tmp_path):
    folder = stepped(tmp_path / "d", steps=4)
    report = ref.compare(folder)
    assert (report["verdict"], report["compared"]["of_dump"]) == ("match", 5 * (14 * 7 + 1))
    other = capture_transformers(build_from(tiny()), IDS, tmp_path / "e", steps=4, weights="tiny")
    assert [(one["ids"], one["cached"]) for one in read_dump(folder)["passes"]] == [
        (one["ids"], one["cached"]) for one in read_dump(other)["passes"]
    ]


@pytest.mark.parametrize(("lag", "mutant"), [(len(IDS), "rope_positions_restart"), (1, "rope_positions_late")])
def test_a_wrong_position_after_the_prompt_is_named(tmp_path, lag, mutant):
    def wrong(model, ids, at):
        return model(ids, at.mask, at.positions - (lag if at.cached else 0), keep=True)

    assert first_of(stepped(tmp_path / "d", wrong, steps=1)) == (1, "text.layer.0.attn.mix", mutant)


def test_rows_with_left_pads_match(tmp_path):
    rows = [IDS, [0, 0, 0, *IDS[:-3]]]
    folder = stepped(tmp_path / "d", ids=rows, left_pads=[0, 3], steps=2)
    assert ref.compare(folder)["verdict"] == "match"
    passes = read_dump(folder)["passes"]
    assert [one["left_pads"] for one in passes] == [0, 0, 0, 3, 3, 3]
    assert passes[3]["positions"] == [-1, -1, -1, 0, 1, 2, 3, 4, 5]
    assert passes[4]["positions"] == [6]


def test_pads_that_are_attended_are_named(tmp_path):
    def wrong(model, ids, at):
        return model(ids, torch.ones_like(at.mask), at.positions)

    folder = stepped(tmp_path / "d", wrong, [0, 0, 0, *IDS], left_pads=[3])
    assert first_of(folder) == (0, "text.layer.0.attn.mix", "pads_visible")


def test_what_a_model_writes_over_is_not_what_the_dump_says(tmp_path):
    def call(model, ids, at):
        out = model(ids, at.mask, at.positions, keep=True)
        for one in (ids, at.mask, at.positions):
            one.zero_()
        return out

    folder = stepped(tmp_path / "d", call, steps=1)
    assert read_dump(folder)["passes"][0]["ids"] == IDS
    assert ref.compare(folder)["verdict"] == "match"


@pytest.mark.skipif(not find_spec("accelerate"), reason="needs accelerate")
def test_weights_that_a_hook_brings_are_heard(tmp_path):
    from accelerate import cpu_offload

    folder = capture_module(cpu_offload(stranger(), "cpu"), IDS, tmp_path / "d", table=TABLE, weights="tiny")
    assert ref.compare(folder)["verdict"] == "match"


def test_a_step_is_given_what_the_pass_before_returned(tmp_path):
    seen = []

    def call(model, ids, at):
        seen.append(at.returned)
        return model(ids, at.mask, at.positions, keep=True)

    stepped(tmp_path / "d", call, steps=1)
    assert seen[0] is None
    assert seen[1].shape == (1, len(IDS), 97)


def with_images(model, ids, at):
    return model(input_ids=ids, pixel_values=at.pixels, token_type_ids=at.types, use_cache=False)


def seeing(folder, call=with_images, model=None, **more):
    model, pixels = model or build_model("tiny"), torch.from_numpy(made_pixels(2, 40))
    how = {"table": SEES, "weights": "tiny", "call": call, "pixel_values": pixels}
    return capture_module(model, SEEING, folder, **how | more)


def test_images_are_heard_and_match(tmp_path):
    folder = seeing(tmp_path / "d")
    [own] = passes_of(folder)
    assert {tap for tap in own if tap.startswith("vision.")} == {
        tap for tap in vision_tap_names(2) if not tap.endswith(FUSED)
    }
    assert own["vision.soft_tokens"].shape == (2, 4, 36)
    assert read_dump(folder)["passes"][0]["image_blocks"] == [[2, 6], [8, 12]]
    assert ref.compare(folder)["verdict"] == "match"


def test_images_run_as_text_is_run_are_named(tmp_path):
    def causal(model, ids, at):
        types = torch.zeros_like(at.types)
        return model(input_ids=ids, pixel_values=at.pixels, token_type_ids=types, use_cache=False)

    assert first_of(seeing(tmp_path / "d", causal))[1:] == ("text.layer.0.attn.mix", "image_causal")


def test_a_mistake_in_the_tower_is_named(tmp_path):
    model = build_model("tiny")
    model.model.vision_tower.encoder.layers[1].mlp.activation_fn = torch.nn.GELU()
    found = first_of(seeing(tmp_path / "d", model=model))
    assert found == (0, "vision.layer.1.ffn.act", "vision_gelu_erf")


def test_pixels_are_rounded_as_the_weights_are(tmp_path):
    folder = seeing(tmp_path / "d", model=build_model("tiny", "bfloat16"), taps=["vision.pixels", "text.logits"])
    [own] = passes_of(folder)
    assert str(own["vision.pixels"].dtype) == "bfloat16"
    np.testing.assert_allclose(own["vision.pixels"].astype(np.float32), made_pixels(2, 40), rtol=2**-8)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"call": None, "steps": 1}, "call: wanted call=lambda model, ids, at: ..., which hands on what steps need"),
        ({"call": lambda model, ids: model(ids), "left_pads": [2]}, "what left_pads need, such as at.mask and "),
        ({"call": lambda model: model}, "wanted a function of (model, ids) or (model, ids, at), got one of others"),
        ({"steps": -1}, "steps: wanted 0 or more, 131072 tokens at most, got -1"),
        ({"steps": 131072}, "steps: wanted 0 or more, 131072 tokens at most, got 131072"),
        ({"left_pads": [9]}, "left_pads: wanted 1 numbers from 0 to 8, got [9]"),
        ({"left_pads": [1, 2]}, "left_pads: wanted 1 numbers from 0 to 8, got [1, 2]"),
        ({"call": lambda model, ids, at: None, "table": {"": "L.in"}, "steps": 1}, "{i} in the module's name"),
        ({"call": lambda model, ids, at: model(ids)[:, -1], "steps": 1}, "logits: wanted [1, T, V] of every pass"),
        ({"pixel_values": [1.0]}, "pixel_values: wanted floats [images, 3, 40, 40], got"),
        ({"pixel_values": made_pixels(1, 40)}, "soft tokens: wanted 4 for 1 images, 4 each, whole images in a row"),
        ({"pixel_values": made_pixels(1, 40), "weights": tiny()}, "wanted weights with a vision tower, got none"),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_line(tmp_path, more, says):
    with pytest.raises(BadInput) as caught:
        capture_module(stranger(), IDS, tmp_path / "d", **{"table": TABLE, "weights": "tiny", "call": own_cache} | more)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "d").exists()


def test_a_model_that_takes_more_than_ids_needs_a_call(tmp_path):
    class Outer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = stranger()

        def forward(self, ids, offset):
            return self.inner(ids)

    with pytest.raises(
        BadInput, match=r"wanted call=lambda model, ids: \.\.\. of a model that takes more than ids, got"
    ):
        capture_module(Outer(), IDS, tmp_path / "d", table={"inner": "text.logits"}, weights="tiny")
