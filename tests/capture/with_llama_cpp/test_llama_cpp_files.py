"""Copies of files in other formats, and what llama.cpp cannot run: refused in one line, and nothing is left."""

import ctypes
import sys

import numpy as np
import pytest
from support.captures import distance, passes_of
from support.checkpoints import tensors_of
from support.llama_cpp_captures import IDS, save, truth_of

import ref
from ref.capture.llama_cpp import capture, capture_weights
from ref.capture.llama_cpp import ggml as llama_cpp_ggml
from ref.capture.llama_cpp.copy import KINDS, copy_as
from ref.dump.write import read_dump
from ref.errors import BadInput
from ref.ops.linear import widen
from ref.weights.gguf import open_gguf
from ref.weights.names import gguf_name, is_norm


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
    "taps": ({"taps": ["no.such"]}, "capture: no tap is called no.such; "),
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
