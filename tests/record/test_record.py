"""`ref.record`: what a dump says of its run, what it takes as an array, and that it never leaves half of a dump."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from support.multimodal import images
from support.tiny import TINY

import ref
import ref.record
from ref.dump.open import open_dump
from ref.golden_files.files import check_schema
from ref.ops.rounding import widen_bfloat16
from ref.record import Recorder

SOURCE = Path(ref.__file__).with_name("record.py")
IDS = [2, 33, 5, 80]
IN = "text.layer.0.in"
ONE = np.arange(144, dtype=np.float32).reshape(4, 36)


def said(folder):
    content = json.loads((folder / "dump.json").read_text())
    check_schema(content, "dump")
    return content


def stored(folder, name=IN):
    [one] = open_dump(folder, config=TINY).passes
    return one.tensors[name]


def test_a_dump_says_no_more_of_its_run_than_it_was_told(tmp_path):
    rec = Recorder(tmp_path / "dump", IDS)
    assert rec(IN, ONE, "T D") is ONE
    assert rec.close() == tmp_path / "dump"
    content = said(tmp_path / "dump")
    assert content["producer"] == {"name": "not said", "version": "not said"}
    assert content["model"] == {"config": {}, "weights": {"name": "not said", "dtype": "not said", "sha256": None}}
    assert content["policy"] == dict.fromkeys(["compute_dtype", "matmul_activations", "kv_dtype"], "float32") | (
        dict.fromkeys(["rope_angle", "attention_impl"], "not said")
    )


def test_what_is_told_stands_in_it(tmp_path):
    weights = {"name": "tiny", "dtype": "bfloat16", "sha256": {"embedding": "0" * 64}}
    policy = {"compute_dtype": "bfloat16", "attention_impl": "flash", "matmul_operands": "bfloat16"}
    about = {"weights": weights, "policy": policy, "producer": "mine", "names": "mlx", "config": {"width": 36}}
    with Recorder(tmp_path / "dump", IDS, **about) as rec:
        rec("layers.0.input", ONE)
    content = said(tmp_path / "dump")
    assert content["model"] == {"config": {"width": 36}, "weights": weights}
    assert policy.items() <= content["policy"].items()
    assert content["policy"]["kv_dtype"] == "float32"
    assert (content["producer"], content["names"]) == ({"name": "mine", "version": "not said"}, "mlx")


def test_passes_go_on_or_begin_anew(tmp_path):
    with Recorder(tmp_path / "dump", [0, 0, 5, 80], left_pads=2, weights="tiny") as rec:
        rec(IN, ONE, "T D")
        rec.next_pass(np.array([[7]]))
        rec(IN, ONE[:1], "T D")
        rec.next_pass([9, 8], cached=0, positions=(0, 3))
        rec(IN, ONE[:2], "T D")
        rec.next_pass([1])
        rec(IN, ONE[:1], "T D")
    rows = said(tmp_path / "dump")["passes"]
    assert [row["ids"] for row in rows] == [[0, 0, 5, 80], [7], [9, 8], [1]]
    assert [row["positions"] for row in rows] == [[-1, -1, 0, 1], [2], [0, 3], [2]]
    assert [row["cached"] for row in rows] == [0, 4, 0, 2]
    assert [row["left_pads"] for row in rows] == [2, 2, 0, 0]
    assert len(open_dump(tmp_path / "dump").passes) == 4


def test_images_come_with_their_blocks_and_pixels(tmp_path):
    seen = images(count=2)
    with Recorder(tmp_path / "dump", [2, 9, 9, 9], image_blocks=[[1, 3], (3, 4)], pixels=seen.pixels) as rec:
        rec(IN, ONE, "T D")
    [one] = open_dump(tmp_path / "dump").passes
    assert one.image_blocks == [[1, 3], [3, 4]]
    np.testing.assert_array_equal(one.pixels, seen.pixels)


def test_an_array_may_be_written_over_later(tmp_path):
    array = ONE.copy()
    with Recorder(tmp_path / "dump", IDS) as rec:
        rec(IN, array, "T D")
        array[:] = -1
    np.testing.assert_array_equal(stored(tmp_path / "dump").load()[0], ONE)


class OnlyDlpack:
    """An array of a library that shows no more than DLPack's two methods."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **how):
        return self.array.__dlpack__(**how)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


