"""Names and axes as their frameworks print and lay them are brought to ours; what nobody has is listed."""

from pathlib import Path

import numpy as np
from support.aligned import LENGTHS, Q, T, opened, raw

from ref.dump.aliases import TABLES
from ref.dump.align import align
from ref.dump.layouts import lengths_of
from ref.dump.llama_cpp_names import tap_of
from ref.dump.open import arrays_as_dump
from ref.dump.read_llama_text import HEADER
from ref.model.taps import tap_names

# printed by google-deepmind/gemma 3.3.0: capture_intermediates of a Block with B 1, T 5, D 6, N 4, K 2, H 8, F 10
FLAX = {
    "['__call__'][0][1]": (1, 5, 6),
    "['attn']['__call__'][0][1]": (1, 5, 6),
    "['attn']['_key_norm']['__call__'][0]": (1, 5, 2, 8),
    "['attn']['_query_norm']['__call__'][0]": (1, 5, 4, 8),
    "['attn']['attention_weights']['__call__'][0]": (1, 5, 4, 5),
    "['attn']['attn_vec_einsum']['__call__'][0]": (1, 5, 6),
    "['attn']['kv_einsum']['__call__'][0]": (2, 1, 5, 2, 8),
    "['attn']['q_einsum']['__call__'][0]": (1, 5, 4, 8),
    "['mlp']['__call__'][0]": (1, 5, 2, 10),
    "['mlp']['__call__'][1]": (1, 5, 6),
    "['mlp']['__call__'][2]": (1, 5, 6),
    "['post_attention_norm']['__call__'][0]": (1, 5, 6),
    "['post_ffw_norm']['__call__'][0]": (1, 5, 6),
    "['pre_attention_norm']['__call__'][0]": (1, 5, 6),
    "['pre_ffw_norm']['__call__'][0]": (1, 5, 6),
}


def test_every_intermediate_of_gemmas_block_has_a_place():
    config = {"width": 6, "layers": 1, "query_heads": 4, "kv_heads": 2, "head_dim": 8, "ffn_width": 10}
    names = {
        "layer_0/" + path.replace("']", "").replace("['", "/").replace("[", "/").replace("]", "").strip("/"): shape
        for path, shape in FLAX.items()
    }
    assert "layer_0/attn/q_einsum/__call__/0" in names
    dump = arrays_as_dump({name: np.zeros(shape) for name, shape in names.items()}, range(5), "gemma", config=config)
    unheard = {"in", "attn.q_rope", "attn.k_rope", "cache.k", "cache.v", "cache.positions", "attn.visible",
               "attn.scores", "attn.mix", "mid", "ffn.act"}  # fmt: skip
    inside = {tap.removeprefix("text.layer.0.") for tap in tap_names(1, cached=True) if ".layer." in tap}
    assert {tap.removeprefix("text.layer.0.") for tap in dump.passes[0].tensors} == inside - unheard
    assert all(one["why"].startswith("the same tap as") for one in dump.unaligned)


def test_gemmas_axes(taps):
    at = "text.layer.3."
    k, v = taps[at + "attn.k"], taps[at + "attn.v"]
    given = {
        "intermediates/layer_3/attn/kv_einsum/__call__/0": np.stack([k, v]),
        "intermediates/layer_3/attn/attention_weights/__call__": np.swapaxes(taps[at + "attn.probs"], 1, 2),
        "layer_3/mlp/__call__/0": np.stack([taps[at + "ffn.gate"], taps[at + "ffn.up"]], axis=-2),
        "layer_3/attn/_query_norm": taps[at + "attn.q_norm"][0],
    }
    values, why = opened(given, "gemma")
    assert (len(values), why) == (6, {})
    for tap, value in values.items():
        np.testing.assert_array_equal(value, taps[tap])


def test_nodes_that_llama_cpp_printed_fit_their_taps():
    """Names, operations and sizes are llama.cpp's own; SMALL has N 4, K 2, H 24, D 64, F 160, V 97."""
    config = {
        "width": 64,
        "layers": 7,
        "query_heads": 4,
        "kv_heads": 2,
        "head_dim": 24,
        "ffn_width": 160,
        "vocabulary": 97,
    }
    lengths, found = lengths_of(config, 1, 9, 0, None), {}
    for line in (Path(__file__).parents[1] / "support/llama_eval_callback.txt").read_text().splitlines():
        header = HEADER.search(line)
        tap = tap_of(header[1].strip(), header[3], header[4]) if header else None
        if header is None or tap is None or header[1].startswith("node_"):
            continue
        shape = tuple(int(size) for size in header.groups()[-4:])
        name = f"{header[1].strip()}:{header[3]}"
        found |= {name: align("llama.cpp", name, raw(*shape), lengths, "text")}
    assert found.pop("kq-0:MUL_MAT") == "it has 256 keys where there are 9: cut those that are none"
    assert found.pop("kq_soft_max-0:SOFT_MAX").startswith("it has 256 keys")
    last = {name for name, one in found.items() if isinstance(one, str)}
    assert last == {"l_out-6:ADD", "result_output:MUL_MAT"}
    assert {found[name] for name in last} == {"it holds 1 of 9 tokens"}
    shapes = {tap: one.shape for name in found.keys() - last for tap, one in found[name].items()}
    assert shapes["text.layer.0.attn.q"] == (1, 9, 4, 24)
    assert shapes["text.layer.0.attn.k_rope"] == (1, 9, 2, 24)
    assert shapes["text.layer.0.attn.mix"] == (1, 9, 4, 24)
    assert shapes["text.embed"] == (1, 9, 64)


