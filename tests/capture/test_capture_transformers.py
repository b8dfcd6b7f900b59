"""transformers is captured whole and as it is, also where its owner has patched it, and left as it was."""

import argparse
import json
import sys
from importlib.util import find_spec
from pathlib import Path
from types import MethodType

import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open
from support.checkpoints import save_seeing, save_tiny

import ref
from ref.capture.transformers import build_from, build_model, capture, capture_weights
from ref.capture.transformers.seen import lead_to, seen_cells, visible_keys
from ref.commands import capture as command
from ref.config import SIZES, TINY_VISION
from ref.dump.write import load_pass, read_dump
from ref.errors import BadInput
from ref.golden_files.against_golden import as_kept, judge
from ref.golden_files.files import golden_root, read_case
from ref.golden_files.sampled import made_pixels
from ref.model.taps import tap_names
from ref.weights.gguf import open_gguf
from ref.weights.package import package_file

pytestmark = pytest.mark.witness
if find_spec("torch") and find_spec("transformers"):
    import torch
    from torch import nn
    from transformers.integrations.sdpa_attention import sdpa_attention_forward as sdpa_by_name
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
    from transformers.models.gemma3 import modeling_gemma3 as gemma3
    from transformers.models.gemma3.modeling_gemma3 import eager_attention_forward as by_name

TINY = SIZES["tiny"]
IDS = [5, 6, 7, 33, 96, 0, 2, 45, 51, 8, 60]  # longer than the window of 5
SEEING = [3, 4, 97, 97, 97, 97, 5, 6, 97, 97, 97, 97, 7]  # two images of 4 soft tokens
DTYPES = {"float32": np.float32, "float16": np.float16, "float64": np.float64, "bfloat16": ml_dtypes.bfloat16}


@pytest.fixture(scope="module")
def pixels():
    return torch.from_numpy(made_pixels(3, TINY_VISION.image))


@pytest.fixture
def model():
    """Only the text of `tiny`: a Gemma3ForCausalLM."""
    return text_only()


def text_only(dtype="float32", attention="eager"):
    return build_from(ref.load("tiny")._replace(vision=None), dtype, attention)


def passes_of(folder):
    return [load_pass(Path(folder), one) for one in read_dump(Path(folder))["passes"]]


def only_pass(model, folder, ids=IDS, **more):
    [one] = passes_of(capture(model, ids, folder, **more))
    return one


def plain(model, ids=IDS, **more):
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids]), use_cache=False, **more).logits


def bits(value):
    return np.ascontiguousarray(value).view(np.uint8)


def assert_same(value, wanted):
    """Assert equality of every bit, and of shape and dtype."""
    wanted = wanted.detach().contiguous()
    if wanted.dtype == torch.bfloat16:
        assert value.dtype == ml_dtypes.bfloat16
        value, wanted = value.view(np.int16), wanted.view(torch.int16)
    assert value.dtype == wanted.numpy().dtype
    np.testing.assert_array_equal(value, wanted.numpy())


# What is in a dump


@pytest.mark.parametrize("steps", [0, 2])
def test_every_tap_of_text_is_there_once(model, tmp_path, steps):
    capture(model, IDS, tmp_path / "dump", steps=steps, weights="tiny")
    content = read_dump(tmp_path / "dump")
    names = [name for name in tap_names(TINY.layers, cached=steps > 0) if not name.endswith("cache.positions")]
    for one in content["passes"]:
        assert sorted(one["tensors"]) == sorted(names)
    assert content["producer"] == {"name": "transformers", "version": "5.23.0"}
    assert content["names"] == "ref"
    assert content["model"]["config"] == json.loads(json.dumps(TINY._asdict()))
    assert content["model"]["weights"] == {"name": "tiny", "dtype": "float32", "sha256": None}
    words = dict.fromkeys(("compute_dtype", "matmul_activations", "kv_dtype", "rope_angle"), "float32")
    words |= {"attention_impl": "eager", "matmul_operands": "float32", "accumulate": "float32", "products": "float32"}
    assert {name: value for name, value in content["policy"].items() if name != "torch"} == words


def test_every_tap_of_images_is_there(tmp_path, pixels):
    capture(build_model("tiny"), SEEING, tmp_path / "dump", pixel_values=pixels[:2])
    content = read_dump(tmp_path / "dump")
    [one] = content["passes"]
    assert sorted(one["tensors"]) == sorted(tap_names(TINY.layers, vision_layers=TINY_VISION.layers))
    assert one["image_blocks"] == [[2, 6], [8, 12]]
    assert content["model"]["config"]["vision"] == json.loads(json.dumps(TINY_VISION._asdict()))
    with safe_open(tmp_path / "dump" / one["pixels"], "np") as file:
        np.testing.assert_array_equal(file.get_tensor("pixels"), pixels[:2].numpy())


