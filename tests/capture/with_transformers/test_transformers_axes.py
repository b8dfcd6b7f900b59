"""Axes are told by what is heard, never by their lengths: whatever lengths coincide, a dump is what the model had."""

from importlib.util import find_spec
from types import MethodType

import numpy as np
import pytest
from support.captures import passes_of
from support.transformers_direct import SIZES, Direct, H, K, N, built

from ref.capture.common import LeftOut
from ref.capture.transformers import capture
from ref.judge.compare import compare

pytestmark = pytest.mark.witness
if find_spec("torch") and find_spec("transformers"):
    import torch
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration
    from transformers.models.gemma3 import modeling_gemma3 as gemma3

SHARED = {"num_key_value_heads": N}  # as many heads for keys as for queries
ONE = {"num_attention_heads": 1, "num_key_value_heads": 1}
# name: tokens of the prompt, cached steps, sizes. S counts keys: all of a pass and of those before it
CASES = {
    "T = N": (N, 0, {}),
    "T = K": (K, 0, {}),
    "T = H": (H, 0, {}),
    "S = K": (K - 1, 2, {}),
    "S = N": (N - 1, 2, {}),
    "S = H": (H - 1, 1, {}),
    "T = W": (3, 2, {}),
    "T = N = K": (N, 1, SHARED),
    "one token, one key": (1, 0, {}),
    "one token of one head": (1, 2, ONE),
    "one head": (5, 1, ONE),
    "two tokens of one head": (2, 1, ONE),
}


def assert_same(values, wanted):
    """Assert that a pass of a dump has what the direct run had, to the bit."""
    for name, value in wanted.items():
        assert values[name].shape == tuple(value.shape), name
        np.testing.assert_array_equal(values[name], value.numpy(), err_msg=name)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("case", CASES)
def test_whatever_lengths_coincide(tmp_path, monkeypatch, case, attention):
    tokens, steps, sizes = CASES[case]
    model = built(attention, **sizes)
    model.save_pretrained(tmp_path / "weights")
    ids = [7, 33, 96, 2, 45, 51][:tokens]
    capture(model, ids, tmp_path / "dump", steps=steps)
    wanted = Direct(monkeypatch, model).run(ids, steps)
    for values, own in zip(passes_of(tmp_path / "dump"), wanted, strict=True):
        assert_same(values, own)
        assert ("text.layer.0.attn.probs" in own) == (attention == "eager")
    assert compare(tmp_path / "dump", weights=str(tmp_path / "weights"))["verdict"] == "match"


def norms_first(self, hidden_states, position_embeddings=None, attention_mask=None, past_key_values=None, **kwargs):
    """Compute attention with its norms before the heads are brought forward, as other models have it."""
    shape = (*hidden_states.shape[:-1], -1, self.head_dim)
    q, k, v = (p(hidden_states).view(shape) for p in (self.q_proj, self.k_proj, self.v_proj))
    q, k, v = (x.transpose(1, 2) for x in (self.q_norm(q), self.k_norm(k), v))
    q, k = gemma3.apply_rotary_pos_emb(q, k, *position_embeddings)
    out, probs = gemma3.eager_attention_forward(self, q, k, v, attention_mask, scaling=self.scaling)
    return self.o_proj(out.reshape(*hidden_states.shape[:-1], -1)), probs


@pytest.mark.parametrize("sizes", [{}, SHARED, ONE])
@pytest.mark.parametrize("tokens", [1, K, N, 5])
def test_a_norm_before_the_transpose_gives_the_same_dump(tmp_path, tokens, sizes):
    model = built(**sizes)
    [wanted] = passes_of(capture(model, [7, 33, 96, 2, 45][:tokens], tmp_path / "before"))
    for layer in model.model.layers:
        layer.self_attn.forward = MethodType(norms_first, layer.self_attn)
    [values] = passes_of(capture(model, [7, 33, 96, 2, 45][:tokens], tmp_path / "dump"))
    assert values.keys() == wanted.keys()
    for name, value in values.items():
        np.testing.assert_allclose(value, wanted[name], rtol=1e-4, atol=1e-5, err_msg=name)


def test_equal_tokens_and_infinite_values_do_not_hide_the_order(tmp_path):
    model = built()
    with torch.no_grad():
        model.model.layers[0].self_attn.q_proj.weight[0] = np.inf
    [values] = passes_of(capture(model, [7, 33, 96, 2], tmp_path / "dump"))
    q, normed = (values[f"text.layer.0.attn.{name}"] for name in ("q", "q_norm"))
    assert not np.isfinite(q[:, :, 0]).all()
    np.testing.assert_array_equal(np.isnan(normed).all(-1), np.isnan(q).any(-1) | np.isinf(q).any(-1))


def scaled_first(module, args):
    """Change queries on their way from the projection to the norm."""
    return (args[0] * 2, *args[1:])


@pytest.mark.parametrize("tokens", [N, 5])
def test_an_order_that_cannot_be_told_is_left_out_and_said(tmp_path, tokens, recwarn):
    model = built()
    model.model.layers[1].self_attn.q_norm.register_forward_pre_hook(scaled_first)
    [values] = passes_of(capture(model, [7, 33, 96, 2, 45][:tokens], tmp_path / "dump"))
    said = [str(one.message) for one in recwarn if issubclass(one.category, LeftOut)]
    if tokens == N:
        assert "text.layer.1.attn.q_norm" not in values
        [line] = said
        assert line.startswith("capture: text.layer.1.attn.q_norm left out: which axis counts heads")
    else:  # 5 tokens are not 4 heads
        assert values["text.layer.1.attn.q_norm"].shape == (1, 5, N, H)
        assert said == []
    assert "text.layer.0.attn.q_norm" in values


