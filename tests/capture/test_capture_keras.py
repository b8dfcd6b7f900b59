"""keras-hub's own numbers: captured whole, on the right axes, and made by the arithmetic that the module says."""

import json
import sys
import warnings
from importlib.util import find_spec

import ml_dtypes
import numpy as np
import pytest

import ref
from ref.capture.keras import capture, capture_weights
from ref.capture.keras.listen import LAYERS, Listener
from ref.capture.keras.model import INSTALL, config_of, fill, import_keras, model_of
from ref.config import SIZES
from ref.dump.write import load_pass, read_dump
from ref.errors import BadInput
from ref.model.cache import empty_cache
from ref.model.taps import LAYER_TAPS, Recorder, tap_names
from ref.model.text import How, forward
from ref.ops import DEFINITION
from ref.ops.linear import widen
from ref.weights.export import save_hugging_face
from ref.weights.synthetic import synthetic_params

# `tiny` but for its query scale, which keras-hub does not run
TINY = SIZES["tiny"]._replace(name="tiny-10", query_scale=10**-0.5)
IDS = [5, 6, 7, 33, 96, 0, 2, 45, 51, 8, 60]  # longer than the window of 5; 0 is a token like others
HEADS = {"K 3": TINY, "K 1": TINY._replace(kv_heads=1), "N = K": TINY._replace(query_heads=3)}
UNSEEN = "cache.positions"
needs_keras = pytest.mark.skipif(
    not (find_spec("keras") and find_spec("keras_hub")), reason=f"needs keras-hub: {INSTALL}"
)


@pytest.fixture(scope="module")
def parts():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TensorFlow's, while it is imported
        return import_keras()


@pytest.fixture(scope="module")
def tiny(parts):
    return running(parts)


def running(parts, dtype="float32", config=TINY):
    model = model_of(parts, config, dtype)
    fill(model.backbone, synthetic_params(config, 0, bfloat16=False))
    return model


def passes_of(folder):
    return [load_pass(folder, one) for one in read_dump(folder)["passes"]]


def only_pass(model, folder, **more):
    [one] = passes_of(capture(model, IDS, folder, **more))
    return one


def truth_of(config, folder):
    """Run our definitions in float64 over the same passes."""
    params, passes, values = synthetic_params(config, 0, bfloat16=False), read_dump(folder)["passes"], []
    total = sum(len(one["ids"]) for one in passes)
    cache = empty_cache(config, np.zeros(1), total, np.float64) if len(passes) > 1 else None
    for one in passes:
        recorder = Recorder("*")
        _, cache = forward(params, [one["ids"]], How(ops=DEFINITION, dtype=np.float64, taps=recorder), cache)
        values.append(recorder.values)
    return values


def distance(value, wanted) -> float:
    return float(np.linalg.norm(value.astype(np.float64) - wanted) / np.linalg.norm(wanted))


@pytest.mark.parametrize("first", ["q", "k"])
def test_a_rotation_is_known_by_the_norm_before_it(first):
    listener = object.__new__(Listener)
    listener.recorder, listener.normed = Recorder("*", keep=lambda name, value: value), {}
    made = {name: np.full((1, 3, 3, 2), number) for number, name in enumerate("qk")}  # as many tokens as heads
    rotated = listener._rotation("text.layer.0.")
    for name, value in made.items():
        listener._ends("text.layer.0.", None, f"attn.{name}_norm")((), {}, value)
    for name in (first, "k" if first == "q" else "q"):
        rotated((made[name],), {}, made[name] + 10)
    heard = listener.take()
    for name, value in made.items():
        np.testing.assert_array_equal(heard[f"text.layer.0.attn.{name}_rope"], value + 10)