@pytest.mark.parametrize("case", ["tiny/padded", "tiny/images", "tiny-long/images"])
def test_every_value_is_the_goldens_to_float32(tmp_path, case):
    golden = read_case(golden_root() / "cases" / case)
    [one] = golden.passes
    see = ref.load(golden.id.partition("/")[0]).vision.config
    seen = {"pixel_values": torch.from_numpy(made_pixels(one.images, see.image))} if one.images else {}
    pads = one.left_pads.tolist()
    capture(build_model(golden.id.partition("/")[0]), one.ids, tmp_path / "dump", left_pads=pads, **seen)
    rows = passes_of(tmp_path / "dump")
    for tap in one.rows:
        value = np.concatenate([tensors[tap] for tensors in rows])
        assert judge(golden, one, tap, as_kept(tap, value, one)).verdict == "match", tap


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_values_are_the_models_own_to_the_bit(tmp_path, dtype, attention):
    model = text_only(dtype, attention)
    seen, hooks = {}, []
    layer = model.model.layers[5]
    for name, module in {"out": layer, "attn.out": layer.self_attn.o_proj, "ffn.act": layer.mlp.act_fn}.items():
        hooks.append(module.register_forward_hook(lambda _m, _a, out, name=name: seen.update({name: out})))
    logits = plain(model)
    for hook in hooks:
        hook.remove()
    values = only_pass(model, tmp_path / "dump")
    assert_same(values["text.logits"], logits)
    assert_same(values["text.layer.5.out"], seen["out"])
    assert_same(values["text.layer.5.attn.out"], seen["attn.out"])
    act = seen["ffn.act"] * torch.from_numpy(values["text.layer.5.ffn.up"].astype(np.float64)).to(seen["ffn.act"].dtype)
    assert_same(values["text.layer.5.ffn.act"], act)
    assert {value.dtype for name, value in values.items() if not name.endswith("visible")} == {np.dtype(DTYPES[dtype])}
    policy = read_dump(tmp_path / "dump")["policy"]
    assert (policy["compute_dtype"], policy["attention_impl"]) == (dtype, attention)
    steps = {f"text.layer.{i}.attn.{name}" for i in range(TINY.layers) for name in ("scores", "probs")}
    assert steps & values.keys() == (set() if attention == "sdpa" else steps)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_scores_are_those_that_eager_attention_had(tmp_path, dtype):
    values = only_pass(text_only(dtype), tmp_path / "dump")
    for i in (0, 5):
        start, stop = values[f"text.layer.{i}.attn.visible"][0].T[..., None]
        seen = (np.arange(len(IDS)) >= start) & (np.arange(len(IDS)) < stop)
        kind = getattr(torch, dtype)
        scores = torch.from_numpy(values[f"text.layer.{i}.attn.scores"].astype(np.float32)).to(kind)
        scores = scores + torch.where(torch.from_numpy(seen), 0.0, torch.finfo(kind).min).to(kind)
        probs = torch.softmax(scores, -1, dtype=torch.float32).to(kind)
        assert_same(values[f"text.layer.{i}.attn.probs"], probs)


@pytest.mark.parametrize("steps", [0, 7])
def test_both_attentions_see_the_same(tmp_path, steps):
    ids = IDS[:3]  # within the window sdpa gets no mask at all
    eager = passes_of(capture(text_only(), ids, tmp_path / "eager", steps=steps))
    sdpa = passes_of(capture(text_only(attention="sdpa"), ids, tmp_path / "sdpa", steps=steps))
    for one, other in zip(eager, sdpa, strict=True):
        for i in range(TINY.layers):
            name = f"text.layer.{i}.attn.visible"
            assert one[name].dtype == np.int64
            np.testing.assert_array_equal(one[name], other[name])


# Rows, pads, steps


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


# Patched models


def own_forward(rotate, attend):
    """Write an attention's forward anew, with another rotation and another way to its attention function."""

    def forward(self, hidden_states, position_embeddings=None, attention_mask=None, past_key_values=None, **kwargs):
        shape = (*hidden_states.shape[:-1], -1, self.head_dim)
        q, k, v = (p(hidden_states).view(shape).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj))
        q, k = rotate(self.q_norm(q), self.k_norm(k), *position_embeddings)
        out = attend(self, q, k, v, attention_mask)
        return self.o_proj(out.reshape(*hidden_states.shape[:-1], -1)), None

    return forward


