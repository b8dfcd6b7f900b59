"""Models of google-deepmind/gemma by name, the command, and what is refused in one line."""

import json
import sys

import numpy as np
import pytest
from support.captures import distance, gemma3_ref, passes_of
from support.gemma_captures import IDS, Pair, needs_gemma
from support.reports import report_of

import ref
from ref.capture.common import check_prompts
from ref.capture.gemma import capture, capture_weights
from ref.capture.gemma.model import config_of, model_of
from ref.config import SIZES
from ref.dump.write import read_dump
from ref.errors import BadInput
from ref.model.taps import Recorder
from ref.model.text import How, forward
from ref.ops import DEFINITION

TINY = SIZES["tiny"]


@needs_gemma
def test_their_configurations_of_the_released_sizes_are_ours(parts):
    for name in ("270m", "1b", "4b", "12b", "27b"):
        official = getattr(parts.sizes, f"Gemma3_{name.upper()}")
        assert config_of(parts, official.config) == SIZES[name]
    assert type(model_of(parts, SIZES["270m"], "float32")) is parts.sizes.Gemma3_270M
    assert type(model_of(parts, TINY, "float32")) is parts.transformer.Transformer
    made = config_of(parts, model_of(parts, TINY, "float32").config)
    assert made._replace(name="tiny") == TINY


@needs_gemma
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
    assert read_dump(tmp_path / "dump")["model"]["config"]["name"] == "270m"


@needs_gemma
def test_the_command_writes_a_dump_and_counts_it(tmp_path, capsys):
    flags = ["--weights", "tiny", "--ids", ",".join(map(str, IDS)), "--taps", "text.*.attn.q", "--max-new-tokens", 1]
    assert gemma3_ref("gemma", *flags, "--json", "-o", tmp_path / "dump") == 0
    written = report_of(capsys.readouterr().out, "capture")
    size = sum(file.stat().st_size for file in (tmp_path / "dump").glob("*.safetensors"))
    assert (len(written["passes"]), written["tensors"], written["bytes"]) == (2, 14, size)


# Refusals


REFUSED = {
    "ids": ({"ids": []}, "token ids: wanted at least one prompt"),
    "id": ({"ids": [97]}, "token id: wanted 0 <= id < 97, got 97"),
    "inner pad": ({"ids": [1, 0, 2]}, "token ids: wanted 0, which is padding there, on the left only"),
    "right pad": ({"ids": [1, 2, 0]}, "token ids: wanted 0, which is padding there, on the left only"),
    "only pads": ({"ids": [0, 0]}, "token ids: wanted 0, which is padding there, on the left only"),
    "context": ({"ids": [1], "steps": 131_072}, "prompt and new tokens: wanted at most 131072, got 131073"),
    "taps": ({"taps": ["no.such"]}, "capture: no tap is called no.such; "),
    "cache": ({"taps": ["*.cache.k"]}, "taps: wanted a pattern that matches a tap"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_run_is_refused_in_one_line(case):
    given, message = REFUSED[case]
    given = {"ids": IDS, "steps": 0, "taps": ["*"]} | given
    ids = given["ids"]
    with pytest.raises(BadInput, match=message) as refusal:
        check_prompts([ids] if ids else [], TINY, given["steps"], given["taps"])
    assert len(str(refusal.value).splitlines()) == 1


def test_zero_is_a_token_to_others():
    check_prompts([[1, 0, 2, 0]], TINY, 0, ["*"], padded=False)


@needs_gemma
def test_a_refusal_leaves_nothing_and_touches_nothing(tmp_path, tiny: Pair):
    with pytest.raises(BadInput, match="token id"):
        capture(*tiny, [97], tmp_path / "dump")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine").touch()
    with pytest.raises(BadInput, match="output folder: wanted an empty or new one"):
        capture(*tiny, IDS, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--attention", "sdpa"], "attention: wanted eager, the only one that google-deepmind/gemma has, got sdpa"),
        (["--dtype", "float64"], "dtype: wanted float32, bfloat16, float16, got float64"),
        (["--threads", "1"], "--threads: wanted a witness that takes it; gemma does not, got 1"),
    ],
)
def test_what_the_command_line_may_ask_for_is_checked(tmp_path, flags, message):
    with pytest.raises(BadInput, match=message):
        gemma3_ref("gemma", "--weights", "tiny", "--ids", "1,2", "-o", tmp_path / "dump", *flags)
    assert list(tmp_path.iterdir()) == []


def test_without_gemma_the_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jax", None)
    with pytest.raises(
        BadInput, match="google-deepmind/gemma: wanted pip install --no-deps -r golden/make/requ"
    ) as line:
        capture_weights("tiny", [IDS], tmp_path / "dump")
    assert len(str(line.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
