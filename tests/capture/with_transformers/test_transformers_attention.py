"""Attention that its owner has patched is heard as it is, by whatever way it is called."""

from importlib.util import find_spec
from types import MethodType

import numpy as np
import pytest
from support.transformers_captures import IDS, assert_same, only_pass, plain

from ref.config import SIZES
from ref.model.taps import tap_names

pytestmark = pytest.mark.witness
if find_spec("torch") and find_spec("transformers"):
    import torch
    from transformers.integrations.sdpa_attention import sdpa_attention_forward as sdpa_by_name
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
    from transformers.models.gemma3 import modeling_gemma3 as gemma3
    from transformers.models.gemma3.modeling_gemma3 import eager_attention_forward as by_name

TINY = SIZES["tiny"]


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
