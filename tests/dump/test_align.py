"""Foreign names and axes brought to ours: by tables, held against transformers' own modules, and by layouts."""

from itertools import permutations
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.checkpoints import save_seeing, save_tiny
from support.tiny import TINY, params

from ref.config import SIZES, TINY_VISION
from ref.dump.aliases import TABLES
from ref.dump.align import Raw, align, check_model, check_prompt
from ref.dump.claims import differing_settings
from ref.dump.layouts import layouts_that_fit, lengths_of
from ref.dump.llama_cpp_names import tap_of
from ref.dump.open import arrays_as_dump
from ref.dump.read_llama_text import HEADER
from ref.errors import BadInput
from ref.golden_files.sampled import made_pixels, relative_l2
from ref.model.multimodal import Images, soft_token_id
from ref.model.taps import Recorder, tap_names, tap_row
from ref.model.text import How, forward
from ref.untrusted import quoted

IDS = [2, 7, 96, 0, 45, 45, 31, 8]
T = len(IDS)
CONFIG = TINY._asdict() | {"vision": TINY_VISION._asdict()}
LENGTHS = lengths_of(CONFIG, 1, T, 0, 2)
Q = "text.layer.3.attn.q"


@pytest.fixture(scope="module")
def taps():
    recorder = Recorder("*")
    forward(params(), [IDS], How(taps=recorder))
    return recorder.values


def opened(arrays, names="ref", ids=IDS, config=CONFIG):
    """Align arrays of one pass; return (tap -> values, name -> why not)."""
    dump = arrays_as_dump(arrays, ids, names, config=config)
    values = {tap: stored.load() for tap, stored in dump.passes[0].tensors.items()}
    for tap, stored in dump.passes[0].tensors.items():
        assert stored.shape == values[tap].shape
    return values, {one["name"]: one["why"] for one in dump.unaligned}


def raw(*shape, dtype="float32", layout=""):
    return Raw(dtype, shape, lambda: np.zeros(shape, "f4"), layout)


def refused(foreign, one, names="ref"):
    with pytest.raises(BadInput) as error:
        align(names, foreign, one, LENGTHS, "dump")
    assert len(str(error.value).splitlines()) == 1
    return str(error.value)


@pytest.mark.parametrize("names", TABLES)
def test_every_line_of_a_table_ends_at_a_registered_tap_in_its_axes(names):
    for foreign, rows in TABLES[names].rows.items():
        for row in rows:
            tap = row.tap.replace("{i}", "3").replace("{last}", "6")
            if not tap:
                assert row.why
                continue
            if tap.startswith("hidden state"):
                continue
            registered = tap_row(tap)
            assert registered, (foreign, tap)
            right = row.how.partition(" -> ")[2].replace("(i j)", registered.axes.lower()[2]).replace("(k g)", "n")
            assert right in ("", registered.axes.lower()), (foreign, row)


# what transformers' modules see


def listened(model, run):
    """Run a transformers model and return what goes into and comes out of each of its modules, under their paths."""
    import torch

    heard, handles = {}, []

    def hook(name):
        def listen(_module, args, kwargs, out):
            given = [one for one in (*args, *kwargs.values()) if isinstance(one, torch.Tensor)]
            heard.update({f"{name}.input": given[0]} if given and given[0].is_floating_point() else {})
            outs = (
                {name: out} if isinstance(out, torch.Tensor) else dict(enumerate(out)) if isinstance(out, tuple) else {}
            )
            heard.update({key if key == name else f"{name}.{key}": one for key, one in outs.items()})

        return listen

    for name, module in model.named_modules():
        if name:
            handles.append(module.register_forward_hook(hook(name), with_kwargs=True))
    with torch.inference_mode():
        out = run(model)
    for handle in handles:
        handle.remove()
    return {name: one.numpy() for name, one in heard.items() if isinstance(one, torch.Tensor)}, out


@pytest.fixture(scope="module")
def text_model(tmp_path_factory):
    from transformers import Gemma3ForCausalLM

    folder = tmp_path_factory.mktemp("text") / "tiny"
    save_tiny(folder, bfloat16=False)
    return Gemma3ForCausalLM.from_pretrained(folder, dtype="float32", attn_implementation="eager").eval()


