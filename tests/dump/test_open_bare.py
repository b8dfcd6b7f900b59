"""Bare files, arrays and llama.cpp's text opened as one pass, and what of them is refused."""

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file
from support.dumps_on_disk import IDS, VALUE, Q, T, refused
from support.tiny import TINY

from ref.dump.open import arrays_as_dump, open_dump
from ref.errors import BadInput


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