def interleaved(q, k, cos, sin):
    """Rotate neighbours, as the original RoPE paper pairs them."""

    def turn(x):
        c, s = cos[..., : cos.shape[-1] // 2].unsqueeze(1), sin[..., : sin.shape[-1] // 2].unsqueeze(1)
        even, odd = x[..., 0::2], x[..., 1::2]
        return torch.stack([even * c - odd * s, odd * c + even * s], -1).flatten(-2)

    return turn(q), turn(k)


def by_global(module, q, k, v, mask):
    return gemma3.eager_attention_forward(module, q, k, v, mask, scaling=module.scaling)[0]


def by_table(module, q, k, v, mask):
    function = ALL_ATTENTION_FUNCTIONS.get_interface(module.config._attn_implementation, gemma3.eager_attention_forward)
    return function(module, q, k, v, mask, scaling=module.scaling)[0]


def by_item(module, q, k, v, mask):
    return ALL_ATTENTION_FUNCTIONS["sdpa"](module, q, k, v, mask, scaling=module.scaling)[0]


def by_imported_name(module, q, k, v, mask):
    return by_name(module, q, k, v, mask, 0.0, module.scaling)[0]


def by_imported_sdpa(module, q, k, v, mask):
    return sdpa_by_name(module, q, k, v, mask, scaling=module.scaling)[0]


def by_keywords(module, q, k, v, mask):
    given = {"module": module, "query": q, "key": k, "value": v, "attention_mask": mask, "scaling": module.scaling}
    return gemma3.eager_attention_forward(**given)[0]


def replaced_on(model, layer, rotate, attend):
    attention = model.model.layers[layer].self_attn
    attention.forward = MethodType(own_forward(rotate, attend), attention)
    return model


@pytest.mark.parametrize("attend", [by_global, by_table, by_imported_name, by_keywords, by_item])
def test_a_layer_that_rotates_otherwise_is_heard_as_it_is(tmp_path, model, attend):
    before = only_pass(model, tmp_path / "before")
    replaced_on(model, 2, interleaved, attend)
    logits = plain(model)
    values = only_pass(model, tmp_path / "dump")
    assert_same(values["text.logits"], logits)
    at = "text.layer.2."
    q, k = (torch.from_numpy(values[f"{at}attn.{name}_norm"]).transpose(1, 2) for name in "qk")
    angles = model.model.rotary_emb(q, torch.arange(len(IDS))[None], "sliding_attention")
    for name, wanted in zip("qk", interleaved(q, k, *angles), strict=True):
        np.testing.assert_array_equal(values[f"{at}attn.{name}_rope"], wanted.transpose(1, 2).numpy())
        assert np.abs(values[f"{at}attn.{name}_rope"] - before[f"{at}attn.{name}_rope"]).max() > 0.1
    np.testing.assert_array_equal(values["text.layer.1.out"], before["text.layer.1.out"])
    assert (at + "attn.probs" in values) == (attend is not by_item)
    if attend is not by_item:
        mix = values[at + "attn.probs"] @ np.repeat(values[at + "attn.v"].transpose(0, 2, 1, 3), 4, axis=1)
        np.testing.assert_allclose(values[at + "attn.mix"], mix.transpose(0, 2, 1, 3), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("attend", [by_imported_name, by_imported_sdpa])
def test_a_function_imported_by_name_is_heard_whatever_stands_in_its_place(tmp_path, model, attend, monkeypatch):
    inner = gemma3.eager_attention_forward
    monkeypatch.setattr(gemma3, "eager_attention_forward", lambda *args, **kwargs: inner(*args, **kwargs))
    values = only_pass(replaced_on(model, 2, interleaved, attend), tmp_path / "dump")
    missing = set(tap_names(TINY.layers)) - values.keys()
    fused = {"text.layer.2.attn.scores", "text.layer.2.attn.probs"}
    assert missing == (fused if attend is by_imported_sdpa else set())


def test_of_attention_that_calls_no_function_the_mix_is_left(tmp_path, model):
    def by_hand(module, q, k, v, mask):
        k, v = (gemma3.repeat_kv(x, module.num_key_value_groups) for x in (k, v))
        return (torch.softmax(q @ k.transpose(2, 3) * module.scaling + mask, -1) @ v).transpose(1, 2)

    before = only_pass(model, tmp_path / "before")
    values = only_pass(replaced_on(model, 2, gemma3.apply_rotary_pos_emb, by_hand), tmp_path / "dump")
    at = "text.layer.2.attn."
    missing = {at + name for name in ("q_rope", "k_rope", "visible", "scores", "probs")}
    assert before.keys() - values.keys() == missing
    np.testing.assert_allclose(values[at + "mix"], before[at + "mix"], rtol=1e-4, atol=1e-6)


def test_attention_in_halves_is_no_tap_of_the_whole(tmp_path, model):
    def halves(module, q, k, v, mask):
        parts = zip(q.split(6, 2), mask.split(6, 2), strict=True)
        return torch.cat([by_global(module, some, k, v, seen) for some, seen in parts], 1)

    before = only_pass(model, tmp_path / "before")
    values = only_pass(replaced_on(model, 2, gemma3.apply_rotary_pos_emb, halves), tmp_path / "dump")
    assert "text.layer.2.attn.q_rope" not in values
    np.testing.assert_allclose(values["text.layer.2.attn.mix"], before["text.layer.2.attn.mix"], rtol=1e-4, atol=1e-6)


def test_logits_are_what_the_model_returns(tmp_path, model):
    forward = model.forward

    def capped(*args, **kwargs):
        out = forward(*args, **kwargs)
        out.logits = torch.tanh(out.logits / 2) * 2
        return out

    uncapped = plain(model)
    model.forward = capped
    values = only_pass(model, tmp_path / "dump")
    assert_same(values["text.logits"], torch.tanh(uncapped / 2) * 2)
    assert np.abs(values["text.logits"]).max() < 2 < uncapped.abs().max()


def test_a_wrapped_attention_function_is_heard_from_outside(tmp_path, model, monkeypatch):
    inner = gemma3.eager_attention_forward

    def sharper(module, query, key, value, attention_mask, **kwargs):
        return inner(module, query * 3, key, value, attention_mask, **kwargs)

    before = only_pass(model, tmp_path / "before")
    monkeypatch.setattr(gemma3, "eager_attention_forward", sharper)
    values = only_pass(model, tmp_path / "dump")
    assert gemma3.eager_attention_forward is sharper
    at = "text.layer.0.attn."
    np.testing.assert_array_equal(values[at + "q_rope"], before[at + "q_rope"])  # what the function was given is right
    # scores of what it was given are not those that it had, and so are not there
    assert before.keys() - values.keys() == {f"text.layer.{i}.attn.scores" for i in range(TINY.layers)}
    assert np.abs(values[at + "probs"] - before[at + "probs"]).max() > 0.01
    q, k = (torch.from_numpy(values[f"{at}{name}_rope"]).transpose(1, 2) for name in "qk")
    mask = torch.full((len(IDS), len(IDS)), torch.finfo(torch.float32).min).triu(1)
    mask += torch.full_like(mask, torch.finfo(torch.float32).min).tril(-TINY.window)
    wanted = torch.softmax((q * 3) @ gemma3.repeat_kv(k, 4).transpose(2, 3) * TINY.query_scale + mask, -1)
    np.testing.assert_allclose(values[at + "probs"], wanted.numpy(), rtol=1e-5, atol=1e-7)


def test_a_registered_attention_function_is_heard(tmp_path, model):
    def late(module, query, key, value, attention_mask, scaling=None, **kwargs):
        return gemma3.eager_attention_forward(module, query, key, value, attention_mask, scaling=scaling / 2)

    before = only_pass(model, tmp_path / "before")
    ALL_ATTENTION_FUNCTIONS["eager"] = late
    try:
        values = only_pass(model, tmp_path / "dump")
        assert ALL_ATTENTION_FUNCTIONS["eager"] is late
    finally:
        del ALL_ATTENTION_FUNCTIONS["eager"]
    assert np.abs(values["text.layer.0.attn.probs"] - before["text.layer.0.attn.probs"]).max() > 0.01
    np.testing.assert_array_equal(values["text.layer.0.attn.visible"], before["text.layer.0.attn.visible"])


def test_scores_are_there_only_where_the_probabilities_are_theirs(tmp_path, model, monkeypatch):
    inner = gemma3.eager_attention_forward

    def tiled(module, query, key, value, attention_mask, scaling=None, **kwargs):
        if module.layer_idx != 2:
            return inner(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
        heads = torch.arange(query.shape[1]) % key.shape[1]  # not n div G
        probs = torch.softmax(query @ key[:, heads].transpose(2, 3) * scaling + attention_mask, -1)
        return (probs @ gemma3.repeat_kv(value, module.num_key_value_groups)).transpose(1, 2), probs

    before = only_pass(model, tmp_path / "before")
    monkeypatch.setattr(gemma3, "eager_attention_forward", tiled)
    values = only_pass(model, tmp_path / "dump")
    assert before.keys() - values.keys() == {"text.layer.2.attn.scores"}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_scores_may_be_infinite(tmp_path, dtype):
    model = text_only(dtype)
    with torch.no_grad():
        model.model.layers[2].self_attn.q_norm.weight.fill_(6e4 if dtype == "float16" else 3e38)
    values = only_pass(model, tmp_path / "dump")
    assert sorted(values) == sorted(tap_names(TINY.layers))
    assert not np.isfinite(values["text.layer.2.attn.scores"].astype(np.float32)).all()
    assert np.isfinite(values["text.layer.1.out"].astype(np.float32)).all()


def test_of_masks_that_are_no_matrix_nothing_is_said():
    scores = torch.zeros(1, 2, 3, 3)
    probs = torch.full_like(scores, 1 / 3)
    assert lead_to(scores, None, probs)
    assert lead_to(scores, torch.ones(1, 1, 3, 3, dtype=torch.bool), probs)
    assert not lead_to(scores, torch.ones(1, 1, 3, 3, dtype=torch.bool).tril(), probs)
    assert not lead_to(scores, torch.ones(1, 3), probs)
    assert not lead_to(scores, None, probs[..., :2])
    assert not lead_to(scores, None, probs.bfloat16().float())  # rounded, and said to be float32
    assert lead_to(scores, None, probs.bfloat16())


def test_hooks_of_the_owner_come_first(tmp_path, model):
    model.model.layers[1].self_attn.q_proj.register_forward_hook(lambda _m, _a, out: out * 2)
    model.model.layers[3].register_forward_pre_hook(lambda _m, args: (args[0] + 1, *args[1:]))
    values = only_pass(model, tmp_path / "dump")
    with torch.no_grad():
        q = model.model.layers[1].self_attn.q_proj(torch.from_numpy(values["text.layer.1.attn.pre_norm"]))
    np.testing.assert_array_equal(values["text.layer.1.attn.q"].reshape(q.shape), q.numpy())
    np.testing.assert_array_equal(values["text.layer.3.in"], values["text.layer.2.out"] + 1)


def test_a_norm_that_queries_and_keys_share_is_told_apart(tmp_path, model):
    attention = model.model.layers[4].self_attn
    attention.k_norm = attention.q_norm
    values = only_pass(model, tmp_path / "dump")
    with torch.no_grad():
        for name in ("q", "k"):
            wanted = attention.q_norm(torch.from_numpy(values[f"text.layer.4.attn.{name}"]))
            np.testing.assert_array_equal(values[f"text.layer.4.attn.{name}_norm"], wanted.numpy())


def test_what_the_owner_took_away_is_missing_and_nothing_else(tmp_path, model):
    mlp = model.model.layers[1].mlp
    fused = torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight])
    del mlp.gate_proj, mlp.up_proj

    def forward(x):
        gate, up = nn.functional.linear(x, fused).chunk(2, -1)
        return mlp.down_proj(mlp.act_fn(gate) * up)

    mlp.forward = forward
    values = only_pass(model, tmp_path / "dump")
    assert set(tap_names(TINY.layers)) - values.keys() == {"text.layer.1.ffn.gate", "text.layer.1.ffn.up"}


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_mask_that_was_changed_is_shown(tmp_path, attention, monkeypatch):
    model = text_only(attention=attention)
    make = gemma3.create_sliding_window_causal_mask

    def one_less(*args, **kwargs):
        mask = make(*args, **kwargs)
        edge = torch.ones(mask.shape[-2:], dtype=torch.bool).tril(1 - TINY.window)
        return mask & ~edge if mask.dtype == torch.bool else mask.masked_fill(edge, torch.finfo(mask.dtype).min)

    monkeypatch.setattr(gemma3, "create_sliding_window_causal_mask", one_less)
    values = only_pass(model, tmp_path / "dump")
    assert values["text.layer.0.attn.visible"].tolist() == [[[max(0, n - 3), n + 1] for n in range(len(IDS))]]
    assert values["text.layer.5.attn.visible"].tolist() == [[[0, n + 1] for n in range(len(IDS))]]


def test_a_mask_with_holes_is_shown_as_a_matrix(tmp_path, model, monkeypatch):
    make = gemma3.create_causal_mask

    def holed(*args, **kwargs):
        mask = make(*args, **kwargs).clone()
        mask[..., 3:, 1] = -1e9
        return mask

    monkeypatch.setattr(gemma3, "create_causal_mask", holed)
    values = only_pass(model, tmp_path / "dump")
    wanted = np.tri(len(IDS), dtype=bool)
    wanted[3:, 1] = False
    np.testing.assert_array_equal(values["text.layer.5.attn.visible"], wanted[None])
    assert values["text.layer.0.attn.visible"].dtype == np.int64


def test_a_replaced_norm_is_heard(tmp_path, model):
    class Plain(nn.Module):
        def forward(self, x):
            return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True))

    model.model.layers[1].pre_feedforward_layernorm = Plain()
    values = only_pass(model, tmp_path / "dump")
    mid = torch.from_numpy(values["text.layer.1.mid"])
    assert_same(values["text.layer.1.ffn.pre_norm"], Plain()(mid))


