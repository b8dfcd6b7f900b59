"""Dumps of every kind opened: what is in them, lazily, and what is wrong with them, in one line."""

import json
import tracemalloc
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from support.dumps_on_disk import CONFIG, IDS, ROW, VALUE, Q, T, change, refused, row, written
from support.luck import WITH_FIXTURES
from support.refusing import damage, read_or_refused
from support.tiny import TINY

from ref.cli import main
from ref.config import TINY_VISION
from ref.dump.open import arrays_as_dump, open_dump
from ref.dump.read_arrays import Files
from ref.dump.write import load_pass, read_dump
from ref.errors import BadInput
from ref.golden_files.sampled import made_pixels


@pytest.fixture
def dump(tmp_path):
    return written(tmp_path / "dump", (ROW, {Q: VALUE}))


# version-1 folders


@pytest.mark.parametrize("flags", [[], ["--max-new-tokens", "4"]])
def test_a_traced_dump_is_opened_whole(tmp_path, capsys, flags):
    folder = tmp_path / "dump"
    assert main(["trace", "--weights", "tiny", "--ids", ",".join(map(str, IDS)), "-o", str(folder), *flags]) == 0
    opened, content = open_dump(folder), read_dump(folder)
    assert (opened.config, opened.unaligned, opened.partial) == (content["model"]["config"], [], {})
    assert (opened.weights["name"], opened.policy["compute_dtype"]) == ("tiny", "float32")
    assert len(opened.passes) == len(content["passes"])
    for one, entry in zip(opened.passes, content["passes"], strict=True):
        assert (one.ids.tolist(), one.positions.tolist(), one.cached) == (
            entry["ids"],
            entry["positions"],
            entry["cached"],
        )
        values = load_pass(folder, entry)
        assert list(one.tensors) == list(values)
        for tap, stored in one.tensors.items():
            np.testing.assert_array_equal(stored.load(), values[tap])
            assert (stored.foreign, stored.dtype, stored.shape) == (tap, str(values[tap].dtype), values[tap].shape)


def test_half_precision_is_widened_and_every_other_dtype_kept(tmp_path):
    seen = np.tril(np.ones((1, T, T), bool))
    tensors = {
        "text.layer.0.attn.q": VALUE.astype(ml_dtypes.bfloat16),
        "text.layer.1.attn.q": VALUE.astype(np.float16),
        "text.layer.2.attn.q": VALUE.astype(np.float64),
        "text.layer.0.cache.positions": np.arange(T, dtype=np.int32)[None],
        "text.layer.0.attn.visible": seen,
    }
    [one] = open_dump(written(tmp_path / "dump", (ROW, tensors))).passes
    kinds = {tap: (stored.dtype, stored.load().dtype.name) for tap, stored in one.tensors.items()}
    assert list(kinds.values()) == [
        ("bfloat16", "float32"),
        ("float16", "float32"),
        ("float64", "float64"),
        ("int64", "int64"),
        ("bool", "bool"),
    ]
    for tap, value in tensors.items():
        np.testing.assert_array_equal(one.tensors[tap].load(), value.astype(kinds[tap][1]))


def test_foreign_names_and_layouts_are_aligned_and_the_layout_wins(tmp_path):
    tensors = {
        "model.layers.3.self_attn.q_proj": VALUE.reshape(1, T, 120),
        "model.layers.4.self_attn.q_proj": VALUE[0].transpose(2, 1, 0),
        "model.layers.3.self_attn.rotary": VALUE,
    }
    layouts = {"model.layers.4.self_attn.q_proj": "H N T"}
    folder = written(tmp_path / "dump", (ROW, tensors), names="transformers", layouts=layouts)
    opened = open_dump(folder)
    assert list(opened.passes[0].tensors) == [Q, "text.layer.4.attn.q"]
    for stored in opened.passes[0].tensors.values():
        np.testing.assert_array_equal(stored.load(), VALUE)
    assert [one["name"] for one in opened.unaligned] == ["model.layers.3.self_attn.rotary"]