def test_ggmls_reversed_axes(taps):
    at = "text.layer.3."
    q = taps[at + "attn.q"][0]
    given = {
        "Qcur-3:MUL_MAT": q.reshape(T, -1).T.reshape(120, T, 1, 1),
        "Qcur-3:ROPE": taps[at + "attn.q_rope"][0].transpose(2, 1, 0)[..., None],
        "Kcur_normed-3": taps[at + "attn.k_norm"][0].transpose(2, 1, 0),
        "kq-3": taps[at + "attn.scores"][0].transpose(2, 1, 0)[..., None],
        "kqv_out-3": taps[at + "attn.mix"][0].reshape(T, -1).T,
        "l_out-3": taps[at + "out"][0].T,
        "result_output": taps["text.logits"][0].T.reshape(97, T, 1, 1),
        "Qcur-3": q,
        "node_34": q,
    }
    values, why = opened(given, "llama.cpp")
    assert "write Qcur-3:MUL_MAT or Qcur-3:ROPE" in why.pop("Qcur-3").replace("{i}", "3")
    assert (len(values), list(why)) == (7, ["node_34"])
    for tap, value in values.items():
        np.testing.assert_array_equal(value, taps[tap], err_msg=tap)


def test_keras_and_mlx_and_transformer_lens(taps):
    at, probs = "text.layer.3.", taps["text.layer.3.attn.probs"]
    keras = {
        "gemma3_backbone/decoder_block_3/attention/softmax": probs.reshape(1, 3, 4, T, T),
        "decoder_block_3/ffw_gating": taps[at + "ffn.gate"],
        "decoder_block_3/ffw_gating_2": taps[at + "ffn.up"],
        "decoder_block_3/attention/attention_output.input": taps[at + "attn.mix"],
        "decoder_block_3": taps[at + "out"],
        "token_embedding": taps["text.embed"],
    }
    mlx = {
        "language_model.model.layers.3.self_attn.q_proj": taps[at + "attn.q"].reshape(1, T, -1),
        "model.layers.3.self_attn.k_norm": taps[at + "attn.k_norm"].swapaxes(1, 2),
        "model.layers.3": taps[at + "out"],
        "model.embed_tokens": taps["text.embed"],
    }
    lens = {
        "blocks.3.attn.hook_rot_q": taps[at + "attn.q_rope"],
        "blocks.3.attn.hook_pattern": probs,
        "blocks.3.hook_resid_mid": taps[at + "mid"],
        "blocks.3.hook_attn_out": taps[at + "attn.post_norm"],
        "blocks.3.mlp.hook_post": taps[at + "ffn.act"],
        "blocks.3.attn.hook_attn_scores": taps[at + "attn.scores"],
        "blocks.3.ln1.hook_normalized": taps[at + "attn.pre_norm"],
    }
    reasons = {}
    for names, arrays, count in (("keras", keras, 5), ("mlx", mlx, 3), ("transformer_lens", lens, 5)):
        values, why = opened(arrays, names)
        assert len(values) == count
        reasons |= why
        for tap, value in values.items():
            np.testing.assert_array_equal(value, taps[tap], err_msg=f"{names} {tap}")
    assert reasons["token_embedding"].startswith("not yet multiplied by sqrt(D)")
    assert reasons["model.embed_tokens"].startswith("not yet multiplied by sqrt(D)")
    assert reasons["blocks.3.attn.hook_attn_scores"].startswith("masked there")
    assert reasons["blocks.3.ln1.hook_normalized"].startswith("before the gain")


def test_our_own_names_are_understood_in_every_naming(taps):
    for names in TABLES:
        values, why = opened({"text.layer.3.attn.q_rope": taps["text.layer.3.attn.q_rope"]}, names)
        assert (len(values), why) == (1, {})


# names that nobody has


def test_an_unknown_name_is_listed_with_the_nearest(taps):
    given = {
        "text.layer.3.attn.q_nrom": taps[Q],
        "model.layers.3.self_attn.q_proj": taps[Q],
        "qwertyuiop": taps[Q],
        "text.layer.7.out": taps["text.layer.6.out"],
        Q: taps[Q],
    }
    values, why = opened(given)
    assert list(values) == [Q]
    assert why["text.layer.3.attn.q_nrom"] == "no such name in the table ref; nearest is text.layer.3.attn.q_norm"
    assert why["model.layers.3.self_attn.q_proj"].endswith("it is one of the table transformers")
    assert why["qwertyuiop"] == "no such name in the table ref"
    assert why["text.layer.7.out"] == "the model has 7 layers, from 0"
    one = align("transformers", "model.layers.3.self_attn.q_porj", raw(1), LENGTHS, "")
    assert one == "no such name in the table transformers; nearest is layers.3.self_attn.q_proj"


def test_a_value_of_the_last_token_alone_or_with_padded_keys_is_listed():
    assert align("ref", "text.logits", raw(1, 1, 97), LENGTHS, "") == "it holds 1 of 8 tokens"
    found = align("ref", "text.layer.3.attn.probs", raw(1, 12, T, 256), LENGTHS, "")
    assert found == "it has 256 keys where there are 8: cut those that are none"
    assert (
        align("ref", "text.layer.3.attn.probs", raw(1, 12, T, 5), LENGTHS, "")["text.layer.3.attn.probs"].shape[3] == 5
    )


def test_a_tap_that_comes_twice_is_taken_once(taps):
    values, why = opened({Q: taps[Q], f"{Q} [B N T H]": taps[Q].swapaxes(1, 2)})
    assert list(values) == [Q]
    given = {"model.layers.0": taps["text.layer.0.out"], "model.layers.0.0": taps["text.layer.0.out"]}
    values, why = opened(given, "transformers")
    assert why == {"model.layers.0.0": "the same tap as model.layers.0: text.layer.0.out"}
