"""Passes on their way to the disk: written as they are given, several at a time, in as many files as they need."""

import numpy as np
import pytest
from safetensors import safe_open

from ref.dump.write import DumpWriter, load_pass, read_dump
from ref.errors import BadInput
from ref.record import HEADER

MODEL = {"config": {}, "weights": {"name": "x", "dtype": "float32", "sha256": None}}
POLICY = dict.fromkeys(["compute_dtype", "matmul_activations", "kv_dtype", "rope_angle", "attention_impl"], "float32")
ROW = {"ids": [1], "positions": [0], "cached": 0, "image_blocks": [], "left_pads": 0}


@pytest.fixture
def writer(tmp_path):
    return DumpWriter(tmp_path / "dump", MODEL, POLICY)


def passes(writer):
    folder = writer.close()
    return [load_pass(folder, one) for one in read_dump(folder)["passes"]]


def test_a_tensor_is_on_the_disk_when_it_was_added_and_not_held(writer):
    value = np.ones(2**16, np.float32)
    writer.add_tensor("a", value)
    [file] = writer.new.iterdir()
    assert file.stat().st_size == 8 + HEADER + value.nbytes
    value[:] = 2  # its owner writes over it
    writer.end_pass(ROW)
    [values] = passes(writer)
    np.testing.assert_array_equal(values["a"], np.ones(2**16))


def test_the_second_tensor_of_a_name_counts(writer):
    for value in (np.ones(2), np.zeros((3, 3)), np.full(2, 7.0)):
        writer.add_tensor("a", value)
        writer.add_tensor("b", value + 1)
    writer.end_pass(ROW)
    [values] = passes(writer)
    assert values["a"].tolist() == [7, 7]
    assert values["b"].tolist() == [8, 8]


def test_rows_are_written_beside_each_other_and_listed_as_told(writer):
    first, second = writer.begin_pass(), writer.begin_pass()
    for name in "ab":
        second.add_tensor(name, np.full(3, 2.0))
        first.add_tensor(name, np.full(3, 1.0))
    for one in (second, first):
        writer.list_pass(one.end(ROW, np.zeros((1, 3, 2, 2), np.float32)))
    folder = writer.close()
    listed = read_dump(folder)["passes"]
    assert [load_pass(folder, one)["b"].tolist() for one in listed] == [[2, 2, 2], [1, 1, 1]]
    assert len({one["pixels"] for one in listed}) == 2


def test_more_tensors_than_a_header_has_room_for(writer):
    names = [f"{number:04}{'x' * 200}" for number in range(300)]
    for number, name in enumerate(names):
        writer.add_tensor(name, np.array([number]), plus=np.array([0.5]))
    writer.end_pass(ROW)
    folder = writer.close()
    [one] = read_dump(folder)["passes"]
    assert len({row["file"] for row in one["tensors"].values()}) > 1
    assert [load_pass(folder, one)[name].tolist() for name in names] == [[number] for number in range(300)]
    for row in one["tensors"].values():
        with safe_open(folder / row["file"], "np") as file:
            assert row["plus"] in file.keys()  # noqa: SIM118 - it is no dictionary


@pytest.mark.parametrize("value", [np.ones(2, complex), np.array(["a"]), np.array([None])])
def test_what_the_format_has_no_word_for_is_refused(writer, value):
    with pytest.raises(BadInput, match="tensor a: wanted one of float64 float32"), writer:
        writer.add_tensor("a", value)
    assert not list(writer.folder.parent.iterdir())


def test_big_endian_values_are_the_same_numbers(writer):
    writer.add_tensor("a", np.arange(3, dtype=">f4"))
    writer.end_pass(ROW)
    [values] = passes(writer)
    assert values["a"].tolist() == [0, 1, 2]


def test_a_full_disk_is_named_and_leaves_nothing(writer, monkeypatch):
    def full(self, *tensors):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ref.record.TensorFile.add", full)
    with pytest.raises(BadInput, match="tensors: wanted room to write them, got No space left on device"), writer:
        writer.add_tensor("a", np.ones(2))
    assert not list(writer.folder.parent.iterdir())