def test_what_is_unaligned_in_every_pass_is_listed_once(tmp_path):
    passes = [(row(3, 0), {"x": VALUE}), (row(1, 3), {"x": VALUE}), (row(1, 4), {"x": VALUE, "y": VALUE})]
    names = [one["name"] for one in open_dump(written(tmp_path / "dump", *passes)).unaligned]
    assert names == ["x", "y"]


def test_nothing_is_read_before_it_is_asked_for(tmp_path):
    wide = CONFIG | {"vocabulary": 2**21}
    folder = written(tmp_path / "dump", (ROW, {"text.logits": np.ones((1, T, 2**21), np.float32)}), config=wide)
    tracemalloc.start()
    stored = open_dump(folder).passes[0].tensors["text.logits"]
    value = stored.load()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert value.nbytes == 4 * T * 2**21
    assert peak < 2**20
    assert not value.flags.writeable


def test_few_files_are_open_at_one_time_and_a_changed_one_is_noticed(tmp_path):
    for i in range(5):
        save_file({"a": np.full(3, i, np.float32)}, tmp_path / f"{i}.safetensors")
    files = Files(most=2)
    raw = [files.raw(tmp_path / f"{i}.safetensors", "a") for i in range(5)]
    assert len(files._open) == 2
    values = [one.read() for one in raw]
    assert [value[0] for value in values] == [0, 1, 2, 3, 4]
    save_file({"a": np.ones(4, np.float32)}, tmp_path / "0.safetensors")
    with pytest.raises(BadInput, match=r"wanted F32 \[3\], got a file that has changed"):
        raw[0].read()


def test_pixels_and_image_blocks_come_along(tmp_path):
    pixels, ids = made_pixels(1, 40), [2, 97, 97, 97, 97, 5, 6]
    config = CONFIG | {"vision": TINY_VISION._asdict()}
    one = ROW | {"ids": ids, "image_blocks": [[1, 5]]}
    tensors = {"vision.embed": np.ones((1, 64, 26), np.float32), "vision.soft_tokens": np.ones((1, 4, 36), np.float32)}
    folder = written(tmp_path / "dump", (one, tensors), config=config, pixels=pixels)
    [found] = open_dump(folder).passes
    np.testing.assert_array_equal(found.pixels, pixels)
    assert (found.image_blocks, list(found.tensors)) == ([[1, 5]], list(tensors))
    change(folder, image_blocks=[[1, 4]], ids=[2, 97, 97, 97, 5, 6, 7])
    assert "wanted images for 3 soft tokens, 4 each, got 1 images" in refused(folder)
    change(folder, image_blocks=[[1, 5]], ids=ids)
    save_file({"pixels": pixels[:, :, :39].copy()}, folder / "pixels0000.safetensors")
    assert "pixels: wanted floats [images, 3, 40, 40], got float32 [1, 3, 39, 40]" in refused(folder)
    save_file({"pixels": pixels.astype(np.int32)}, folder / "pixels0000.safetensors")
    assert "got int64 [1, 3, 40, 40]" in refused(folder)
    save_file({"other": pixels}, folder / "pixels0000.safetensors")
    assert "tensor 'pixels': wanted a tensor of this file" in refused(folder)


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
    line = refused(written(tmp_path / "pads again", *((one, {}) for one in padded)))
    assert "positions of pass 1: wanted none below 0, since it is cached, got -1 at [0]" in line


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


def test_nan_and_infinity_are_the_judges_to_find(tmp_path):
    strange = VALUE.copy()
    strange[0, 3, 2, 1], strange[0, 4] = np.nan, np.inf
    [one] = open_dump(written(tmp_path / "dump", (ROW, {Q: strange}))).passes
    np.testing.assert_array_equal(one.tensors[Q].load(), strange)


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


# bare files and arrays


def test_a_bare_safetensors_file_is_one_pass(tmp_path):
    path = tmp_path / "bare.safetensors"
    save_file({Q: VALUE, "text.logits": np.ones((1, T, 97), np.float16)}, path)
    opened = open_dump(path, IDS, config=TINY)
    [one] = opened.passes
    assert (one.ids.tolist(), one.positions.tolist(), one.cached, one.left_pads) == (IDS, list(range(T)), 0, 0)
    np.testing.assert_array_equal(one.tensors[Q].load(), VALUE)
    assert (opened.config, opened.weights["dtype"], opened.producer["name"]) == ({}, "not said", "not said")
    assert opened.policy["rope_angle"] == "not said"
    assert open_dump(path, IDS, "gemma").producer["name"] == "gemma"


