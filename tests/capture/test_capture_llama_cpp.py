"""llama.cpp's own numbers: captured whole, on the right axes, and made by the arithmetic that the module says."""

import ctypes
import json
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from support.checkpoints import SMALL, add_pair, gguf_metadata, tensors_of, write_gguf

import ref
from ref.capture.llama_cpp import capture, capture_weights
from ref.capture.llama_cpp import ggml as llama_cpp_ggml
from ref.capture.llama_cpp.copy import KINDS, copy_as
from ref.capture.llama_cpp.listen import visible_keys
from ref.config import TextConfig
from ref.dump.llama_cpp_names import LAYER_NODES, OTHER_NODES, tap_of
from ref.dump.write import load_pass, read_dump
from ref.errors import BadInput
from ref.model.cache import empty_cache
from ref.model.taps import LAYER_TAPS, Recorder, tap_names
from ref.model.text import How, forward
from ref.ops import DEFINITION
from ref.ops.linear import widen
from ref.weights.gguf import open_gguf
from ref.weights.names import gguf_name, is_norm
from ref.weights.synthetic import synthetic_params

IDS = [2, 7, 96, 0, 45, 45, 31, 8, 60]  # longer than SMALL's window of 5
UNSEEN = {"cache.positions"}  # by any node
DTYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16", "Q8_0": "q8_0"}


@pytest.fixture
def llama_cpp():
    return pytest.importorskip("llama_cpp", reason='needs llama-cpp-python: pip install -e ".[llama]"')


def save(path: Path, kind: str, change=None) -> Path:
    """Write SMALL with matrices of a type, and no tokenizer: llama.cpp wants to be told that there is none."""
    from gguf import GGUFWriter

    tensors = {}
    for field, layer, weight in tensors_of(synthetic_params(SMALL, 5, bfloat16=False)):
        one = np.float32(is_norm(field))
        tensors[gguf_name(field, layer)] = np.asarray(widen(weight), np.float32) + one
    if change:
        change(tensors)
    writer = GGUFWriter(path, "gemma3")
    for key, value in gguf_metadata(SMALL).items():
        add_pair(writer, f"gemma3.{key}", value)
    add_pair(writer, "gemma3.vocab_size", SMALL.vocabulary)
    add_pair(writer, "tokenizer.ggml.model", "none")
    write_gguf(writer, tensors, kind, [name for name, array in tensors.items() if array.ndim == 1])
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    pytest.importorskip("gguf")
    folder = tmp_path_factory.mktemp("gguf")
    return {kind: save(folder / f"{kind}.gguf", kind) for kind in DTYPES}


def passes_of(folder: Path) -> list[dict[str, np.ndarray]]:
    return [load_pass(folder, one) for one in read_dump(folder)["passes"]]


def truth_of(path: Path, folder: Path) -> list[dict[str, np.ndarray]]:
    """Run our definitions in float64 over the same passes."""
    params, passes = ref.load(str(path)).params, read_dump(folder)["passes"]
    total = sum(len(one["ids"]) for one in passes)
    cache = empty_cache(params.config, np.zeros(1), total, np.float64) if len(passes) > 1 else None
    values = []
    for one in passes:
        recorder = Recorder("*")
        _, cache = forward(params, [one["ids"]], How(ops=DEFINITION, dtype=np.float64, taps=recorder), cache)
        values.append(recorder.values)
    return values


def distance(value, wanted) -> float:
    return float(np.linalg.norm(value.astype(np.float64) - wanted) / np.linalg.norm(wanted))


@pytest.mark.parametrize("flash", [False, True], ids=["eager", "flash"])
def test_every_tap_of_a_prefill_and_cached_steps_stands_where_ours_does(tmp_path, llama_cpp, files, flash):
    capture(files["F32"], IDS, tmp_path / "dump", steps=2, flash_attention=flash)
    got, true = passes_of(tmp_path / "dump"), truth_of(files["F32"], tmp_path / "dump")
    unseen = UNSEEN | ({"attn.scores", "attn.probs"} if flash else set())
    for one, wanted in zip(got, true, strict=True):
        assert set(wanted) - set(one) == {f"text.layer.{i}.{name}" for i in range(SMALL.layers) for name in unseen}
        assert set(one) <= set(wanted)
        for tap, value in one.items():
            assert value.shape == wanted[tap].shape, tap
            if tap.endswith("visible"):
                np.testing.assert_array_equal(value, wanted[tap], err_msg=tap)
            else:  # float16 of keys, values, probabilities and GELU; a shifted, scaled or permuted tap is off by 1
                assert distance(value, wanted[tap]) < 4e-3, tap
            assert value.dtype == (
                np.int64 if tap.endswith("visible") else np.float16 if ".cache." in tap else np.float32
            )
        for i in range(SMALL.layers - 1):
            np.testing.assert_array_equal(one[f"text.layer.{i + 1}.in"], one[f"text.layer.{i}.out"])
    assert [list(one["text.logits"].shape) for one in got] == [[1, 9, 97], [1, 1, 97], [1, 1, 97]]


