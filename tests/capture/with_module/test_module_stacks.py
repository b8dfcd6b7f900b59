"""Libraries whose tables are shipped: they are known by their modules, and what is truly wrong in them is named."""

from importlib.util import find_spec

import pytest
from support.torch_stranger import IDS, tiny

import ref
from ref.capture.module import capture_module
from ref.weights.export import save_hugging_face

pytestmark = [pytest.mark.witness, pytest.mark.filterwarnings("ignore")]
needs_litgpt = pytest.mark.skipif(not find_spec("litgpt"), reason="needs litgpt: pip install litgpt==0.5.13")
needs_lens = pytest.mark.skipif(
    not find_spec("transformer_lens"), reason="needs TransformerLens: pip install transformer-lens==2.18.0"
)


def with_config(folder, **changed):
    """Return the weights of `tiny` in a folder, with another configuration."""
    params = tiny().params
    save_hugging_face(params._replace(config=params.config._replace(**changed)), folder)
    return ref.load(str(folder))


def litgpt_of(loaded, **changed):
    from bench.field.of_litgpt import build

    params = loaded.params
    return build(loaded._replace(params=params._replace(config=params.config._replace(**changed))), "float32")


@needs_litgpt
def test_litgpt_as_it_is_has_another_epsilon_and_mended_matches(tmp_path):
    report = ref.compare(capture_module(litgpt_of(tiny(), rms_eps=1e-5), IDS, tmp_path / "d", weights="tiny"))
    assert (report["verdict"], report["first"]["tap"]) == ("bug", "text.layer.0.attn.pre_norm")
    assert report["diagnosis"][0]["mutant"] == "norm_eps_1e-5"
    report = ref.compare(capture_module(litgpt_of(tiny()), IDS, tmp_path / "e", weights="tiny"))
    assert (report["verdict"], report["compared"]["of_dump"]) == ("match", 18 * 7 + 3)


@needs_litgpt
def test_a_mistake_planted_in_litgpt_is_named(tmp_path):
    import copy

    model = litgpt_of(tiny())
    mlp = model.transformer.h[3].mlp
    mlp.config = copy.copy(mlp.config)
    mlp.config.gelu_approximate = "none"
    report = ref.compare(capture_module(model, IDS, tmp_path / "d", weights="tiny"))
    assert (report["first"]["tap"], report["diagnosis"][0]["mutant"]) == ("text.layer.3.ffn.act", "gelu_erf")


def lens_of(loaded):
    """Return TransformerLens' own model of weights; its rows know no RoPE factor."""
    import torch
    from transformer_lens import HookedTransformer
    from transformer_lens.loading_from_pretrained import get_pretrained_model_config
    from transformer_lens.pretrained.weight_conversions.gemma import convert_gemma_weights

    from ref.capture.transformers import build_from

    k = loaded.params.config
    c = get_pretrained_model_config("google/gemma-3-270m", dtype=torch.float32, device="cpu")
    c.n_layers, c.d_model, c.d_head, c.n_heads = k.layers, k.width, k.head_dim, k.query_heads
    c.n_key_value_heads, c.d_mlp, c.window_size = k.kv_heads, k.ffn_width, k.window
    c.d_vocab = c.d_vocab_out = k.vocabulary
    c.n_ctx, c.rotary_dim, c.attn_scale, c.eps, c.tokenizer_name = 64, k.head_dim, 1 / k.query_scale, k.rms_eps, None
    c.attn_types = ["global" if k.is_global(i) else "local" for i in range(k.layers)]
    model = HookedTransformer(c)
    model.load_state_dict(convert_gemma_weights(build_from(loaded), c), strict=False)
    return model.eval()


@needs_lens
def test_transformer_lens_matches_without_a_factor_and_its_lack_is_named(tmp_path):
    report = ref.compare(capture_module(lens_of(tiny()), IDS, tmp_path / "d", weights="tiny"))
    assert (report["verdict"], report["first"]["tap"]) == ("bug", "text.layer.5.attn.q_rope")
    assert report["diagnosis"][0]["mutant"] == "rope_factor_missing"
    plain = with_config(tmp_path / "plain", rope_factor=1.0)
    report = ref.compare(capture_module(lens_of(plain), IDS, tmp_path / "e", weights=plain), weights=plain.name)
    assert (report["verdict"], report["compared"]["of_dump"]) == ("match", 21 * 7 + 3)
