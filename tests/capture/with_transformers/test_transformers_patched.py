"""transformers is captured as its owner has patched it, and left as it was."""

from importlib.util import find_spec

import numpy as np
import pytest
from support.captures import passes_of
from support.transformers_captures import IDS, assert_same, only_pass, plain

from ref.capture.transformers import capture
from ref.config import SIZES
from ref.dump.write import read_dump
from ref.model.taps import tap_names

pytestmark = pytest.mark.witness
if find_spec("torch") and find_spec("transformers"):
    import torch
    from torch import nn
    from transformers.models.gemma3 import modeling_gemma3 as gemma3
    from transformers.models.gemma3.modeling_gemma3 import eager_attention_forward as by_name

TINY = SIZES["tiny"]


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


def test_ids_that_a_model_writes_over_stay_what_they_were_in_the_dump(tmp_path, model):
    forward = model.forward

    def emptied(*args, input_ids, **kwargs):
        out = forward(*args, input_ids=input_ids, **kwargs)
        input_ids.zero_()
        return out

    model.forward = emptied
    capture(model, torch.tensor([IDS]), tmp_path / "dump")
    assert read_dump(tmp_path / "dump")["passes"][0]["ids"] == IDS


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