@pytest.mark.witness
def test_modules_of_transformers_are_our_taps(text_model, taps):
    import torch

    asked = {"output_hidden_states": True, "output_attentions": True}
    heard, out = listened(text_model, lambda model: model(torch.tensor([IDS]), **asked))
    for name in ("hidden_states", "attentions"):
        heard |= {f"{name}.{i}": value.numpy() for i, value in enumerate(out[name])}
    modules = {name: one for name, one in heard.items() if not name.startswith(("hidden_states", "attentions"))}
    values, why = opened(modules, "transformers")
    hidden = {"cache", "attn.visible", "attn.scores", "attn.q_rope", "attn.k_rope"}  # no module has them
    expected = {tap for tap in taps if not any(name in tap for name in hidden)}
    assert set(values) == expected
    for tap, value in values.items():
        assert value.shape == taps[tap].shape, tap
        assert relative_l2(value, taps[tap]) < 1e-4, tap
    assert why["model.layers.2.mlp"] == "the same tap as model.layers.2.mlp.down_proj: text.layer.2.ffn.out"
    assert {name: reason for name, reason in why.items() if reason.startswith("no such name")} == {}
    states, _ = opened({name: heard[name] for name in heard if name.startswith("hidden_states")}, "transformers")
    assert list(states) == [*(f"text.layer.{i}.in" for i in range(7)), "text.final_norm"]
    for tap, value in states.items():
        assert relative_l2(value, taps[tap]) < 1e-4, tap
    states, _ = opened({name: heard[name] for name in heard if name.startswith("attentions")}, "transformers")
    for tap, value in states.items():
        assert tap.endswith("attn.probs")
        assert relative_l2(value, taps[tap]) < 1e-4, tap


@pytest.mark.witness
def test_modules_of_the_vision_tower_are_our_taps(tmp_path):
    import torch
    from transformers import Gemma3ForConditionalGeneration

    from ref.model.multimodal import forward_images

    text, vision = save_seeing(tmp_path / "seeing", bfloat16=False)
    soft, pixels = soft_token_id(TINY), made_pixels(2, TINY_VISION.image)
    ids = [2, 7, 90, *[soft] * 4, 91, 45, 90, *[soft] * 4, 91, 8]
    model = Gemma3ForConditionalGeneration.from_pretrained(tmp_path / "seeing", dtype="float32").eval()
    given = {"pixel_values": torch.from_numpy(pixels), "token_type_ids": (torch.tensor([ids]) == soft).long()}
    heard, _ = listened(model, lambda model: model(input_ids=torch.tensor([ids]), **given))
    dump = arrays_as_dump(heard | {"pixel_values": pixels}, ids, "transformers", config=CONFIG)
    [one] = dump.passes
    assert one.image_blocks == [[3, 7], [10, 14]]
    np.testing.assert_array_equal(one.pixels, pixels)
    recorder = Recorder("*")
    forward_images(text, Images(vision, pixels), np.array([ids]), How(taps=recorder))
    seen = {tap for tap in recorder.values if tap.startswith(("vision.", "model."))}
    assert set(one.tensors) >= {tap for tap in seen if not tap.endswith(("attn.scores", "attn.probs"))}
    assert {one["name"]: one["why"] for one in dump.unaligned if one["why"].startswith("no such name")} == {}
    for tap, stored in one.tensors.items():
        if tap != "text.embed":  # what is looked up where features go is nobody's business
            assert relative_l2(stored.load(), recorder.values[tap]) < 1e-4, tap


@pytest.mark.witness
def test_fused_projections_are_cut_into_their_parts(text_model, taps):
    import torch

    heard, _ = listened(text_model, lambda model: model(torch.tensor([IDS])))
    at = "model.layers.3."
    joined = np.concatenate([heard[f"{at}self_attn.{name}_proj"] for name in "qkv"], axis=-1)
    both = np.concatenate([heard[f"{at}mlp.{name}_proj"] for name in ("gate", "up")], axis=-1)
    fused = {f"{at}self_attn.qkv_proj": joined, f"{at}mlp.gate_up_proj": both[0]}
    values, why = opened(fused, "transformers")
    assert (set(values), why) == (
        {f"text.layer.3.{tap}" for tap in ("attn.q", "attn.k", "attn.v", "ffn.gate", "ffn.up")},
        {},
    )
    for tap, value in values.items():
        assert relative_l2(value, taps[tap]) < 1e-4, tap


