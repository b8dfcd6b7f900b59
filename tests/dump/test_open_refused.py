"""What is wrong with a dump of version 1, or is no dump, is refused in one line."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file
from support.dumps_on_disk import IDS, ROW, VALUE, Q, T, change, refused, row, written
from support.luck import WITH_FIXTURES
from support.refusing import damage, read_or_refused

from ref.dump.open import open_dump


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"positions": [0]}, "positions of pass 0: wanted 7, as ids, got 1"),
        ({"cached": 3}, "cached of pass 0: wanted 0, or the 0 keys that the pass before leaves, got 3"),
        ({"left_pads": 7}, "left_pads of pass 0: wanted fewer than 7, got 7"),
        ({"left_pads": 2}, "positions of pass 0: wanted -1 at its 2 left pads and nowhere else, got -1 at []"),
        ({"positions": [0, 1, -1, 2, 3, 4, 5]}, "wanted -1 at its 0 left pads and nowhere else, got -1 at [2]"),
        ({"image_blocks": [[3, 3]]}, "image_blocks of pass 0: wanted start < stop <= 7"),
        ({"image_blocks": [[3, 9]]}, "image_blocks of pass 0: wanted start < stop <= 7"),
        ({"image_blocks": [[3, 6], [5, 7]]}, "one behind the other"),
        ({"ids": [1, 2, 3, 97, 5, 6, 7]}, "pass 0: token id at 3: wanted 0 <= id < 97, got 97"),
        ({"more": 1}, "wanted dump format version 1"),
        ({"ids": []}, "wanted dump format version 1"),
        ({"ids": [1.5] * T}, "wanted dump format version 1"),
    ],
)
def test_a_pass_that_contradicts_itself_is_refused(dump, fields, line):
    change(dump, **fields)
    assert line in refused(dump)


@pytest.mark.parametrize("key", ["format_version", "producer", "model", "policy", "names", "passes"])
def test_a_missing_key_another_version_and_another_table_are_refused(dump, key):
    content = json.loads((dump / "dump.json").read_text())
    for edited in ({k: v for k, v in content.items() if k != key}, content | {key: "2"}):
        (dump / "dump.json").write_text(json.dumps(edited))
        assert "dump.json: dump: wanted dump format version 1" in refused(dump)


def test_a_cached_pass_must_continue_the_one_before_it(tmp_path):
    good = [row(3, 0), row(2, 3), row(1, 5), row(4, 0), row(1, 4)]
    assert [one.cached for one in open_dump(written(tmp_path / "good", *((one, {}) for one in good))).passes] == [
        0,
        3,
        5,
        0,
        4,
    ]
    bad = [row(3, 0), row(2, 3), row(1, 4)]
    line = refused(written(tmp_path / "bad", *((one, {}) for one in bad)))
    assert "cached of pass 2: wanted 0, or the 5 keys that the pass before leaves, got 4" in line
    padded = [row(4, 0, positions=[-1, -1, 0, 1], left_pads=2), row(1, 4, positions=[2], left_pads=2)]
    assert open_dump(written(tmp_path / "pads", *((one, {}) for one in padded))).passes[1].left_pads == 2
    padded[1]["positions"] = [-1]
    again = written(tmp_path / "pads again", *((one, {}) for one in padded))
    assert "positions of pass 1: wanted a token that is no padding" in refused(again)
    content = json.loads((again / "dump.json").read_text()) | {"format_version": 1}
    (again / "dump.json").write_text(json.dumps(content))
    assert "positions of pass 1: wanted none below 0, since it is cached, got -1 at [0]" in refused(again)


def test_files_and_tensors_that_are_not_as_said_are_refused(dump, tmp_path):
    file = dump / "pass0000.safetensors"
    whole = file.read_bytes()
    for tensors, line in {
        ("a",): f"tensor '{Q}': wanted a tensor of this file, got no such name",
        (Q,): f"tensor '{Q}': wanted float32 [1, 7, 12, 10], as dump.json says, got float64 [1, 7, 12, 10]",
    }.items():
        save_file({name: VALUE.astype(np.float64) for name in tensors}, file)
        assert line in refused(dump)
    file.write_bytes(whole[:-3])
    assert "data: wanted 3360 bytes, as the header says, got 3357 bytes" in refused(dump)
    file.write_bytes(b"")
    assert "file: wanted content, got 0 bytes" in refused(dump)
    file.unlink()
    assert "pass0000.safetensors: file: wanted a readable file, got No such file or directory" in refused(dump)
    (tmp_path / "outside.safetensors").write_bytes(whole)
    file.symlink_to(tmp_path / "outside.safetensors")
    assert "wanted a file in this folder, got 'pass0000.safetensors', which leads out of it" in refused(dump)
    file.unlink()
    (dump / "inside.safetensors").write_bytes(whole)
    file.symlink_to(dump / "inside.safetensors")
    np.testing.assert_array_equal(open_dump(dump).passes[0].tensors[Q].load(), VALUE)


def test_a_shape_that_does_not_fit_names_the_layout_that_does(tmp_path):
    tensors = {Q: np.ascontiguousarray(VALUE.swapaxes(1, 2))}
    line = refused(written(tmp_path / "dump", (ROW, tensors)))
    assert f"shape of tensor {Q}: wanted B T N H = [1, 7, 12, 10], got [1, 12, 7, 10]; fits as B N T H: say so" in line
    good = written(tmp_path / "good", (ROW, tensors), layouts={Q: "B N T H"})
    np.testing.assert_array_equal(open_dump(good).passes[0].tensors[Q].load(), VALUE)


def test_a_dumps_ids_must_be_those_given(dump):
    assert open_dump(dump, IDS).passes[0].ids.tolist() == IDS
    assert "token id at 2: wanted 8, as in the prompt, got 7" in refused(dump, [5, 6, 8, 33, 96, 0, 2])


@settings(suppress_health_check=WITH_FIXTURES, max_examples=150)
@given(data=st.data())
def test_a_damaged_dump_json_is_read_or_refused(dump, data):
    path = dump / "dump.json"
    sound = path.read_bytes()
    try:
        path.write_bytes(damage(data, sound, len(sound) - 1))
        with read_or_refused():
            open_dump(dump)
    finally:
        path.write_bytes(sound)


# what is no dump


@pytest.mark.parametrize("suffix", [".pkl", ".pt", ".pth", ".bin", ".ckpt", ".pickle", ".PT"])
def test_pickles_are_refused_whatever_is_in_them(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    path.write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    assert "a pickle, which runs code when it is loaded" in refused(path, IDS)


@pytest.mark.parametrize("name", ["x.npy", "x.gguf", "x", "x.h5"])
def test_other_files_and_nothing_are_refused(tmp_path, name):
    assert "wanted a folder with dump.json, .npz, .safetensors" in refused(tmp_path / name, IDS)
    (tmp_path / name).write_bytes(b"1")
    assert "wanted a folder with dump.json, .npz, .safetensors" in refused(tmp_path / name, IDS)


@pytest.mark.parametrize("name", ["x.npz", "x.safetensors", "x.json", "x.txt"])
@pytest.mark.parametrize("content", [None, b"", b"\x00", b"PK\x03\x04", b"{}", b"[]", b"\xff" * 100])
def test_files_that_are_not_what_their_name_says_are_refused(tmp_path, name, content):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert name in refused(tmp_path / name, IDS)


def test_an_empty_folder_is_no_dump(tmp_path):
    assert "dump: wanted a readable dump.json" in refused(tmp_path)
