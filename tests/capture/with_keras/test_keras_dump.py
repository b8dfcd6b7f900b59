"""keras-hub's own numbers: captured whole, and on the right axes."""

import json

import ml_dtypes
import numpy as np
import pytest
from support.captures import distance, passes_of, truth_of
from support.keras_captures import IDS, TINY, UNSEEN, needs_keras, only_pass, running

import ref
from ref.capture.keras import capture, capture_weights
from ref.capture.keras.listen import LAYERS, Listener
from ref.dump.write import read_dump
from ref.model.tap_rows import LAYER_TAPS
from ref.model.taps import Recorder
from ref.weights.export import save_hugging_face
from ref.weights.synthetic import synthetic_params

HEADS = {"K 3": TINY, "K 1": TINY._replace(kv_heads=1), "N = K": TINY._replace(query_heads=3)}


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


def test_every_tap_of_a_layer_has_one_place():
    ends = [tap for pair in LAYERS.values() for tap in pair if tap]
    others = ["in", "out", "attn.q_rope", "attn.k_rope", "attn.visible", "attn.scores", "attn.probs"]
    cache = ["cache.k", "cache.v", UNSEEN]
    assert sorted([*ends, *others, *cache]) == sorted(LAYER_TAPS)
