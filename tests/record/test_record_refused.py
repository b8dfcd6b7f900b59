"""What `ref.record` refuses, each in one line that says what, wanted and got."""

import numpy as np
import pytest

from ref.record import Recorder

IDS = [2, 33, 5, 80]
ONE = np.zeros((4, 30), np.float32)


@pytest.fixture
def rec(tmp_path):
    recorder = Recorder(tmp_path / "dump", IDS)
    yield recorder
    recorder.abandon()
    assert list(tmp_path.glob("*.part")) == []


def refused(call) -> str:
    with pytest.raises(ValueError) as error:
        call()
    line = str(error.value)
    assert len(line.splitlines()) == 1
    assert line.isprintable()
    return line


VALUES = {
    "layout": [
        (ONE, "D T", "shape of x: wanted D T where T is 4, got [4, 30]"),
        (ONE[:3], "T D", "shape of x: wanted T D where T is 4, got [3, 30]"),
        (ONE[None], "T D", "shape of x: wanted T D where T is 4, got [1, 4, 30]"),
        (ONE[None].repeat(2, 0), "B T D", "shape of x: wanted B T D where T is 4, got [2, 4, 30]"),
        (ONE, "(T N) H T", "layout of x: wanted axes such as"),
        (ONE.reshape(5, 24), "(T N) H", "shape of x: wanted (T N) H where T is 4, got [5, 24]"),
        (ONE, "T 2", "shape of x: wanted T 2 where T is 4, got [4, 30]"),
        (ONE, "T D D", 'layout of x: wanted axes such as "T (N H)" or "B N T H", each once, got \'T D D\''),
        (ONE, "T  D", "layout of x: wanted"),
        (ONE, "T (D)", "layout of x: wanted"),
        (ONE, "T Q", "layout of x: wanted"),
        (ONE, "T\nD\x1b", "layout of x: wanted"),
        (ONE, None, "layout of x: wanted"),
    ],
    "array": [
        (np.array([object()]), "", "x: wanted floats, integers or booleans, got object"),
        (["a", "b"], "", "x: wanted floats, integers or booleans, got str"),
        (ONE.astype(complex), "T D", "x: wanted floats, integers or booleans, got complex64"),
        (ONE.astype(np.longdouble), "T D", "x: wanted floats, integers or booleans, got float"),
        ([[1.0], [1.0, 2.0]], "", "x: wanted an array in CPU memory, got "),
        (None, "", "x: wanted floats, integers or booleans, got object"),
        (ONE.astype(np.uint16), "T D", 'x: wanted dtype="bfloat16" if these are its bits, or "uint16", got None'),
    ],
}


@pytest.mark.parametrize(("value", "layout", "said"), [row for rows in VALUES.values() for row in rows])
def test_a_value(rec, value, layout, said):
    assert refused(lambda: rec("x", value, layout)).startswith(said.replace("complex64", "complex"))


class OnADevice:
    """An array of a device, as its library refuses to show it to NumPy."""

    def __array__(self, dtype=None, copy=None):
        raise TypeError("can't convert cuda:0 device type tensor to numpy.\nUse Tensor.cpu() first")


def test_an_array_of_a_device(rec):
    said = refused(lambda: rec("x", OnADevice(), "T D"))
    assert said.startswith(
        "x: wanted an array in CPU memory, got can't convert cuda:0 device type tensor to numpy. Use"
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "fp8"])
def test_another_dtype_than_the_array_has(rec, dtype):
    assert refused(lambda: rec("x", ONE.astype(int), "T D", dtype=dtype)) == f"x: wanted {dtype}, got int64"


def test_a_value_twice_in_one_pass_but_not_in_two(rec):
    rec("x", ONE, "T D")
    assert refused(lambda: rec("x", ONE, "T D")) == "value x: wanted one in a pass, got a second one"
    rec.next_pass([1])
    rec("x", ONE[:1], "T D")
    rec.close()


@pytest.mark.parametrize("name", ["", "a\nb", "\x1b[2J", "\ud800", "x" * 256, 3, "__metadata__"])
def test_a_name(rec, name):
    assert refused(lambda: rec(name, ONE, "T D")).startswith(
        "name of a tap: wanted 1 to 255 printable characters, got "
    )