# other namings: names as their frameworks print them, axes laid as they lay them

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


# layouts


@pytest.mark.parametrize(
    ("layout", "axes"),
    [
        ("B T N H", (0, 1, 2, 3)),
        ("B N T H", (0, 2, 1, 3)),
        ("H N T B", (3, 2, 1, 0)),
        ("T N H", (1, 2, 3)),
        ("H N T", (3, 2, 1)),
        ("b t n h", (0, 1, 2, 3)),
    ],
)
def test_a_layout_says_how_axes_lie(taps, layout, axes):
    q = taps[Q]
    laid = q.transpose(axes) if len(axes) == 4 else q[0].transpose([axis - 1 for axis in axes])
    values, _ = opened({f"{Q} [{layout}]": laid})
    np.testing.assert_array_equal(values[Q], q)


def test_merged_axes_are_split_and_groups_joined(taps):
    q = taps[Q]
    for layout, laid in {
        "B T (N H)": q.reshape(1, T, 120),
        "(N H) T": q.reshape(T, 120).T,
        "B (T N) H": q.reshape(1, T * 12, 10),
        "B T K G H": q.reshape(1, T, 3, 4, 10),
        "B K G T H": q.reshape(1, T, 3, 4, 10).transpose(0, 2, 3, 1, 4),
    }.items():
        np.testing.assert_array_equal(opened({f"{Q}[{layout}]": laid})[0][Q], q)


def test_visibility_and_vision_have_layouts_too():
    seen = np.tril(np.ones((T, T), bool))
    tap = "text.layer.3.attn.visible"
    np.testing.assert_array_equal(opened({tap: seen})[0][tap], seen[None])
    ranges = np.stack([np.zeros(T, np.int32), np.arange(1, T + 1, dtype=np.int32)], axis=1)
    value = opened({f"{tap} [2 T]": ranges.T})[0][tap]
    np.testing.assert_array_equal(value, ranges[None])
    assert value.dtype == np.int64
    probs = np.random.default_rng(1).random((2, 2, 64, 64), np.float32)
    tap = "vision.layer.0.attn.probs"
    np.testing.assert_array_equal(opened({f"{tap}[P P N B]": probs.transpose(2, 3, 1, 0)})[0][tap], probs)


@pytest.mark.parametrize(
    "layout",
    ["B T N", "B T N X", "B T N H H", "(B T N H", "B T (N (H))", "()", "B T N H; rm", "B T N+H", "B T K H", "2"],
)
def test_a_layout_of_other_axes_is_refused(layout):
    line = refused(Q, raw(1, T, 12, 10, layout=layout))
    assert f"layout of tensor {Q}: wanted the axes B T N H, merged ones in brackets, got {quoted(layout)}" in line


@pytest.mark.parametrize(
    ("tap", "shape", "fits"),
    [
        (Q, (1, 12, T, 10), "B N T H"),
        (Q, (10, 12, T), "H N T"),
        (Q, (1, T, 120), "B T (N H)"),
        (Q, (T, 120), "T (N H)"),
        ("text.layer.3.attn.k", (10, 3, T, 1), "H K T B"),
        ("text.layer.3.ffn.act", (44, T), "F T"),
        ("text.logits", (1, 97, T), "B V T"),
        ("text.layer.3.attn.probs", (1, T, 12, T), "B T N S or B S N T"),
    ],
)
def test_a_shape_that_fits_otherwise_is_refused_with_the_layout(tap, shape, fits):
    line = refused(tap, raw(*shape))
    assert f"shape of tensor {tap}: wanted " in line
    assert f"got {list(shape)}; fits as {fits}: say so" in line
    if " or " not in fits:
        [found] = align("ref", tap, raw(*shape, layout=fits), LENGTHS, "").values()
        assert len(found.shape) == len(tap_row(tap).axes.split())


def test_a_shape_that_fits_in_no_way_is_refused():
    assert refused(Q, raw(1, T, 12, 11)) == (
        f"dump: shape of tensor {Q}: wanted B T N H = [1, 8, 12, 10], got [1, 8, 12, 11]"
    )
    assert "got []" in refused(Q, raw())
    assert "wanted parts of" in refused("model.layers.3.self_attn.qkv_proj", raw(1, T, 181), "transformers")
    assert "wanted 1 B T K H" not in refused("layer_3.attn.kv_einsum", raw(3, 1, T, 3, 10), "gemma")
    assert "it is fused" in refused("layer_3.attn.kv_einsum", raw(2, 1, T, 3, 10, layout="B T K H"), "gemma")