def test_a_norm_applied_twice_keeps_its_first_input_and_last_output(tmp_path, model):
    norm = model.model.layers[1].post_attention_layernorm
    mid_norm = model.model.layers[1].pre_feedforward_layernorm
    model.model.layers[1].mlp.register_forward_pre_hook(lambda _, args: (mid_norm(args[0]),))
    values = only_pass(model, tmp_path / "dump")
    with torch.no_grad():
        mid = torch.from_numpy(values["text.layer.1.in"]) + norm(torch.from_numpy(values["text.layer.1.attn.out"]))
        assert_same(values["text.layer.1.mid"], mid)
        assert_same(values["text.layer.1.ffn.pre_norm"], mid_norm(mid_norm(mid)))


def test_a_layer_that_stands_in_three_places_is_heard_in_each(tmp_path, model, monkeypatch):
    def outer(*args, **kwargs):
        return by_name(*args, **kwargs)

    monkeypatch.setattr(gemma3, "eager_attention_forward", outer)  # a call in a call is one
    layers = model.model.layers
    layers[3] = layers[4] = layers[2]
    values = only_pass(model, tmp_path / "dump")
    assert sorted(values) == sorted(tap_names(TINY.layers))
    for i in (2, 3, 4):
        at = f"text.layer.{i}."
        np.testing.assert_array_equal(values[f"text.layer.{i + 1}.in"], values[at + "out"])
        with torch.no_grad():
            q = layers[2].self_attn.q_proj(torch.from_numpy(values[at + "attn.pre_norm"]))
        np.testing.assert_array_equal(values[at + "attn.q"].reshape(q.shape), q.numpy())
        mix = values[at + "attn.probs"] @ np.repeat(values[at + "attn.v"].transpose(0, 2, 1, 3), 4, axis=1)
        np.testing.assert_allclose(values[at + "attn.mix"], mix.transpose(0, 2, 1, 3), rtol=1e-5, atol=1e-6)