@needs_keras
@pytest.mark.filterwarnings("ignore:(?s).*softmax over axis:UserWarning")
@pytest.mark.parametrize("steps", [0, 2])
@pytest.mark.parametrize("tokens", [1, TINY.kv_heads, TINY.head_dim, TINY.query_heads])
def test_lengths_that_coincide_change_no_axis(tmp_path, parts, tokens, steps):
    capture(running(parts), [*IDS, 9][:tokens], tmp_path / "dump", steps=steps, config=TINY)
    for one, true in zip(passes_of(tmp_path / "dump"), truth_of(TINY, tmp_path / "dump"), strict=True):
        for tap, value in one.items():
            assert value.shape == true[tap].shape, tap
            if tap.endswith(("visible", "positions")):
                np.testing.assert_array_equal(value, true[tap], err_msg=tap)
            else:
                assert distance(value, true[tap]) < 1e-5, tap


@needs_keras
@pytest.mark.parametrize("steps", [0, 2])
@pytest.mark.parametrize("heads", HEADS)
def test_every_tap_of_a_prefill_and_cached_steps_stands_where_ours_does(tmp_path, parts, heads, steps):
    config = HEADS[heads]
    capture(running(parts, config=config), IDS, tmp_path / "dump", steps=steps, config=config)
    passes = passes_of(tmp_path / "dump")
    for one, true in zip(passes, truth_of(config, tmp_path / "dump"), strict=True):
        assert {tap.split(".", 3)[-1] for tap in set(true) - set(one)} == ({UNSEEN} if steps else set())
        assert set(one) <= set(true)
        for tap, value in one.items():
            assert value.shape == true[tap].shape, tap
            if tap.endswith("visible"):
                np.testing.assert_array_equal(value, true[tap], err_msg=tap)
            else:
                assert value.dtype == np.float32
                assert distance(value, true[tap]) < 1e-5, tap
        for i in range(config.layers - 1):
            np.testing.assert_array_equal(one[f"text.layer.{i + 1}.in"], one[f"text.layer.{i}.out"])
    rows = [(one["ids"], one["positions"], one["cached"]) for one in read_dump(tmp_path / "dump")["passes"]]
    chosen = [int(one["text.logits"][0, -1].argmax()) for one in passes]
    wanted = [(IDS, list(range(11)), 0), ([chosen[0]], [11], 11)]
    assert rows == ([*wanted, ([chosen[1]], [12], 12)] if steps else wanted[:1])


@needs_keras
def test_the_dump_says_what_was_run(tmp_path, parts):
    folder = tmp_path / "weights"
    save_hugging_face(synthetic_params(TINY, 0), folder)
    flags = {"dtype": "bfloat16", "attention": "eager", "taps": ["text.logits"]}
    capture_weights(str(folder), [IDS, IDS[:3]], tmp_path / "dump", **flags)
    content = read_dump(tmp_path / "dump")
    assert content["producer"] == {"name": "keras", "version": parts.version}
    assert content["names"] == "ref"
    config = ref.load(str(folder)).params.config
    assert content["model"]["config"] == json.loads(json.dumps(config._asdict()))
    assert content["model"]["weights"] == {"name": "weights", "dtype": "bfloat16", "sha256": None}
    words = dict.fromkeys(("compute_dtype", "matmul_activations", "kv_dtype"), "bfloat16")
    assert content["policy"] == words | {"rope_angle": "float32", "attention_impl": "eager"}
    assert [one["ids"] for one in content["passes"]] == [IDS, IDS[:3]]
    assert [list(one["tensors"]) for one in content["passes"]] == [["text.logits"]] * 2
    assert {one["text.logits"].dtype for one in passes_of(tmp_path / "dump")} == {np.dtype(ml_dtypes.bfloat16)}