def test_a_bare_file_may_hold_its_ids_mask_positions_and_pixels(tmp_path):
    path = tmp_path / "bare.npz"
    rows = np.array([IDS, IDS])
    mask, batch = np.ones((2, T), int), np.concatenate([VALUE, VALUE + 1])
    mask[1, :3] = 0
    np.savez(path, **{Q: batch, "input_ids": rows, "attention_mask": mask, "position_ids": np.arange(T)})
    opened = open_dump(path)
    assert [one.left_pads for one in opened.passes] == [0, 3]
    assert opened.passes[1].positions.tolist() == [-1, -1, -1, 3, 4, 5, 6]
    np.testing.assert_array_equal(opened.passes[1].tensors[Q].load(), VALUE + 1)
    assert open_dump(path, rows).passes[1].ids.tolist() == IDS
    assert "row 1: token id at 0: wanted 6, as in the prompt, got 5" in refused(path, [IDS, [6, *IDS[1:]]])
    assert "wanted 2 rows, as input_ids, got 1" in refused(path, IDS)
    mask[1] = [0, 1, 0, 1, 1, 1, 1]
    np.savez(path, **{Q: batch, "input_ids": rows, "attention_mask": mask})
    assert "attention_mask: wanted pads at the left of tokens and nowhere else" in refused(path)
    np.savez(path, **{Q: batch, "input_ids": rows, "attention_mask": np.zeros((2, T), bool)})
    assert "attention_mask: wanted pads at the left" in refused(path)
    np.savez(path, **{Q: batch, "input_ids": rows, "positions": np.arange(4)})
    assert "tensor positions: wanted integers [2, 7], got [1, 4]" in refused(path)
    np.savez(path, **{Q: batch, "input_ids": rows.astype(float)})
    assert "tensor input_ids: wanted integers [T] or [B, T], got float64 [2, 7]" in refused(path)


@pytest.mark.parametrize(
    ("ids", "line"),
    [
        (None, "token ids: wanted ids (--ids), or a tensor input_ids in the file, got neither"),
        ([], "token ids: wanted at least one, got none"),
        ([[5, 6], [7]], "rows of equal length"),
        ([5, 6, -1, 33, 96, 0, 2], "token id: wanted 0 or more, got -1"),
        ([0.5] * T, "a list of integers, or rows of them, got float64"),
        ([True] * T, "a list of integers, or rows of them, got bool"),
        (7, "token ids: wanted a list of integers, or rows of them, got int"),
        (["a"] * T, "a list of integers, or rows of them, got <U1"),
        (IDS[:-1], "shape of tensor text.layer.3.attn.q: wanted B T N H = [1, 6, 12, 10], got [1, 7, 12, 10]"),
        ([[IDS]], "a list of integers, or rows of them, got int64 of shape [1, 7]"),
        ([1, [2]], "a list of integers, or rows of them"),
        ([[1, [2]], [3]], "a list of integers, or rows of them"),
        ({"input_ids": IDS}, "a list of integers, or rows of them, got dict"),
        ("1,2,3", "a list of integers, or rows of them, got str"),
        ([2**70] * T, "a list of integers, or rows of them, got object"),
        (np.array([2**64 - 1], np.uint64), "token id: wanted less than 2^63, got 18446744073709551615"),
    ],
)
def test_ids_that_are_none_or_others_are_refused(ids, line):
    with pytest.raises(BadInput) as error:
        arrays_as_dump({Q: VALUE}, ids, config=TINY)
    assert line in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_names_of_no_table_and_names_that_none_has_are_refused(tmp_path):
    with pytest.raises(BadInput, match=r"names: wanted one of ref, transformers, gemma, llama\.cpp, keras, mlx, "):
        arrays_as_dump({Q: VALUE}, IDS, "pytorch")
    with pytest.raises(BadInput, match=r"names of the table ref, got layers\.3\.x: no such name in the table ref"):
        arrays_as_dump({"layers.3.x": VALUE}, IDS)