def add_one(_, args):
    args[0].add_(1)


@pytest.mark.parametrize("rows", [1, 2])
def test_a_value_that_is_changed_in_place_later_is_shown_as_it_was(tmp_path, model, rows):
    before = passes_of(capture(model, [IDS] * rows, tmp_path / "before"))
    model.model.layers[1].register_forward_pre_hook(add_one)
    for own, values in zip(before, passes_of(capture(model, [IDS] * rows, tmp_path / "dump")), strict=True):
        np.testing.assert_array_equal(values["text.layer.0.out"], own["text.layer.0.out"])
        np.testing.assert_array_equal(values["text.layer.1.in"], own["text.layer.0.out"] + 1)


def test_a_changed_configuration_is_said(tmp_path, model):
    model.config.sliding_window, model.config.query_pre_attn_scalar = 3, 16
    model.config.final_logit_softcapping = 30.0
    capture(model, IDS, tmp_path / "dump", taps=["text.logits"])
    config = read_dump(tmp_path / "dump")["model"]["config"]
    assert (config["window"], config["query_scale"]) == (3, 0.25)


# What is left behind


def state(model):
    """List everything that a capture might have left changed."""
    tables = {id(f.ALL_ATTENTION_FUNCTIONS): f.ALL_ATTENTION_FUNCTIONS for f in (gemma3,)}.values()
    found = [gemma3.eager_attention_forward, by_name, *(type(t).__getitem__ for t in tables)]
    found += [sorted(vars(t)) for t in tables] + [model.config.to_dict(), torch.is_grad_enabled()]
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks), sorted(vars(m))) for m in model.modules()]
    return [*found, hooks, torch.get_num_threads()]