@pytest.mark.parametrize(
    ("tap", "dtype", "want"),
    [
        (Q, "int64", "one of float16 bfloat16 float32 float64"),
        (Q, "bool", "one of float16 bfloat16 float32 float64"),
        ("text.layer.3.cache.positions", "float32", "an integer"),
        ("text.layer.3.cache.positions", "bool", "an integer"),
        ("text.layer.3.attn.visible", "float32", "an integer, or bool"),
    ],
)
def test_a_dtype_that_a_tap_cannot_have_is_refused(tap, dtype, want):
    assert f"dtype of tensor {tap}: wanted {want}" in refused(tap, raw(1, T, 12, 10, dtype=dtype))


def test_without_a_configuration_axes_are_not_split_by_guessing():
    lengths = lengths_of({}, 1, T, 0, None)
    [stored] = align("ref", Q, raw(1, T, 12, 10), lengths, "").values()
    assert stored.shape == (1, T, 12, 10)
    for name in ("model.layers.3.self_attn.q_proj", "model.layers.3.self_attn.qkv_proj"):
        with pytest.raises(BadInput, match=r"wanted known lengths H .*N to split it by: say whose weights these are"):
            align("transformers", name, raw(1, T, 120), lengths, "dump")
    assert align("transformers", "norm.input", raw(1, T, 36), lengths, "").startswith("which layer is the last")


@pytest.mark.parametrize("field", ["width", "head_dim", "vision.heads"])
@pytest.mark.parametrize("value", [0, -1, True, 2.0, "12", None, 2**62])
def test_a_configuration_of_impossible_sizes_is_refused(field, value):
    config = CONFIG | {field: value} if "." not in field else CONFIG | {"vision": {"heads": value}}
    with pytest.raises(BadInput, match=rf"model\.config\.{field}: wanted an integer > 0"):
        lengths_of(config, 1, T, 0, None)
    with pytest.raises(BadInput, match="vision: wanted an object"):
        lengths_of(CONFIG | {"vision": 3}, 1, T, 0, None)


@given(data=st.data())
def test_any_order_and_merging_of_axes_is_undone_by_its_layout(data):
    tap = data.draw(st.sampled_from([Q, "text.layer.0.attn.k_rope", "text.layer.0.attn.probs", "text.logits"]))
    axes = tap_row(tap).axes.split()
    sizes = {"B": 1, "T": T, "N": 12, "K": 3, "H": 10, "S": 7, "V": 97}
    value = np.arange(np.prod([sizes[a] for a in axes]), dtype=np.float32).reshape([sizes[a] for a in axes])
    order = data.draw(st.sampled_from(list(permutations(range(len(axes))))))
    laid, groups = value.transpose(order), [[axes[i]] for i in order]
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(axes) - 2))
        if "S" not in groups[at] + groups[at + 1]:  # a merged S has no known length
            groups[at : at + 2] = [groups[at] + groups[at + 1]]
            laid = laid.reshape([int(np.prod([sizes[a] for a in group])) for group in groups])
    layout = " ".join(group[0] if len(group) == 1 else f"({' '.join(group)})" for group in groups)
    given_raw = Raw("float32", laid.shape, lambda: laid, layout)
    [stored] = align("ref", tap, given_raw, LENGTHS, "").values()
    np.testing.assert_array_equal(stored.load(), value)
    if max(map(len, groups)) == 1:
        fits = layouts_that_fit(tap_row(tap).axes.lower(), laid.shape, LENGTHS.text, T)
        assert layout in fits or len(fits) == 2  # S 7 may be T's place and the reverse only where both fit


# batches