def test_the_dump_says_what_was_run(tmp_path, llama_cpp, files):
    capture(files["BF16"], [IDS, IDS[:3]], tmp_path / "dump", steps=1, taps=["text.logits"])
    content = read_dump(tmp_path / "dump")
    assert content["producer"]["name"] == "llama.cpp"
    assert content["producer"]["version"].startswith(f"llama-cpp-python {llama_cpp.__version__} (ggml 0.")
    assert content["model"]["config"] == json.loads(json.dumps(SMALL._asdict()))
    assert content["model"]["weights"] == {"name": "BF16.gguf", "dtype": "as in the file", "sha256": None}
    assert content["names"] == "ref"
    rows = [(one["ids"], one["positions"], one["cached"]) for one in content["passes"]]
    first, third = (load_pass(tmp_path / "dump", content["passes"][i])["text.logits"][0, -1].argmax() for i in (0, 2))
    assert rows == [
        (IDS, list(range(9)), 0),
        ([first], [9], 9),
        (IDS[:3], [0, 1, 2], 0),
        ([third], [3], 3),
    ]


@pytest.mark.parametrize(("kind", "rounded"), DTYPES.items())
def test_policy_and_listening_changes_no_bit(tmp_path, llama_cpp, files, kind, rounded):
    capture(files[kind], IDS, tmp_path / "all", n_threads=1)
    capture(files[kind], IDS, tmp_path / "last", taps=["text.logits"], n_threads=2)
    policy = read_dump(tmp_path / "all")["policy"]
    assert policy == {
        "compute_dtype": "float32",
        "matmul_activations": rounded,
        "kv_dtype": "float16",
        "rope_angle": "float32",
        "attention_impl": "eager",
    }
    [full], [last] = passes_of(tmp_path / "all"), passes_of(tmp_path / "last")
    assert list(last) == ["text.logits"]
    np.testing.assert_array_equal(full["text.logits"], last["text.logits"])


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


