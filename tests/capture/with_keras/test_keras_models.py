"""Models of keras-hub, patched and by name: heard as they are, left as they were, or refused in one line."""

import json
import sys

import numpy as np
import pytest
from support.captures import distance, passes_of
from support.keras_captures import IDS, TINY, needs_keras, only_pass

import ref
from ref.capture.keras import capture, capture_weights
from ref.capture.keras.model import config_of, model_of
from ref.config import SIZES
from ref.errors import BadInput
from ref.model.taps import Recorder, tap_names
from ref.model.text import How, forward
from ref.ops import DEFINITION
from ref.weights.synthetic import synthetic_params


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
