"""Broken weights given to a command: exit code 2, and one line that names the file and what is wrong."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.bad_files import BROKEN_GGUF, BROKEN_SAFETENSORS
from support.checkpoints import SMALL, change_config, change_tensors, save_gguf, save_tiny
from support.luck import WITH_FIXTURES
from support.refusing import damage, read_or_refused, refusal

from ref.cli import main
from ref.weights.resolve import load
from ref.weights.synthetic import synthetic_params


def run_file(capsys, path):
    return refusal(capsys, "generate", "--ids", "1,2", "--max-new-tokens", "1", "--weights", str(path))


@pytest.mark.parametrize("name", BROKEN_GGUF)
def test_broken_gguf_files(capsys, tmp_path, name):
    path = tmp_path / "model.gguf"
    path.write_bytes(BROKEN_GGUF[name][0])
    assert str(path) in run_file(capsys, path)
    assert [item.name for item in tmp_path.iterdir()] == ["model.gguf"]


@pytest.mark.parametrize("name", BROKEN_SAFETENSORS)
def test_broken_safetensors_files(capsys, tmp_path, name):
    save_tiny(tmp_path / "tiny")
    path = tmp_path / "tiny" / "model.safetensors"
    path.write_bytes(BROKEN_SAFETENSORS[name][0])
    assert str(path) in run_file(capsys, tmp_path / "tiny")


@pytest.fixture(scope="module")
def sound_gguf(tmp_path_factory):
    path = tmp_path_factory.mktemp("gguf") / "small.gguf"
    save_gguf(path, synthetic_params(SMALL, 0), "Q8_0")
    return path.read_bytes()


@pytest.mark.parametrize("size", [0, 3, 4, 23, 500, 5000, -1])
def test_truncated_gguf_files(capsys, tmp_path, sound_gguf, size):
    path = tmp_path / "small.gguf"
    path.write_bytes(sound_gguf[:size])
    assert str(path) in run_file(capsys, path)


@pytest.mark.parametrize("size", [0, 7, 8, 100, 9000, -1])
def test_truncated_safetensors_files(capsys, tmp_path, size):
    save_tiny(tmp_path / "tiny")
    path = tmp_path / "tiny" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    assert str(path) in run_file(capsys, tmp_path / "tiny")


@settings(suppress_health_check=WITH_FIXTURES, max_examples=150)
@given(st.data())
def test_gguf_files_with_changed_headers_run_or_are_refused_in_one_line(capsys, tmp_path, sound_gguf, data):
    """Whatever the header claims, never a traceback; values may become anything, also no numbers."""
    path = tmp_path / "damaged.gguf"
    path.write_bytes(damage(data, sound_gguf, sound_gguf.index(b"blk.1.")))
    with read_or_refused():
        params = load(str(path)).params
        assert all(np.ndim(norm) == 1 for layer in params.layers for norm in layer if isinstance(norm, np.ndarray))


@pytest.mark.parametrize("kind", ["Q2_K", "IQ4_XS", "Q4_1"])
def test_a_type_that_is_not_decoded(capsys, tmp_path, sound_gguf, kind):
    types = {"Q2_K": (10, 84 * 256), "Q4_1": (3, 20), "IQ4_XS": (23, 136)}
    name = b"blk.3.ffn_down.weight"  # rows of 160 values: five blocks of 32
    place = sound_gguf.index(name) + len(name) + 4 + 16
    assert sound_gguf[place : place + 4] == (8).to_bytes(4, "little")
    path = tmp_path / "small.gguf"
    path.write_bytes(sound_gguf[:place] + types[kind][0].to_bytes(4, "little") + sound_gguf[place + 4 :])
    line = run_file(capsys, path)
    assert name.decode() in line
    assert kind in line


CHANGED_CONFIGS = {
    "window 0": ({"sliding_window": 0}, "window: wanted a finite number > 0, got 0"),
    "heads": ({"num_attention_heads": 11}, "query_heads: wanted a multiple of kv_heads = 3, got 11"),
    "odd head_dim": ({"head_dim": 9}, "head_dim: wanted an even number"),
    "vocabulary": ({"vocab_size": 98}, "tensor model.embed_tokens.weight: wanted shape [98, 36], got [97, 36]"),
    "layers": ({"num_hidden_layers": 8, "layer_types": None}, "tensor model.layers.7.input_layernorm.weight: wanted"),
    "fewer layers": ({"num_hidden_layers": 6, "layer_types": None}, "tensors: wanted only those of a Gemma 3, got 13"),
    "layer types": ({"num_hidden_layers": 6}, "layer_types: wanted a list of num_hidden_layers = 6"),
    "model": ({"model_type": "llama"}, "model_type: wanted gemma3 or gemma3_text, got llama"),
    "softcap": ({"final_logit_softcapping": 30.0}, "final_logit_softcapping: wanted None, got 30.0"),
}


@pytest.mark.parametrize("name", CHANGED_CONFIGS)
def test_bad_configurations(capsys, tmp_path, name):
    changed, says = CHANGED_CONFIGS[name]
    save_tiny(tmp_path / "tiny")
    change_config(tmp_path / "tiny", **changed)
    assert says in run_file(capsys, tmp_path / "tiny")


def test_a_configuration_with_nan(capsys, tmp_path):
    save_tiny(tmp_path / "tiny")
    path = tmp_path / "tiny" / "config.json"
    path.write_text(path.read_text().replace("1e-06", "NaN"))
    line = run_file(capsys, tmp_path / "tiny")
    assert f"{path}: JSON: wanted finite numbers, got NaN" in line


def test_missing_and_misshapen_tensors(capsys, tmp_path):
    save_tiny(tmp_path / "tiny")
    name = "model.layers.4.mlp.gate_proj.weight"
    change_tensors(tmp_path / "tiny", lambda t: t.update({name: np.ascontiguousarray(t[name].T)}))
    line = run_file(capsys, tmp_path / "tiny")
    assert f"tensor {name}: wanted shape [44, 36], got [36, 44] (transposed?)" in line
    change_tensors(tmp_path / "tiny", lambda t: t.pop(name))
    assert f"tensor {name}: wanted shape [44, 36], got no such tensor (92 of 93 tensors found)" in run_file(
        capsys, tmp_path / "tiny"
    )


def test_an_index_that_points_outside_its_folder(capsys, tmp_path):
    save_tiny(tmp_path / "tiny", shards=2)
    path = tmp_path / "tiny" / "model.safetensors.index.json"
    content = json.loads(path.read_text())
    content["weight_map"]["model.norm.weight"] = "../../etc/x.safetensors"
    path.write_text(json.dumps(content))
    assert "weight_map: wanted the plain name of a .safetensors file" in run_file(capsys, tmp_path / "tiny")


@pytest.mark.parametrize("content", [b"", b"junk", b"\x0a\x05"])
def test_a_tokenizer_model_that_is_none(capsys, tmp_path, content):
    save_tiny(tmp_path / "tiny")
    path = tmp_path / "tiny" / "tokenizer.model"
    path.write_bytes(content)
    line = refusal(capsys, "generate", "hi", "--weights", str(tmp_path / "tiny"))
    assert f"{path}: " in line
    assert main(["generate", "--ids", "1,2", "--max-new-tokens", "1", "--weights", str(tmp_path / "tiny")]) == 0
