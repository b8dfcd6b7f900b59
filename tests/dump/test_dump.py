"""Dumps read back as they were written; broken ones are refused."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ref.dump.write import DumpWriter, axes_of, load_pass, read_dump
from ref.errors import BadInput
from ref.model.tap_rows import LAYER_TAPS, TEXT_TAPS

MODEL = {"config": {}, "weights": {"name": "x", "dtype": "float32", "sha256": None}}
POLICY = dict.fromkeys(["compute_dtype", "matmul_activations", "kv_dtype", "rope_angle", "attention_impl"], "float32")
ROW = {"ids": [1], "positions": [0], "cached": 0, "image_blocks": [], "left_pads": 0, "pixels": None}


def write(folder, tensors):
    writer = DumpWriter(folder, MODEL, POLICY, {"name": "other", "version": "1"}, "transformers")
    writer.add_pass(tensors, ROW)
    return writer.close()


def test_transposed_views_and_nan_read_back_as_they_were(tmp_path):
    view = np.arange(24, dtype=np.float32).reshape(2, 3, 4).transpose(2, 0, 1)
    strange = np.array([np.nan, np.inf, -0.0])
    folder = write(tmp_path / "dump", {"view": view, "strange": strange, "scalar": np.float32(3)})
    values = load_pass(folder, read_dump(folder)["passes"][0])
    np.testing.assert_array_equal(values["view"], view)
    np.testing.assert_array_equal(values["strange"], strange)


def test_a_dump_that_breaks_the_schema_is_not_written(tmp_path):
    writer = DumpWriter(tmp_path / "dump", MODEL, POLICY | {"more": "x"})
    writer.add_pass({"a": np.ones(2)}, ROW)
    with pytest.raises(BadInput, match=r"dump: wanted dump format version 1 or 2, got \$.policy: Additional") as error:
        writer.close()
    assert len(str(error.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def dump(tmp_path):
    return write(tmp_path / "dump", {"a": np.ones((2, 3)), "b": np.ones(2, np.int64)})


def change(folder, **settings):
    content = json.loads((folder / "dump.json").read_text())
    content["passes"][0].update(settings)
    (folder / "dump.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"format_version": 2}', "[" * 100_000, '{"passes": NaN}', "\x00"]
)
def test_a_broken_dump_json_is_refused(dump, content):
    (dump / "dump.json").write_text(content)
    with pytest.raises(BadInput, match=r"dump\.json: dump: wanted dump format version 1 or 2, got") as refusal:
        read_dump(dump)
    assert len(str(refusal.value).splitlines()) == 1


@pytest.mark.parametrize("settings", [{"more": 1}, {"ids": [-1]}, {"ids": []}, {"cached": "0"}, {"pixels": "../x"}])
def test_fields_that_the_schema_does_not_know_or_allow_are_refused(dump, settings):
    change(dump, **settings)
    with pytest.raises(BadInput, match="wanted dump format version 1"):
        read_dump(dump)


def test_no_dump_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"dump: wanted a readable dump\.json, got No such file"):
        read_dump(tmp_path)


@pytest.mark.parametrize("file", ["../x.safetensors", "/x.safetensors", "a\\x.safetensors", "x.npz"])
def test_a_tensor_file_outside_the_folder_is_refused(dump, file):
    change(dump, tensors={"a": {"file": file, "layout": "", "shape": [2, 3], "dtype": "float64"}})
    with pytest.raises(BadInput, match="wanted dump format version 1"):
        read_dump(dump)


def test_tensors_that_are_not_what_the_dump_says_are_refused(dump):
    [one] = read_dump(dump)["passes"]
    path = dump / "pass0000.safetensors"
    tensors = load_file(path)
    save_file({"a": tensors["a"].T.copy(), "b": tensors["b"]}, path)
    with pytest.raises(BadInput, match=r"tensor a: wanted float64 \[2, 3\], got float64 \[3, 2\]"):
        load_pass(dump, one)
    save_file({"a": tensors["a"]}, path)
    with pytest.raises(BadInput, match=r"tensor b: wanted int64 \[2\], got missing"):
        load_pass(dump, one)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(BadInput, match="file of a: wanted a safetensors file"):
        load_pass(dump, one)
    path.unlink()
    with pytest.raises(BadInput, match="file of a: wanted a safetensors file"):
        load_pass(dump, one)


def test_every_registered_tap_has_axes_and_others_have_none():
    for name, row in LAYER_TAPS.items():
        assert axes_of(f"text.layer.3.{name}") == row.axes
    for name, row in TEXT_TAPS.items():
        assert axes_of(name) == row.axes
    assert axes_of("text.layer.3.attn") == axes_of("other") == ""