def test_a_capture_of_converted_weights_says_so_and_leaves_no_copy(tmp_path, llama_cpp, files, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    flags = {"dtype": "float32", "attention": "flash", "taps": ["text.layer.0.attn.q", "text.embed"]}
    capture_weights(str(files["Q8_0"]), [IDS], tmp_path / "dump", **flags)
    content = read_dump(tmp_path / "dump")
    assert content["model"]["weights"] == {"name": "Q8_0.gguf", "dtype": "float32", "sha256": None}
    assert (content["policy"]["matmul_activations"], content["policy"]["attention_impl"]) == ("float32", "flash")
    [one], [true] = passes_of(tmp_path / "dump"), truth_of(files["Q8_0"], tmp_path / "dump")
    assert distance(one["text.layer.0.attn.q"], true["text.layer.0.attn.q"]) < 1e-6  # no rounded activations
    assert list((tmp_path / "temporary").iterdir()) == []


REFUSED = {
    "no ids": ({"ids": []}, "token ids: wanted at least one prompt"),
    "id": ({"ids": [97]}, "token id: wanted 0 <= id < 97, got 97"),
    "context": ({"ids": [1], "steps": 1024}, "prompt and new tokens: wanted at most 1024, got 1025"),
    "taps": ({"taps": ["no.such"]}, "taps: wanted a pattern that matches a tap"),
    "cache": ({"taps": ["*.cache.k"]}, "taps: wanted a pattern that matches a tap"),
}


@pytest.mark.parametrize(("arguments", "says"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_run_is_refused_in_one_line(tmp_path, files, arguments, says):
    with pytest.raises(BadInput, match=says) as refusal:
        capture(files["F32"], arguments.pop("ids", IDS), tmp_path / "dump", **arguments)
    assert len(str(refusal.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("weights", "arguments", "says"),
    [
        ("tiny", {}, "--weights: wanted 270m or a .gguf file, which is what llama.cpp runs, got tiny"),
        ("F32", {"attention": "sdpa"}, "attention: wanted eager or flash, got sdpa"),
        ("F32", {"dtype": "int4"}, "dtype: wanted file, float32, bfloat16, float16, q8_0, got int4"),
    ],
)
def test_what_the_command_line_may_ask_for_is_checked(tmp_path, files, weights, arguments, says):
    with pytest.raises(BadInput, match=says):
        capture_weights(str(files.get(weights, weights)), [IDS], tmp_path / "dump", **arguments)


def test_without_llama_cpp_the_line_says_what_to_install(tmp_path, files, monkeypatch):
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    with pytest.raises(BadInput, match=r'llama-cpp-python: wanted pip install -e "\.\[llama\]", got not installed'):
        capture(files["F32"], IDS, tmp_path / "dump")
    assert list(tmp_path.iterdir()) == []


def test_what_llama_cpp_refuses_is_told_in_its_words(tmp_path, llama_cpp, capfd):
    path = save(tmp_path / "small.gguf", "F32", lambda t: t.pop("blk.3.ffn_up.weight"))
    with pytest.raises(BadInput, match=r"model: wanted one that llama\.cpp loads, got .*blk\.3\.ffn_up\.weight"):
        capture(path, IDS, tmp_path / "dump")
    assert list(tmp_path.iterdir()) == [path]
    assert capfd.readouterr() == ("", "")


def test_an_error_inside_the_callback_comes_out_and_leaves_nothing(tmp_path, llama_cpp, files, monkeypatch):
    def fails(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(llama_cpp_ggml.Ggml, "read", fails)
    with pytest.raises(ZeroDivisionError):
        capture(files["F32"], IDS, tmp_path / "dump")
    assert list(tmp_path.iterdir()) == []


def test_a_library_of_another_layout_is_refused(tmp_path, llama_cpp, files, monkeypatch):
    fields = list(llama_cpp_ggml.Tensor._fields_)

    other = type("Other", (ctypes.Structure,), {"_fields_": [("more", ctypes.c_int64), *fields]})
    monkeypatch.setattr("ref.capture.llama_cpp.listen.POINTER", ctypes.POINTER(other))
    with pytest.raises(BadInput, match=r"llama-cpp-python: wanted ggml 0\.25, as in version 0\.3\.36, got ggml"):
        capture(files["F32"], IDS, tmp_path / "dump")


def test_every_tap_that_has_a_node_has_one_name_each_way():
    nodes = [f"text.layer.3.{tap}" for tap in LAYER_NODES.values()] + list(OTHER_NODES.values())
    named = [tap_of(f"{stem}-3", op, "x") for stem, op in LAYER_NODES if stem != "attn_output"]
    named += [tap_of("node_34", "MUL_MAT", "blk.3.attn_output.weight")]
    named += [tap_of(stem, op, "x") for stem, op in OTHER_NODES]
    assert sorted(named) == sorted(nodes)
    read = {"cache.k", "cache.v", "attn.visible", "in"}  # not nodes of their own
    inside = {f"text.layer.3.{name}" for name in LAYER_TAPS if name not in read | UNSEEN}
    assert set(nodes) == inside | {"text.embed", "text.final_norm", "text.logits"}
    assert set(nodes) <= set(tap_names(4))
    for name, op in [("Qcur-3", "RESHAPE"), ("norm-3", "RMS_NORM"), ("node_9", "SCALE"), ("Vcur-3", "VIEW")]:
        assert tap_of(name, op, "x") is None


@pytest.mark.parametrize("dtype", KINDS)
def test_copies_hold_what_they_say(tmp_path, files, dtype):
    from gguf import GGMLQuantizationType, dequantize, quantize

    target = copy_as(files["Q8_0"], tmp_path / "copy.gguf", dtype)
    assert list(tmp_path.iterdir()) == [target]
    source, copy = open_gguf(files["Q8_0"]), open_gguf(target)
    shared = {key: value for key, value in source.metadata.items() if key != "general.file_type"}
    assert {key: value for key, value in copy.metadata.items() if key != "general.file_type"} == shared
    assert copy.names() == source.names()
    was, now, kind = (
        ref.load(str(files["Q8_0"])).params,
        ref.load(str(target)).params,
        GGMLQuantizationType[KINDS[dtype]],
    )
    for (field, layer, old), (_, _, new) in zip(tensors_of(was), tensors_of(now), strict=True):
        wanted = np.asarray(widen(old), np.float32)
        if not is_norm(field):
            assert copy.type(gguf_name(field, layer)) == KINDS[dtype]
            wanted = dequantize(quantize(wanted, kind), kind)
        np.testing.assert_array_equal(np.asarray(widen(new), np.float32), wanted, err_msg=f"{field} {layer}")


def test_rows_that_are_no_whole_blocks_are_refused(tmp_path):
    pytest.importorskip("gguf")
    path = save(
        tmp_path / "odd.gguf", "F32", lambda t: t.update({"blk.0.attn_q.weight": np.zeros((96, 63), np.float32)})
    )
    with pytest.raises(
        BadInput, match=r"rows of tensor blk\.0\.attn_q\.weight: wanted a multiple of 32 values, got 63"
    ):
        copy_as(path, tmp_path / "copy.gguf", "q8_0")


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_masks_become_ranges_where_they_are(dtype):
    seen = np.array([[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 0, 0]], bool)
    mask = np.where(seen, 0, -np.inf).astype(dtype)[None, None]
    got = visible_keys(mask, 3)
    assert (got.dtype, got.tolist()) == (np.int64, [[[0, 1], [0, 2], [1, 3]]])
    assert visible_keys(mask, 4)[0, 3].tolist() == [0, 0]
    mask[0, 0, 2] = [0, -np.inf, 0, -np.inf, -np.inf]
    np.testing.assert_array_equal(visible_keys(mask, 3), [[[1, 0, 0], [1, 1, 0], [1, 0, 1]]])