def test_rows_of_a_batch_are_passes(taps):
    rows = [IDS, IDS[::-1]]
    recorder = Recorder("*")
    forward(params(), rows, How(taps=recorder))
    dump = arrays_as_dump(recorder.values, rows, config=CONFIG)
    assert [one.ids.tolist() for one in dump.passes] == rows
    for number, one in enumerate(dump.passes):
        assert set(one.tensors) == set(recorder.values)
        for tap, stored in one.tensors.items():
            np.testing.assert_array_equal(stored.load(), recorder.values[tap][number : number + 1])
            assert stored.shape == recorder.values[tap][:1].shape
    with pytest.raises(BadInput, match=r"shape of tensor text\.embed: wanted B T D = \[1, 8, 36\], got \[2, 8, 36\]"):
        arrays_as_dump(recorder.values, IDS, config=CONFIG)
    with pytest.raises(BadInput, match="rows of equal length, got unequal ones"):
        arrays_as_dump(recorder.values, [IDS, IDS[:-1]], config=CONFIG)


# what a dump claims


def dump_of(config, *passes):
    """Stand in for a dump; a pass is (ids, cached, left pads)."""
    rows = [
        SimpleNamespace(number=i, ids=np.array(ids), cached=cached, left_pads=pads, image_blocks=[])
        for i, (ids, cached, pads) in enumerate(passes)
    ]
    return SimpleNamespace(where="d", config=config, passes=rows)


def test_another_models_dump_is_refused():
    check_model(dump_of(TINY._asdict(), (IDS, 0, 0)), TINY)
    check_model(dump_of({}, (IDS, 0, 0)), TINY)
    check_model(dump_of(CONFIG, (IDS, 0, 0)), TINY, TINY_VISION)
    with pytest.raises(BadInput) as error:
        check_model(dump_of(SIZES["1b"]._asdict(), (IDS, 0, 0)), SIZES["270m"])
    assert str(error.value) == (
        "d: model: wanted that of the weights, width 640, layers 18, ffn_width 2048, "
        "got another model's, width 1152, layers 26, ffn_width 6912"
    )
    with pytest.raises(BadInput, match=r"vision\.heads 2, got another model's, vision\.heads 4"):
        check_model(dump_of(CONFIG | {"vision": {"heads": 4}}), TINY, TINY_VISION)
    with pytest.raises(BadInput, match="d: pass 1: token id at 1: wanted 0 <= id < 97, got 97"):
        check_model(dump_of({}, (IDS, 0, 0), ([5, 97], 8, 0)), TINY)


def test_settings_that_a_producer_has_wrong_are_told_and_not_refused():
    theirs = TINY._asdict() | {"window": 6, "rope_factor": 1.0, "query_scale": TINY.query_scale * (1 + 1e-9)}
    check_model(dump_of(theirs, (IDS, 0, 0)), TINY)
    assert differing_settings(dump_of(theirs), TINY) == [
        "window: 6 in the dump, 5 in the weights",
        "rope_factor: 1.0 in the dump, 8.0 in the weights",
    ]
    assert differing_settings(dump_of({"window": "6"}), TINY) == ["window: 6 in the dump, 5 in the weights"]


def test_ids_unlike_the_prompt_are_refused():
    steps = dump_of({}, ([2, 5, 6], 0, 0), ([7], 3, 0), ([8], 4, 0))
    check_prompt(steps, [2, 5, 6])
    check_prompt(steps, [2, 5, 6, 7])  # in two passes
    check_prompt(dump_of({}, ([0, 0, 2, 5], 0, 2)), [2, 5])
    check_prompt(dump_of({}, ([2, 5], 0, 0), ([2, 6], 0, 0), ([9], 2, 0)), [[2, 5], [2, 6]])
    for ids, what in {
        (2, 9, 6): "d: token id at 1: wanted 9, as in the prompt, got 5",
        (2, 5): "d: prompt: wanted 2 tokens, got 3",
        (2, 5, 6, 7, 8, 9): "d: prompt: wanted 6 tokens, got 5",
        (): "prompt: token ids: wanted at least one, got none",
    }.items():
        with pytest.raises(BadInput) as error:
            check_prompt(steps, list(ids))
        assert str(error.value) == what
    with pytest.raises(BadInput, match="d: row 1: token id at 1: wanted 7, as in the prompt, got 6"):
        check_prompt(dump_of({}, ([2, 5], 0, 0), ([2, 6], 0, 0)), [[2, 5], [2, 7]])
    with pytest.raises(BadInput, match="prompts: wanted 2 rows, got 1"):
        check_prompt(steps, [[2, 5, 6], [2, 5, 6]])