@pytest.mark.parametrize(
    "value",
    [np.array([[{}]]), np.ones((1, T, 12, 10), complex), np.array(["a"]), np.zeros(3, "V4"), np.zeros(2, "M8[s]"),
     [[1], [2, 3]]],
)  # fmt: skip
def test_arrays_of_anything_but_numbers_are_refused(value):
    with pytest.raises(BadInput, match="array 'x'"):
        arrays_as_dump({"x": value}, IDS)


def test_arrays_are_not_copied_and_foreign_byte_order_is_turned():
    [one] = arrays_as_dump({Q: VALUE, "text.layer.4.attn.q": VALUE.astype(">f4")}, IDS).passes
    assert np.shares_memory(one.tensors[Q].load(), VALUE)
    other = one.tensors["text.layer.4.attn.q"].load()
    assert other.dtype.isnative
    np.testing.assert_array_equal(other, VALUE)
    [one] = arrays_as_dump({Q: VALUE.astype(ml_dtypes.bfloat16)}, IDS).passes
    assert (one.tensors[Q].dtype, one.tensors[Q].load().dtype) == ("bfloat16", np.float32)


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


def test_llama_cpps_text_is_a_pass_of_partial_values(tmp_path):
    path = Path(__file__).parents[1] / "support/llama_eval_callback.txt"
    opened = open_dump(path)
    [one] = opened.passes
    assert (one.ids.tolist(), one.tensors) == ([2, 7, 96, 0, 45, 45, 31, 8, 60], {})
    assert opened.partial[0]["text.layer.0.attn.q"].shape == (1, 9, 4, 24)
    assert open_dump(path, one.ids, "llama.cpp").producer["name"] == "llama.cpp"
    assert "token id at 0: wanted 3, as in the prompt, got 2" in refused(path, [3, *one.ids[1:]])
    assert "names: wanted llama.cpp, whose file it is, got mlx" in refused(path, None, "mlx")
    text = path.read_text()
    alone = tmp_path / "nodes.log"
    alone.write_text(text[text.index("common_debug_cb_eval") :])
    assert "token ids: wanted ids (--ids), or llama-eval-callback's stderr" in refused(alone)
    assert open_dump(alone, one.ids.tolist()).passes[0].ids.tolist() == one.ids.tolist()
    assert "token ids: wanted one row, got 2 rows" in refused(alone, [one.ids.tolist()] * 2)


def test_a_saved_bare_file_reads_back_what_load_file_reads(dump, tmp_path):
    [one] = open_dump(dump / "pass0000.safetensors", IDS).passes
    np.testing.assert_array_equal(one.tensors[Q].load(), load_file(dump / "pass0000.safetensors")[Q])


def test_a_pass_in_two_files_keeps_its_order_and_takes_a_tap_once(dump):
    save_file({"text.embed": np.ones((1, T, 36), np.float32)}, dump / "pass0000-01.safetensors")
    other = {"file": "pass0000-01.safetensors", "layout": "", "shape": [1, T, 36], "dtype": "float32"}
    first = json.loads((dump / "dump.json").read_text())["passes"][0]["tensors"]
    change(dump, tensors=first | {"text.embed": other})
    assert list(open_dump(dump).passes[0].tensors) == [Q, "text.embed"]
    save_file({"model.layers.3.self_attn.q_proj": VALUE.reshape(1, T, 120)}, dump / "pass0000-01.safetensors")
    content = json.loads((dump / "dump.json").read_text()) | {"names": "transformers"}
    twice = first | {"model.layers.3.self_attn.q_proj": other | {"shape": [1, T, 120]}}
    content["passes"][0]["tensors"] = twice
    (dump / "dump.json").write_text(json.dumps(content))
    opened = open_dump(dump)
    assert list(opened.passes[0].tensors) == [Q]
    assert opened.unaligned == [{"name": "model.layers.3.self_attn.q_proj", "why": f"the same tap as {Q}: {Q}"}]