@needs_keras
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_listening_changes_no_bit_and_a_backbone_is_enough(tmp_path, parts, dtype):
    model = running(parts, dtype)
    tokens = np.array([IDS], np.int32)
    out = model({"token_ids": tokens, "padding_mask": np.ones_like(tokens)})
    logits = np.asarray(parts.keras.ops.convert_to_numpy(parts.keras.ops.cast(out, "float32")))
    for number, one in enumerate((model, model.backbone)):
        value = only_pass(one, tmp_path / str(number))["text.logits"]
        assert value.dtype == (ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
        np.testing.assert_array_equal(value.astype(np.float32), logits)


# The arithmetic that the module's text states


def r(x):
    return np.asarray(x, np.float32).astype(ml_dtypes.bfloat16).astype(np.float32)


def norm(x, weight):
    mean = (x * x).mean(-1, keepdims=True, dtype=np.float32)
    return r(x * (1 / np.sqrt(mean + np.float32(1e-6))) * (1 + weight))


def rotated(x, positions, config, layer):
    base, factor = config.rope(layer)
    exponents = np.arange(0, config.head_dim, 2, dtype=np.float32) / np.float32(config.head_dim)
    angle = positions.astype(np.float32)[:, None] * (np.float32(base) ** -exponents / np.float32(factor))
    (a, b), cos, sin = np.split(x, 2, -1), r(np.cos(angle))[:, None], r(np.sin(angle))[:, None]
    return r(np.concatenate([r(a * cos) - r(b * sin), r(b * cos) + r(a * sin)], -1))


def gelu(x, cube):
    inner = r(r(np.sqrt(2 / np.pi)) * r(x + r(r(0.044715) * cube(x))))
    return r(r(np.float32(0.5) * x) * r(1 + r(np.tanh(inner))))


# TensorFlow's is one operation, the others' two
CUBES = {"tensorflow": lambda x: r(x * x * x), "jax": lambda x: r(r(x * x) * x)}


PRODUCTS = ("attn.q", "attn.k", "attn.v", "attn.scores", "attn.mix", "attn.out", "ffn.gate", "ffn.up", "ffn.out")


def assert_rounded(got, wanted, tap, equal=0.997):
    """Assert that few values lie on the other side of a rounding, and next to it: sums differ in order."""
    assert (got == wanted).mean() > equal, tap
    assert (abs(got - wanted) <= np.maximum(abs(got), abs(wanted)) * 2.0**-7).all(), tap


def assert_stepwise(one, params, cube):
    c, positions = params.config, np.arange(one["text.embed"].shape[1])
    for i, layer in enumerate(params.layers):
        v = {name: one[f"text.layer.{i}.{name}"][0] for name in LAYER_TAPS if f"text.layer.{i}.{name}" in one}
        v = {name: value if value.dtype == np.int64 else value.astype(np.float32) for name, value in v.items()}
        start, stop = v["attn.visible"].T[:, :, None]
        scores = np.where((positions >= start) & (positions < stop), v["attn.scores"], np.float32(-1e9))
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        keys, values = (np.repeat(v[name], c.query_heads // c.kv_heads, axis=1) for name in ("attn.k_rope", "attn.v"))

        def product(source, weight, v=v):
            return r(v[source].reshape(len(positions), -1) @ r(widen(weight)).T)

        wanted = {
            "attn.pre_norm": norm(v["in"], r(layer.pre_attn_norm)),
            "attn.q": product("attn.pre_norm", layer.q),
            "attn.k": product("attn.pre_norm", layer.k),
            "attn.v": product("attn.pre_norm", layer.v),
            "attn.q_norm": norm(v["attn.q"], r(layer.q_norm)),
            "attn.k_norm": norm(v["attn.k"], r(layer.k_norm)),
            "attn.q_rope": rotated(v["attn.q_norm"], positions, c, i),
            "attn.k_rope": rotated(v["attn.k_norm"], positions, c, i),
            "attn.scores": r(np.einsum("tnh,snh->nts", r(v["attn.q_rope"] * r(c.query_scale)), keys)),
            "attn.probs": r(weights / weights.sum(-1, keepdims=True)),
            "attn.mix": r(np.einsum("nts,snh->tnh", v["attn.probs"], values)),
            "attn.out": product("attn.mix", layer.attn_out),
            "attn.post_norm": norm(v["attn.out"], r(layer.post_attn_norm)),
            "mid": r(v["in"] + v["attn.post_norm"]),
            "ffn.pre_norm": norm(v["mid"], r(layer.pre_ffn_norm)),
            "ffn.gate": product("ffn.pre_norm", layer.gate),
            "ffn.up": product("ffn.pre_norm", layer.up),
            "ffn.act": r(gelu(v["ffn.gate"], cube) * v["ffn.up"]),
            "ffn.out": product("ffn.act", layer.down),
            "ffn.post_norm": norm(v["ffn.out"], r(layer.post_ffn_norm)),
            "out": r(v["mid"] + v["ffn.post_norm"]),
        }
        assert set(wanted) == set(v) - {"in", "attn.visible"}
        for name, value in wanted.items():
            equal = 0.99 if name in PRODUCTS else 0.997
            assert_rounded(v[name], value.reshape(v[name].shape), f"layer {i} {name}", equal)


@needs_keras
def test_bfloat16_rounds_where_the_module_says(tmp_path, parts):
    backend = parts.keras.config.backend()
    if backend not in CUBES:
        pytest.skip(f"the arithmetic of keras on {backend} was not looked into")
    params = synthetic_params(TINY, 0, bfloat16=False)
    one = only_pass(running(parts, "bfloat16"), tmp_path / "dump")
    assert_stepwise(one, params, CUBES[backend])
    table, last = r(widen(params.embedding)), one["text.layer.6.out"][0].astype(np.float32)
    assert_rounded(one["text.embed"][0].astype(np.float32), r(table[IDS] * r(np.sqrt(TINY.width))), "embed")
    final = one["text.final_norm"][0].astype(np.float32)
    assert_rounded(final, norm(last, r(params.final_norm)), "final norm")
    assert_rounded(one["text.logits"][0].astype(np.float32), r(final @ table.T), "logits", 0.99)
    # the backends differ in one rounding, and are told apart
    [other] = CUBES.keys() - {backend}
    with pytest.raises(AssertionError, match=r"ffn\.act"):
        assert_stepwise(one, params, CUBES[other])


# Models that their owners have patched


@needs_keras
def test_a_mistake_planted_after_a_first_capture_is_heard(tmp_path, parts, tiny, monkeypatch):
    before = only_pass(tiny, tmp_path / "before")
    block = tiny.backbone.transformer_layers[0]
    monkeypatch.setattr(block.attention, "sliding_window_size", 4)
    monkeypatch.setattr(block.attention.rope_layer, "max_wavelength", 1_000_000.0)
    after = only_pass(tiny, tmp_path / "after")
    at = "text.layer.0.attn."
    for name in ("q_norm", "k_norm", "v"):
        np.testing.assert_array_equal(before[at + name], after[at + name])
    assert after[at + "visible"].tolist() == [[[max(0, n - 3), n + 1] for n in range(len(IDS))]]
    assert before[at + "visible"].tolist() == [[[max(0, n - 4), n + 1] for n in range(len(IDS))]]
    other = Recorder(at + "k_rope")
    wrong = synthetic_params(TINY._replace(rope_base_local=1e6), 0, bfloat16=False)
    forward(wrong, [IDS], How(ops=DEFINITION, dtype=np.float64, taps=other))
    true = other.values[at + "k_rope"]
    assert distance(after[at + "k_rope"], true) < 1e-6 < distance(before[at + "k_rope"], true)


@needs_keras
def test_a_norm_that_is_off_is_no_tap(tmp_path, tiny, monkeypatch):
    monkeypatch.setattr(tiny.backbone.transformer_layers[2].attention, "use_query_key_norm", False)
    one = only_pass(tiny, tmp_path / "dump")
    gone = {f"text.layer.2.attn.{name}_norm" for name in "qk"}
    assert set(tap_names(TINY.layers)) - set(one) == gone


@needs_keras
def test_everything_is_as_it_was_also_after_an_error(tmp_path, parts, tiny, monkeypatch):
    before = parts.layer.__call__

    def breaks(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setattr(tiny.backbone.transformer_layers[1].attention, "_compute_attention", breaks)
    with pytest.raises(ZeroDivisionError):
        capture(tiny, IDS, tmp_path / "broken")
    assert parts.layer.__call__ is before
    assert list(tmp_path.iterdir()) == []


# Models by name


@needs_keras
def test_what_it_runs_is_read_from_the_layers_that_run(parts, tiny):
    assert config_of(tiny.backbone) == TINY._replace(name="tiny", max_positions=131_072)
    small = SIZES["270m"]._replace(layers=6, vocabulary=97, width=48, ffn_width=32)
    assert config_of(model_of(parts, small, "float32").backbone)._replace(name="270m", max_positions=32_768) == small


@needs_keras
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"query_scale": 15**-0.5}, r"query_scale of tiny-10: wanted 0\.316\d*, which keras-hub runs, got 0\.258"),
        ({"query_scale": 3**-0.5}, r"query_scale of tiny-10: wanted 0\.316\d*, which keras-hub runs, got 0\.577"),
        ({"global_every": 3}, r"global_every of tiny-10: wanted 6, which keras-hub runs, got 3"),
        ({"rope_base_local": 5e3}, r"rope_base_local of tiny-10: wanted 10000\.0, which keras-hub runs, got 5000\.0"),
    ],
)
def test_sizes_that_it_would_run_otherwise_are_refused(parts, change, says):
    with pytest.raises(BadInput, match=says):
        model_of(parts, TINY._replace(**change), "float32")


