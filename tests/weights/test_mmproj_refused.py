"""Mmproj files that are damaged, of other sizes or no such files are refused in one line."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.checkpoints import SMALL_EYE, save_mmproj, save_seeing, vision_tensors_of
from support.luck import WITH_FIXTURES
from support.mmproj import see
from support.refusing import damage, read_or_refused, refusal

from ref.errors import BadInput
from ref.weights.resolve import load
from ref.weights.synthetic import synthetic_vision

PROJECTION = "mm.input_projection.weight"


def transpose(tensors):
    tensors[PROJECTION] = np.ascontiguousarray(tensors[PROJECTION].T)


def drop(tensors):
    del tensors["v.blk.1.ln2.bias"]


def drop_up(tensors):
    del tensors["v.blk.0.ffn_up.weight"]


def add(tensors):
    tensors["v.pre_ln.weight"] = np.ones(96, np.float32)


def use_integers(tensors):
    tensors["v.patch_embd.weight"] = np.zeros((96, 3, 5, 5), np.int32)


def cut_positions(tensors):
    tensors["v.position_embd.weight"] = np.zeros((65, 96), np.float32)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (transpose, rf"tensor {PROJECTION}: wanted shape \[96, 64\], got \[64, 96\] \(transposed\?\)"),
        (drop, r"tensor v.blk.1.ln2.bias: wanted shape \[96\], got no such tensor \(38 of 39 tensors found\)"),
        (drop_up, r"tensor v.blk.0.ffn_up.weight: wanted shape \[160, 96\], got no such tensor"),
        (add, "tensors: wanted only those of a Gemma 3, got 1 unknown, first v.pre_ln.weight"),
        (use_integers, "type of tensor v.patch_embd.weight: wanted F64 .*, got I32"),
        (cut_positions, r"tensor v.position_embd.weight: wanted shape \[64, 96\], got \[65, 96\]"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_tensors_that_do_not_fit_are_refused_by_name(tmp_path, text, eye, change, says):
    path = tmp_path / "mmproj.gguf"
    save_mmproj(path, eye, change=change)
    with pytest.raises(BadInput, match=says) as refused:
        load(text, mmproj=str(path))
    assert str(refused.value).startswith(f"{path}: ")


def run(capsys, weights, mmproj):
    flags = ["--ids", "1,2", "--max-new-tokens", "1", "--weights", str(weights), "--mmproj", str(mmproj)]
    return refusal(capsys, "generate", *flags)


def test_files_that_do_not_go_together(capsys, tmp_path, text, eye):
    mmproj, wide = tmp_path / "mmproj.gguf", tmp_path / "wide.gguf"
    save_mmproj(mmproj, eye)
    save_mmproj(wide, synthetic_vision(SMALL_EYE, 128))
    want = "clip.vision.projection_dim: wanted 64, the width of the text model, got 128"
    assert f"{wide}: {want}" in run(capsys, text, wide)
    assert "general.architecture: wanted clip, as an mmproj file has, got gemma3" in run(capsys, text, text)
    line = run(capsys, mmproj, text)
    assert f"{mmproj}: general.architecture: wanted gemma3 (an mmproj file goes to --mmproj), got clip" in line
    save_seeing(tmp_path / "folder")
    for weights in (tmp_path / "folder", "tiny", "tiny-long", "synthetic:tiny"):
        line = run(capsys, weights, mmproj)
        assert f"--mmproj: wanted a .gguf file as --weights; others hold their own vision, got {weights}" in line


def test_files_that_are_none(capsys, tmp_path, text):
    for path in (tmp_path / "missing.gguf", tmp_path):
        assert f"--mmproj: wanted a .gguf file with a vision tower, got {path}" in run(capsys, text, path)
    with pytest.raises(BadInput, match=r"--mmproj: wanted a \.gguf file with a vision tower"):
        load(text, mmproj="a\0b")
    (tmp_path / "junk.gguf").write_bytes(b"junk, not GGUF")
    assert f"{tmp_path / 'junk.gguf'}: magic: wanted GGUF, got" in run(capsys, text, tmp_path / "junk.gguf")


@pytest.fixture(scope="module")
def sound(tmp_path_factory, eye):
    path = tmp_path_factory.mktemp("mmproj") / "mmproj.gguf"
    save_mmproj(path, eye, "Q8_0")
    return path.read_bytes()


@pytest.mark.parametrize("size", [0, 3, 23, 500, 3000, -1])
def test_truncated_files(capsys, tmp_path, text, sound, size):
    path = tmp_path / "mmproj.gguf"
    path.write_bytes(sound[:size])
    assert str(path) in run(capsys, text, path)


@settings(suppress_health_check=WITH_FIXTURES, max_examples=150)
@given(st.data())
def test_files_with_changed_headers_load_or_are_refused_in_one_line(tmp_path, text, sound, data):
    (tmp_path / "damaged.gguf").write_bytes(damage(data, sound, sound.index(b"v.blk.1.")))
    with read_or_refused():
        vision = see(tmp_path / "damaged.gguf", text)
        assert all(weight.shape for _, _, weight in vision_tensors_of(vision))
