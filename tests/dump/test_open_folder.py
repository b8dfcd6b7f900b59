"""Dumps of version 1 opened: what is in them, lazily."""

import json
import tracemalloc

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from support.dumps_on_disk import CONFIG, IDS, ROW, VALUE, Q, T, change, refused, row, written

from ref.cli import main
from ref.config import TINY_VISION
from ref.dump.open import open_dump
from ref.dump.read_arrays import Files
from ref.dump.write import load_pass, read_dump
from ref.errors import BadInput
from ref.golden_files.sampled import made_pixels


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


def test_nan_and_infinity_are_the_judges_to_find(tmp_path):
    strange = VALUE.copy()
    strange[0, 3, 2, 1], strange[0, 4] = np.nan, np.inf
    [one] = open_dump(written(tmp_path / "dump", (ROW, {Q: strange}))).passes
    np.testing.assert_array_equal(one.tensors[Q].load(), strange)


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