@needs_keras
@pytest.mark.weights
def test_the_270m_is_near_ours_in_float64_and_goes_on_as_transformers_does(tmp_path):
    from ref.golden_files.files import golden_root

    rows = json.loads((golden_root() / "real" / "270m" / "greedy.json").read_text())["prompts"]
    row = next(one for one in rows if one["prompt"] == "The capital of France is")
    kept = ["text.logits", "text.layer.*.out", "text.layer.17.attn.*"]
    capture_weights("270m", [row["prompt_ids"]], tmp_path / "dump", steps=2, taps=kept)
    passes = passes_of(tmp_path / "dump")
    assert [int(one["text.logits"][0, -1].argmax()) for one in passes] == row["ids"][:3]
    recorder = Recorder(*kept)
    forward(ref.load("270m").params, [row["prompt_ids"]], How(ops=DEFINITION, dtype=np.float64, taps=recorder))
    assert set(recorder.values) == set(passes[0])
    for tap, value in passes[0].items():
        if not tap.endswith("visible"):
            assert distance(value, recorder.values[tap]) < 1e-5, tap


# Refusals


@needs_keras
@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"ids": []}, "token ids: wanted at least one prompt"),
        ({"ids": [97]}, "token id: wanted 0 <= id < 97, got 97"),
        ({"steps": 131_072}, "prompt and new tokens: wanted at most 131072, got 131083"),
        ({"taps": ["*.cache.k"]}, "taps: wanted a pattern that matches a tap"),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_line(tmp_path, tiny, given, says):
    with pytest.raises(BadInput, match=says) as refusal:
        capture(tiny, given.pop("ids", IDS), tmp_path / "dump", **given)
    assert len(str(refusal.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"attention": "sdpa"}, "attention: wanted eager, the only one that keras-hub has on a CPU, got sdpa"),
        ({"dtype": "float64"}, "dtype: wanted float32, bfloat16, float16, got float64"),
    ],
)
def test_what_the_command_line_may_ask_for_is_checked(tmp_path, flags, says):
    with pytest.raises(BadInput, match=says):
        capture_weights("tiny", [IDS], tmp_path / "dump", **flags)


def test_without_keras_hub_the_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    with pytest.raises(BadInput, match="keras-hub: wanted pip install keras-hub, with TensorFlow") as line:
        capture_weights("tiny", [IDS], tmp_path / "dump")
    assert len(str(line.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_every_tap_of_a_layer_has_one_place():
    ends = [tap for pair in LAYERS.values() for tap in pair if tap]
    others = ["in", "out", "attn.q_rope", "attn.k_rope", "attn.visible", "attn.scores", "attn.probs"]
    cache = ["cache.k", "cache.v", UNSEEN]
    assert sorted([*ends, *others, *cache]) == sorted(LAYER_TAPS)