def test_everything_is_as_it_was(tmp_path, model):
    before, logits = state(model), plain(model)
    capture(model, IDS, tmp_path / "dump", steps=1)
    assert state(model) == before
    assert torch.equal(plain(model), logits)


def test_everything_is_as_it_was_after_an_error_and_nothing_is_left(tmp_path, model):
    def breaks(*args):
        raise ZeroDivisionError

    model.model.layers[4].mlp.register_forward_hook(breaks)
    before = state(model)
    with pytest.raises(ZeroDivisionError):
        capture(model, IDS, tmp_path / "dump")
    assert state(model) == before
    assert list(tmp_path.iterdir()) == []


def test_only_the_asked_for_taps(tmp_path, model):
    values = only_pass(model, tmp_path / "dump", taps=["text.layer.2.attn.*_rope", "text.logits"])
    assert sorted(values) == ["text.layer.2.attn.k_rope", "text.layer.2.attn.q_rope", "text.logits"]


# Refusals


REFUSED = {
    "ids": ({"ids": []}, "token ids: wanted integers"),
    "floats": ({"ids": [1.5]}, "token ids: wanted integers"),
    "ragged": ({"ids": [[1], [2, 3]]}, "token ids: wanted integers"),
    "large": ({"ids": [1, 97]}, "token id: wanted 0 to 96, got 97"),
    "negative": ({"ids": [-1]}, "token id: wanted 0 to 96, got -1"),
    "taps": ({"taps": ["no.such"]}, "taps: wanted a pattern that matches a tap"),
    "cache": ({"taps": ["*.cache.k"]}, "taps: wanted a pattern that matches a tap"),
    "steps": ({"steps": -1}, "steps: wanted 0 or more, got -1"),
    "pads": ({"left_pads": [11]}, "left_pads: wanted 1 numbers from 0 to 10"),
    "pad rows": ({"left_pads": [0, 0]}, "left_pads: wanted 1 numbers"),
    "blind": ({"pixel_values": np.zeros((1, 3, 40, 40))}, "pixel_values: wanted a model with a vision tower"),
    "types": ({"token_type_ids": [1] * 11}, "token_type_ids: wanted zeros where there are no pixel_values"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(tmp_path, model, case):
    given, message = REFUSED[case]
    given = {"ids": IDS, "out_dir": tmp_path / "dump"} | given
    with pytest.raises(BadInput, match=message):
        capture(model, **given)
    assert list(tmp_path.iterdir()) == []


SEEN = {
    "count": ({"pixel_values": np.zeros((1, 3, 40, 40))}, "soft tokens: wanted 4 for 1 images"),
    "size": ({"pixel_values": np.zeros((2, 3, 40, 39))}, r"pixel_values: wanted \[images, 3, 40, 40\]"),
    "none": ({}, "token id: wanted 0 to 96, got 97"),
    "types": ({"pixel_values": np.zeros((2, 3, 40, 40)), "token_type_ids": [1]}, r"wanted \[1, 13\], as ids"),
}


@pytest.mark.parametrize("case", SEEN)
def test_refusals_of_images(tmp_path, case):
    given, message = SEEN[case]
    with pytest.raises(BadInput, match=message):
        capture(build_model("tiny"), SEEING, tmp_path / "dump", **given)


def test_other_models_and_folders_in_use_are_refused(tmp_path, model):
    with pytest.raises(BadInput, match="model: wanted a loaded Gemma3ForCausalLM"):
        capture(nn.Linear(2, 2), IDS, tmp_path / "dump")
    (tmp_path / "mine").touch()
    with pytest.raises(BadInput, match="output folder: wanted an empty or new one"):
        capture(model, IDS, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


# What a mask lets be seen


def test_what_is_seen_without_a_mask():
    q, k = torch.zeros(1, 4, 3, 2), torch.zeros(1, 2, 5, 2)
    module = argparse.Namespace(is_causal=True)
    given = {"module": module, "attention_mask": None}
    np.testing.assert_array_equal(seen_cells(q, k, given, "sdpa")[0], np.tri(3, 5, dtype=bool))  # upper-left, as sdpa
    assert seen_cells(q, k, given | {"is_causal": False}, "sdpa").all()
    assert seen_cells(q[:, :, :1], k, given, "sdpa").all()
    assert seen_cells(q, k, given, "eager").all()
    assert seen_cells(q, k, given, "flash_attention_2") is None
    by_head = torch.zeros(1, 4, 3, 5)
    by_head[0, 1, 0, 0] = -1e9
    assert seen_cells(q, k, given | {"attention_mask": by_head}, "eager") is None
    assert seen_cells(q, k, given | {"attention_mask": torch.zeros(1, 5)}, "flash_attention_2") is None


def test_ranges_are_in_key_indices_and_pads_do_not_count():
    seen = np.array([[1, 0, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]], bool)
    assert visible_keys(seen[1:], 10, 0).tolist() == [[[7, 9], [9, 9]]]
    assert visible_keys(seen, 10, 8).tolist() == [[[7, 7], [7, 9], [9, 9]]]
    np.testing.assert_array_equal(visible_keys(seen, 10, 7), seen[None])


# Models by name, and the command


@pytest.mark.parametrize("sees", [False, True])
def test_a_folder_and_our_own_values_give_the_same_model(tmp_path, sees, pixels):
    (save_seeing if sees else save_tiny)(tmp_path / "folder")
    folder = build_model(str(tmp_path / "folder"), "bfloat16")
    loaded = ref.load(str(tmp_path / "folder"))
    assert type(folder).__name__ == ("Gemma3ForConditionalGeneration" if sees else "Gemma3ForCausalLM")
    ours = build_from(loaded, "bfloat16")
    more = {"pixel_values": pixels[:2], "token_type_ids": torch.tensor([SEEING]) // 97} if sees else {}
    assert torch.equal(plain(folder, SEEING if sees else IDS, **more), plain(ours, SEEING if sees else IDS, **more))
    kept, own = dict(folder.named_buffers()), dict(ours.named_buffers())
    assert kept.keys() == own.keys()
    assert all(torch.equal(kept[name].float(), own[name].float()) for name in own)
    assert {own[name].dtype for name in own if name.endswith("inv_freq")} == {torch.float32}
    capture(folder, IDS, tmp_path / "dump", taps=["text.logits"])
    assert read_dump(tmp_path / "dump")["model"]["weights"]["name"] == "folder"


@pytest.mark.weights
def test_the_270m_is_the_gguf_packages_to_the_bit(tmp_path):
    from gguf import GGMLQuantizationType, dequantize

    model, file = build_model("270m"), open_gguf(package_file())
    own = dict(model.named_parameters())
    matrices = {"attn_q": "self_attn.q_proj", "attn_output": "self_attn.o_proj", "ffn_down": "mlp.down_proj"}
    norms = {"attn_k_norm": "self_attn.k_norm", "post_ffw_norm": "post_feedforward_layernorm"}
    for layer in (0, 17):
        for name, field in matrices.items():
            held = file.array(f"blk.{layer}.{name}.weight")
            value = dequantize(held.data, GGMLQuantizationType[held.format])
            assert_same(value, own[f"model.layers.{layer}.{field}.weight"])
        for name, field in norms.items():
            value = np.asarray(file.array(f"blk.{layer}.{name}.weight")) - np.float32(1)
            assert_same(value, own[f"model.layers.{layer}.{field}.weight"])
    ids = [2, 818, 5279, 529, 7001, 563]
    values = only_pass(model, tmp_path / "dump", ids, weights="270m")
    assert sorted(values) == sorted(tap_names(18))
    assert_same(values["text.logits"], plain(model, ids))
    assert read_dump(tmp_path / "dump")["model"]["config"]["name"] == "270m"


def gemma3_ref(*argv):
    parser = argparse.ArgumentParser()
    command.add(parser.add_subparsers())
    args = parser.parse_args(["capture", *map(str, argv)])
    return args.run(args)


def test_the_command_writes_a_dump_and_counts_it(tmp_path, capsys):
    flags = ["--weights", "tiny", "--ids", ",".join(map(str, IDS)), "--dtype", "bfloat16", "--attention", "sdpa"]
    more = ["--taps", "text.logits", "--taps", "text.embed", "--max-new-tokens", 2, "--threads", 1, "--json"]
    assert gemma3_ref("transformers", *flags, *more, "-o", tmp_path / "dump") == 0
    written = json.loads(capsys.readouterr().out)
    size = sum(file.stat().st_size for file in (tmp_path / "dump").glob("*.safetensors"))
    assert written == {"passes": 3, "tensors": 6, "bytes": size}
    content = read_dump(tmp_path / "dump")
    assert content["model"]["weights"] == {"name": "tiny", "dtype": "bfloat16", "sha256": None}
    assert content["policy"]["attention_impl"] == "sdpa"


def test_the_command_shows_images(tmp_path, capsys):
    from PIL import Image

    Image.new("RGB", (50, 30), (200, 30, 90)).save(tmp_path / "a.png")
    flags = ["--weights", "tiny", "--ids", "3,97,97,97,97,5", "--image", tmp_path / "a.png"]
    assert gemma3_ref("transformers", *flags, "-o", tmp_path / "dump") == 0
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    [one] = read_dump(tmp_path / "dump")["passes"]
    assert (one["image_blocks"], one["pixels"]) == ([[1, 5]], "pixels0000.safetensors")
    assert sorted(one["tensors"]) == sorted(tap_names(TINY.layers, vision_layers=TINY_VISION.layers))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--dtype", "q8_0"], "dtype: wanted float32, bfloat16, float16, float64, got q8_0"),
        (["--attention", "flash"], "attention: wanted eager or sdpa, got flash"),
        (["--max-new-tokens", "-1"], "max-new-tokens: wanted 0 or more"),
        (["--threads", "0"], "threads: wanted 1 or more"),
    ],
)
def test_the_command_refuses(tmp_path, flags, message):
    with pytest.raises(BadInput, match=message):
        gemma3_ref("transformers", "--weights", "tiny", "--ids", "1,2", "-o", tmp_path / "dump", *flags)
    assert list(tmp_path.iterdir()) == []


def test_a_flag_that_a_witness_does_not_know_is_refused():
    asked = {"mmproj": ("--mmproj", "x.gguf"), "dtype": ("--dtype", None)}
    with pytest.raises(BadInput, match=r"--mmproj: wanted a witness that takes it; gemma does not, got x\.gguf"):
        command._understood(lambda weights, dtype: 0, "gemma", asked)


def test_prompts_of_several_lengths_are_passes_of_their_own(tmp_path):
    capture_weights("tiny", [[1, 2, 3], [4, 5]], tmp_path / "dump", taps=["text.logits"])
    assert [one["ids"] for one in read_dump(tmp_path / "dump")["passes"]] == [[1, 2, 3], [4, 5]]


def test_a_missing_extra_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(BadInput, match=r'transformers: wanted pip install -e "\.\[transformers\]", got no torch'):
        build_model("tiny")