def test_a_projection_of_another_width_is_left_out_and_said(tmp_path):
    model = built()
    attention = model.model.layers[0].self_attn
    attention.q_proj.register_forward_hook(lambda _m, _a, out: torch.nn.functional.pad(out, (0, 1)))

    def narrow(self, hidden_states, **_):
        return self.q_proj(hidden_states)[..., :20], None

    attention.forward = MethodType(narrow, attention)
    said = r"text\.layer\.0\.attn\.q left out: wanted \[B T N\*H\] with H = 6, got \[1, 4, 25\]"
    with pytest.warns(LeftOut, match=said):
        capture(model, [7, 33, 96, 2], tmp_path / "dump")


def test_the_mix_is_what_the_output_projection_is_given(tmp_path, monkeypatch):
    inner = gemma3.eager_attention_forward

    def heads_first(*args, **kwargs):
        out, probs = inner(*args, **kwargs)
        return out.transpose(1, 2).contiguous(), probs

    def forward(self, hidden_states, position_embeddings=None, attention_mask=None, past_key_values=None, **kwargs):
        shape = (*hidden_states.shape[:-1], -1, self.head_dim)
        q, k, v = (p(hidden_states).view(shape).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj))
        q, k = gemma3.apply_rotary_pos_emb(self.q_norm(q), self.k_norm(k), *position_embeddings)
        out, probs = gemma3.eager_attention_forward(self, q, k, v, attention_mask, scaling=self.scaling)
        return self.o_proj(out.transpose(1, 2).reshape(*hidden_states.shape[:-1], -1)), probs

    model = built()
    [wanted] = passes_of(capture(model, [7, 33, 96, 2], tmp_path / "before"))
    monkeypatch.setattr(gemma3, "eager_attention_forward", heads_first)
    for layer in model.model.layers:
        layer.self_attn.forward = MethodType(forward, layer.self_attn)
    [values] = passes_of(capture(model, [7, 33, 96, 2], tmp_path / "dump"))  # as many tokens as heads
    for i in range(2):
        np.testing.assert_array_equal(values[f"text.layer.{i}.attn.mix"], wanted[f"text.layer.{i}.attn.mix"])


def test_without_a_heard_output_projection_the_mix_is_the_functions(tmp_path):
    model = built()
    [wanted] = passes_of(capture(model, [7, 33, 96, 2], tmp_path / "before"))
    for layer in model.model.layers:
        forward = layer.self_attn.o_proj.forward
        del layer.self_attn.o_proj
        object.__setattr__(layer.self_attn, "o_proj", forward)  # a function, and no module that a hook can hear
    [values] = passes_of(capture(model, [7, 33, 96, 2], tmp_path / "dump"))
    for i in range(2):
        np.testing.assert_array_equal(values[f"text.layer.{i}.attn.mix"], wanted[f"text.layer.{i}.attn.mix"])
        assert f"text.layer.{i}.attn.out" not in values


def seeing(heads, patches):
    """Build a model with a tower of as many heads as patches, or as wide as its grid."""
    vision = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": heads, "intermediate_size": 12}
    vision |= {"patch_size": 5, "image_size": 5 * int(patches**0.5), "vision_use_head": False}
    config = Gemma3Config(text_config=SIZES, vision_config=vision, mm_tokens_per_image=patches, image_token_id=97)
    torch.manual_seed(0)
    return Gemma3ForConditionalGeneration(config).eval()


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize(("heads", "patches"), [(4, 4), (4, 64), (1, 4), (2, 1)])
def test_a_tower_whose_lengths_coincide(tmp_path, heads, patches, attention):
    model = seeing(heads, patches)
    model.set_attn_implementation(attention)
    block, seen = model.model.vision_tower.encoder.layers[0], {}
    conv = model.model.vision_tower.embeddings.patch_embedding
    for name, module in {"q": block.self_attn.q_proj, "v": block.self_attn.v_proj, "conv": conv}.items():
        module.register_forward_hook(lambda _m, _a, out, name=name: seen.update({name: out}))
    block.self_attn.out_proj.register_forward_pre_hook(lambda _m, args: seen.update({"mix": args[0]}))
    pixels = torch.rand(1, 3, model.config.vision_config.image_size, model.config.vision_config.image_size)
    [values] = passes_of(capture(model, [3, *[97] * patches, 5], tmp_path / "dump", pixel_values=pixels))
    rows = (1, patches, heads, 8 // heads)
    for name in ("q", "v", "mix"):
        np.testing.assert_array_equal(values[f"vision.layer.0.attn.{name}"], seen[name].view(rows).numpy())
    wanted = seen["conv"].numpy().reshape(1, 8, patches).swapaxes(1, 2)
    np.testing.assert_array_equal(values["vision.patch_embed"], wanted)
    if attention == "eager":
        mix = values["vision.layer.0.attn.probs"] @ values["vision.layer.0.attn.v"].swapaxes(1, 2)
        np.testing.assert_allclose(values["vision.layer.0.attn.mix"], mix.swapaxes(1, 2), rtol=1e-4, atol=1e-6)
