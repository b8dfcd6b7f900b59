"""llama.cpp's numbers are made by the arithmetic that the module says, in every format of weights."""

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from support.captures import distance, passes_of
from support.llama_cpp_captures import DTYPES, IDS

import ref
from ref.capture.llama_cpp import capture, capture_weights
from ref.config import TextConfig
from ref.dump.write import read_dump
from ref.model.tap_rows import LAYER_TAPS
from ref.ops.linear import widen
from ref.weights.gguf import open_gguf
from ref.weights.names import gguf_name


def f16(x):
    return np.asarray(x, np.float32).astype(np.float16).astype(np.float32)


def blocks_of(x, length):
    """Return blocks, their multiplier 127 / max in float32, and their largest magnitudes."""
    blocks = np.asarray(x, np.float32).reshape(-1, length)
    most = np.abs(blocks).max(1, keepdims=True)
    return blocks, np.float32(127) / most, most


def q8_0(x):
    blocks, multiplier, most = blocks_of(x, 32)
    return (np.rint(blocks * multiplier) * f16(most / np.float32(127))).reshape(x.shape)


def q8_k(x):
    blocks, multiplier, _ = blocks_of(x, 256)
    return (np.rint(blocks * multiplier) * (np.float32(1) / multiplier)).reshape(x.shape)


ROUND = {
    "F32": lambda x: x,
    "F16": f16,
    "BF16": lambda x: x.astype(ml_dtypes.bfloat16).astype(np.float32),
    **dict.fromkeys(["Q8_0", "Q5_0"], q8_0),
    **dict.fromkeys(["Q4_K", "Q6_K"], q8_k),
}
PRODUCTS = {
    "attn.q": ("attn.pre_norm", "q"),
    "attn.k": ("attn.pre_norm", "k"),
    "attn.v": ("attn.pre_norm", "v"),
    "attn.out": ("attn.mix", "attn_out"),
    "ffn.gate": ("ffn.pre_norm", "gate"),
    "ffn.up": ("ffn.pre_norm", "up"),
    "ffn.out": ("ffn.act", "down"),
}


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def angles(positions, config: TextConfig, layer: int) -> np.ndarray:
    """Return [T, H/2] angles as llama.cpp forms them: each the one before times a float32."""
    base, factor = config.rope(layer)
    step = np.float32(base) ** np.float32(-2 / config.head_dim)
    columns = [positions.astype(np.float32)]
    for _ in range(config.head_dim // 2 - 1):
        columns.append(columns[-1] * step)
    return np.stack(columns, 1) * np.float32(1 / factor)


def rotated(x, angle):
    a, b = np.split(x.astype(np.float64), 2, axis=-1)
    cos, sin = np.cos(angle.astype(np.float64))[:, None], np.sin(angle.astype(np.float64))[:, None]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)


def assert_arithmetic(path: Path, one: dict[str, np.ndarray], positions, seen: set[str] | None = None):
    """Assert that each captured value follows from the captured ones before it by what the module's text says."""
    file, loaded = open_gguf(path), ref.load(str(path)).params
    config, tokens = loaded.config, len(positions)
    for i, layer in enumerate(loaded.layers):
        v = {name: one[f"text.layer.{i}.{name}"][0] for name in LAYER_TAPS if f"text.layer.{i}.{name}" in one}
        for tap, (source, field) in PRODUCTS.items():
            x, kind = v[source].reshape(tokens, -1), file.type(gguf_name(field, i))
            weight = np.asarray(widen(getattr(layer, field)), np.float64)
            wanted = ROUND[kind](x).astype(np.float64) @ weight.T
            assert distance(v[tap].reshape(tokens, -1), wanted) < 1e-6, (tap, i, kind)
            assert kind == "F32" or distance(x.astype(np.float64) @ weight.T, wanted) > 5e-5
            if seen is not None:
                seen.add(kind)
        gate = v["ffn.gate"]
        table = np.where(gate >= 10, gate, np.where(gate <= -10, 0, f16(gelu(f16(gate).astype(np.float64)))))
        # tanhf at a tie of float16 may fall to the other side: one entry in thousands
        assert distance(v["ffn.act"], table * v["ffn.up"].astype(np.float64)) < 2e-5, i
        for name in ("q", "k"):
            wanted = rotated(v[f"attn.{name}_norm"], angles(positions, config, i))
            assert distance(v[f"attn.{name}_rope"], wanted) < 2e-7, (name, i)
        if positions[0] == 0:
            _assert_attention(v, config)


def _assert_attention(v, config: TextConfig):
    groups = config.query_heads // config.kv_heads
    keys, values = (np.repeat(f16(v[name]), groups, axis=1) for name in ("attn.k_rope", "attn.v"))
    scale = np.float32(1) / np.sqrt(np.float32(config.head_dim))
    queries = f16(v["attn.q_rope"] * scale).astype(np.float64)
    assert distance(v["attn.scores"], np.einsum("tnh,snh->nts", queries, keys)) < 1e-6
    scores = v["attn.scores"].astype(np.float64)
    index = np.arange(scores.shape[-1])
    start, stop = v["attn.visible"].T[:, :, None]
    seen = np.where((index >= start) & (index < stop), np.exp(scores - scores.max(-1, keepdims=True)), 0)
    assert distance(v["attn.probs"], seen / seen.sum(-1, keepdims=True)) < 1e-6
    assert distance(v["attn.mix"], np.einsum("nts,snh->tnh", f16(v["attn.probs"]).astype(np.float64), values)) < 1e-6


@pytest.mark.parametrize("kind", DTYPES)
def test_the_arithmetic_is_what_the_module_says(tmp_path, llama_cpp, files, kind):
    capture(files[kind], IDS, tmp_path / "dump", steps=1)
    prefill, step = passes_of(tmp_path / "dump")
    assert_arithmetic(files[kind], prefill, np.arange(9))
    assert_arithmetic(files[kind], step, np.arange(9, 10))


@pytest.mark.weights
def test_the_real_270m_in_its_mixture_of_formats(tmp_path, llama_cpp):
    from ref.weights.package import package_file

    ids, greedy = _greedy("The capital of France is")
    capture_weights("270m", [ids], tmp_path / "dump", steps=3)
    assert read_dump(tmp_path / "dump")["model"]["weights"]["name"] == "270m"
    passes, seen = passes_of(tmp_path / "dump"), set()
    assert_arithmetic(package_file(), passes[0], np.arange(len(ids)), seen)
    assert seen == {"Q5_0", "Q8_0", "Q4_K", "Q6_K"}
    # transformers' own continuation in float32, of which these tokens are no close calls
    assert [int(one["text.logits"][0, -1].argmax()) for one in passes] == greedy[:4]


def _greedy(prompt: str) -> tuple[list[int], list[int]]:
    from ref.golden_files.files import golden_root

    path = golden_root() / "real" / "270m" / "greedy.json"
    row = next(one for one in json.loads(path.read_text())["prompts"] if one["prompt"] == prompt)
    return row["prompt_ids"], row["ids"]