class OnlyArray:
    """An array of a library that shows no more than NumPy's method."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array


BITS = ONE.astype(ml_dtypes.bfloat16).view(np.uint16)


@pytest.mark.parametrize(
    ("given", "dtype"),
    [
        (ONE.tolist(), "float64"),
        (ONE[::-1][::-1], "float32"),
        (np.asfortranarray(ONE), "float32"),
        (np.repeat(ONE, 2, axis=1)[:, ::2], "float32"),
        (ONE.astype(">f4"), "float32"),
        (ONE.astype(np.float16), "float16"),
        (ONE.astype(ml_dtypes.bfloat16), "bfloat16"),
        (ONE.astype(ml_dtypes.bfloat16).T.copy().T, "bfloat16"),
        (OnlyDlpack(ONE), "float32"),
        (OnlyArray(ONE), "float32"),
    ],
)
def test_what_numpy_makes_an_array_of_is_taken(tmp_path, given, dtype):
    with Recorder(tmp_path / "dump", IDS) as rec:
        rec(IN, given, "T D")
    one = stored(tmp_path / "dump")
    assert one.dtype == dtype
    want = widen_bfloat16(BITS) if dtype == "bfloat16" else ONE
    np.testing.assert_array_equal(one.load()[0], want)


def test_bits_of_bfloat16_are_taken_where_they_are_called_so(tmp_path):
    with Recorder(tmp_path / "dump", IDS) as rec:
        rec(IN, BITS, "T D", dtype="bfloat16")
        rec("of their own", BITS, "T D", dtype="uint16")
    assert stored(tmp_path / "dump").dtype == "bfloat16"
    np.testing.assert_array_equal(stored(tmp_path / "dump").load()[0], widen_bfloat16(BITS))
    assert said(tmp_path / "dump")["passes"][0]["tensors"]["of their own"]["dtype"] == "uint16"


def test_values_that_are_no_numbers_are_values(tmp_path):
    broken = ONE.copy()
    broken[1, 2:4] = np.nan, np.inf
    with Recorder(tmp_path / "dump", IDS) as rec:
        rec(IN, broken, "T D")
    np.testing.assert_array_equal(stored(tmp_path / "dump").load()[0], broken)


@pytest.mark.witness
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_tensors_of_torch_are_taken(tmp_path, dtype):
    import torch

    tensor = torch.from_numpy(ONE.copy()).to(getattr(torch, dtype)).requires_grad_()
    rec = Recorder(tmp_path / "dump", torch.tensor(IDS))
    rec(IN, tensor.T, "D T")
    with pytest.raises(ValueError, match="on meta: wanted an array in CPU memory, got "):
        rec("on meta", tensor.to("meta"), "T D")
    rec.close()
    one = stored(tmp_path / "dump")
    assert one.dtype == dtype
    np.testing.assert_array_equal(one.load()[0], tensor.detach().float().numpy())


def test_an_error_inside_leaves_nothing(tmp_path):
    def fails():
        with Recorder(tmp_path / "dump", IDS) as rec:
            rec(IN, ONE, "T D")
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert list(tmp_path.iterdir()) == []


def test_until_it_is_closed_there_is_no_dump_of_that_name(tmp_path):
    rec = Recorder(tmp_path / "dump", IDS)
    rec(IN, ONE, "T D")
    assert not (tmp_path / "dump").exists()
    rec.close()
    assert [path.name for path in tmp_path.iterdir()] == ["dump"]


def test_a_dump_that_came_meanwhile_stays_and_of_this_nothing(tmp_path):
    rec = Recorder(tmp_path / "dump", IDS)
    rec(IN, ONE, "T D")
    (tmp_path / "dump").mkdir()
    (tmp_path / "dump/theirs").touch()
    with pytest.raises(ValueError, match="wanted an empty or new folder with room to write, got "):
        rec.close()
    assert [path.name for path in tmp_path.rglob("*")] == ["dump", "theirs"]


def test_a_refused_value_leaves_the_recorder_as_it_was(tmp_path):
    with Recorder(tmp_path / "dump", IDS) as rec:
        with pytest.raises(ValueError):
            rec(IN, ONE, "D T")
        rec(IN, ONE, "T D")
    np.testing.assert_array_equal(stored(tmp_path / "dump").load()[0], ONE)


def full(self, *value):
    raise OSError(28, "No space left on device")


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path, monkeypatch):
    rec = Recorder(tmp_path / "dump", IDS)
    monkeypatch.setattr(ref.record.TensorFile, "add", full)
    with pytest.raises(ValueError, match="room to write, got No space left on device"):
        rec(IN, ONE, "T D")
    assert list(tmp_path.iterdir()) == []


def test_so_is_one_that_is_full_from_the_start(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(ValueError, match="room to write, got No space left on device"):
        Recorder(tmp_path / "dump", IDS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_so_is_one_that_takes_what_it_has_no_room_for(tmp_path):
    rec = Recorder(tmp_path / "dump", IDS)
    rec._file.file.close()
    rec._file.file = Path("/dev/full").open("wb")  # noqa: SIM115 - what is written is refused when it is flushed
    rec(IN, ONE, "T D")
    with pytest.raises(ValueError, match="room to write, got No space left on device"):
        rec.close()
    assert list(tmp_path.iterdir()) == []


def test_it_imports_numpy_and_the_standard_library_alone():
    tree = ast.parse(SOURCE.read_text())
    named = [name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names]
    named += [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert {name.partition(".")[0] for name in named} - set(sys.stdlib_module_names) == {"numpy"}
    assert "SPDX-License-Identifier: Apache-2.0" in ast.get_docstring(tree)


ALONE = """
import sys
sys.path[:0] = {paths}
sys.modules["ml_dtypes"] = None
import numpy as np
from my_writer import Recorder
with Recorder("dump", [2, 33, 5, 80], weights="tiny") as rec:
    rec("text.layer.0.in", np.arange(144, dtype=np.uint16).reshape(4, 36), "T D", dtype="bfloat16")
assert not [name for name in sys.modules if name.partition(".")[0] == "ref"]
"""


def test_a_copy_under_another_name_works_without_the_rest(tmp_path):
    (tmp_path / "my_writer.py").write_text(SOURCE.read_text())
    paths = [str(tmp_path), str(Path(np.__file__).parents[1])]
    # -I -S: no PYTHONPATH, no links of an editable install
    command = [sys.executable, "-I", "-S", "-c", ALONE.format(paths=paths)]
    subprocess.run(command, check=True, cwd=tmp_path)
    assert stored(tmp_path / "dump").dtype == "bfloat16"