PASSES = [
    ([], {}, "ids: wanted at least one token, got none"),
    ([1.5], {}, "ids: wanted integers, of one row, got float64 [1]"),
    ([[1, 2], [3, 4]], {}, "ids: wanted integers, of one row, got int64 [2, 2]"),
    ("abc", {}, "ids: wanted "),
    ([1, -2], {}, "ids: wanted integers from 0, got -2"),
    (IDS, {"positions": [0, 1, 2]}, "positions: wanted 4, as ids, -1 at 0 left pads and not everywhere, got [0, 1, 2]"),
    (IDS, {"positions": [0, 0, 1, 2], "left_pads": 1}, "positions: wanted 4, as ids, -1 at 1 left pads and not every"),
    (IDS, {"positions": [-1, -1, -1, -1]}, "positions: wanted 4, as ids, -1 at 0 left pads and not everywhere, got"),
    (IDS, {"row": -1}, "row: wanted integers from 0, got -1"),
    (IDS, {"row": [0, 1]}, "row: wanted an integer, got [0, 1]"),
    (IDS, {"left_pads": [1, 0]}, "left_pads: wanted an integer, got [1, 0]"),
    (IDS, {"slots": [0, 1, 2]}, "slots: wanted 4, as ids, each once, got [0, 1, 2]"),
    (IDS, {"slots": [0, 1, 2, 2]}, "slots: wanted 4, as ids, each once, got [0, 1, 2, 2]"),
    (IDS, {"slots": [0, 1, 2, 7], "cache_slots": 7}, "cache_slots: wanted more than 7, got 7"),
    (IDS, {"cache_slots": 0}, "cache_slots: wanted more than 0, got 0"),
    (IDS, {"adapter": {"name": "x"}}, "adapter: wanted its name, or name and merged, got {'name': 'x'}"),
    (IDS, {"adapter": 3}, "adapter: wanted its name, or name and merged, got 3"),
    (IDS, {"left_pads": 4}, "left_pads: wanted fewer than 4, got 4"),
    (IDS, {"left_pads": -1}, "left_pads: wanted integers from 0, got -1"),
    (IDS, {"left_pads": None}, "left_pads: wanted "),
    (IDS, {"image_blocks": [[2, 2]]}, "image_blocks: wanted start < stop <= 4, one behind the other, got"),
    (IDS, {"image_blocks": [[2, 3], [1, 2]]}, "image_blocks: wanted start < stop <= 4, one behind the other, got"),
    (IDS, {"image_blocks": [[1, 5]]}, "image_blocks: wanted start < stop <= 4, one behind the other, got [[1, 5]]"),
    (IDS, {"image_blocks": [1, 2]}, "image_blocks: wanted integers [images, 2], got int64 [2]"),
    (IDS, {"image_blocks": 3}, "image_blocks: wanted "),
    (IDS, {"pixels": ONE}, "pixels: wanted floats [images, C, Y, X], got float32 [4, 30]"),
    (IDS, {"pixels": np.zeros((1, 3, 8, 8), int)}, "pixels: wanted floats [images, C, Y, X], got int64"),
]


@pytest.mark.parametrize(("ids", "about", "said"), PASSES)
def test_a_pass(tmp_path, ids, about, said):
    assert refused(lambda: Recorder(tmp_path / "dump", ids, **about)).startswith(said)
    assert list(tmp_path.iterdir()) == []


def test_keys_that_no_pass_has_left(rec):
    said = refused(lambda: rec.next_pass([1], cached=3))
    assert said == "cached: wanted 0, or the 4 keys that the pass before leaves, got 3"


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"weights": {"dtype": "float32"}}, "weights: wanted some of name dtype sha256, got {'dtype': 'float32'}"),
        ({"weights": 3}, "weights: wanted "),
        ({"producer": {"name": "mine", "commit": "1"}}, "producer: wanted some of name version, got "),
        ({"policy": {"dtype": "float32"}}, "policy: wanted some of compute_dtype "),
        ({"policy": {"compute_dtype": np.float32}}, "policy.compute_dtype: wanted a text, got "),
        ({"names": "mine"}, "names: wanted ref transformers gemma llama.cpp keras mlx transformer_lens, got mine"),
        ({"config": [1]}, "config: wanted "),
        (
            {"config": {"width": np.int64(3)}},
            "weights, policy and config: wanted what JSON can hold, got Object of type ",
        ),
    ],
)
def test_what_the_format_has_no_place_for(tmp_path, about, said):
    assert refused(lambda: Recorder(tmp_path / "dump", IDS, **about)).startswith(said)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use(tmp_path):
    (tmp_path / "dump").mkdir()
    (tmp_path / "dump/something").touch()
    said = refused(lambda: Recorder(tmp_path / "dump", IDS))
    assert said.endswith("dump: wanted an empty or new folder, got something in the way")
    said = refused(lambda: Recorder(tmp_path / "dump/something/dump", IDS))
    assert "wanted a folder that can be made, got " in said


def test_a_dump_of_nothing(rec):
    assert refused(rec.close).endswith("dump: wanted values to write, got none")


def test_a_recorder_that_was_closed(rec):
    rec("x", ONE, "T D")
    rec.close()
    for call in (lambda: rec("y", ONE, "T D"), lambda: rec.next_pass([1]), rec.close):
        assert refused(call).endswith("dump: wanted a recorder that is open, got one that was closed")
