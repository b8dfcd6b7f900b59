"""What must hold of the whole text model, on TINY: in float64 1e-12 separates rounding from mistakes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.strategies import layouts, seeds
from support.threads import TWO_THREADS, threads
from support.tiny import BOTH, TINY, assert_close, logits, params, random_ids

from ref.config import SIZES
from ref.errors import BadInput
from ref.model.inputs import check_ids
from ref.model.taps import Recorder
from ref.model.text import How, forward

OPS = pytest.mark.parametrize("ops", BOTH.values(), ids=BOTH)
FEW = settings(max_examples=10)


@OPS
@FEW
@given(seed=seeds, changed=st.integers(1, 18))
def test_later_tokens_do_not_change_earlier_logits(ops, seed, changed):
    ids = random_ids(seed, 1, 19)
    other = ids.copy()
    other[:, changed:] = (other[:, changed:] + 1) % TINY.vocabulary
    np.testing.assert_array_equal(logits(other, ops)[:, :changed], logits(ids, ops)[:, :changed])
    assert_close(logits(ids[:, :changed], ops), logits(ids, ops)[:, :changed])


@OPS
@FEW
@given(seed=seeds, pads=st.integers(1, 12), token=st.integers(0, TINY.vocabulary - 1))
def test_left_padding_and_what_a_pad_holds_do_not_matter(ops, seed, pads, token):
    ids = random_ids(seed, 1, 9)
    padded = np.concatenate([np.full((1, pads), token), ids], axis=1)
    result = logits(padded, ops, first=np.array([pads]))[:, pads:]
    assert_close(result, logits(ids, ops))
    padded[:, :pads] = random_ids(seed + 1, 1, pads)
    np.testing.assert_array_equal(logits(padded, ops, first=np.array([pads]))[:, pads:], result)


@OPS
@FEW
@given(seed=seeds)
def test_rows_do_not_see_each_other(ops, seed):
    ids, pads = random_ids(seed, 3, 11), np.array([0, 2, 5])
    result = logits(ids, ops, first=pads)
    order = np.array([2, 0, 1])
    assert_close(logits(ids[order], ops, first=pads[order])[0, 5:], result[2, 5:])
    for b in range(3):
        alone = logits(ids[b : b + 1], ops, first=pads[b : b + 1])
        assert_close(alone[:, pads[b] :], result[b : b + 1, pads[b] :])


@OPS
@FEW
@given(seed=seeds, layout=layouts(max_tokens=20, max_rows=2))
def test_packed_prompts_equal_separate_prompts(ops, seed, layout):
    first = layout.first
    ids = random_ids(seed, *first.shape)
    result = logits(ids, ops, first=first)
    for b, (lengths, pads) in enumerate(zip(layout.lengths, layout.left_pads, strict=True)):
        ends = pads + np.cumsum(lengths)
        for start, stop in zip(ends - lengths, ends, strict=True):
            assert_close(result[b : b + 1, start:stop], logits(ids[b : b + 1, start:stop], ops))


@TWO_THREADS
@pytest.mark.parametrize("tokens", [1, 8, 9, 19, 100])
def test_the_number_of_threads_changes_no_bit(tokens):
    ids = random_ids(5, 2, tokens)
    results = []
    for count in (1, 2):
        with threads(count):
            results.append(logits(ids, dtype=np.float32))
    np.testing.assert_array_equal(*results)


@OPS
def test_float32_is_close_to_float64_and_stays_float32(ops):
    ids = random_ids(6, 2, 19)
    result = logits(ids, ops, np.float32)
    assert result.dtype == np.float32
    assert_close(result, logits(ids, ops), 1e-5)


@OPS
def test_logits_of_the_last_token_or_none(ops):
    ids = random_ids(7, 2, 12)
    last, _ = forward(params(), ids, How(ops=ops, dtype=np.float64, logits="last"))
    assert_close(last, logits(ids, ops)[:, -1:])
    assert forward(params(), ids, How(ops=ops, logits="none")) == (None, None)


def test_the_head_is_the_embedding_without_its_scale():
    taps = Recorder("text.*")
    logits(random_ids(8, 1, 5), taps=taps)
    values = taps.values
    assert_close(values["text.logits"], values["text.final_norm"] @ params().embedding.astype(np.float64).T)
    wanted = params().embedding.astype(np.float64)[random_ids(8, 1, 5)] * TINY.width**0.5
    np.testing.assert_allclose(values["text.embed"], wanted, rtol=1e-15)


@pytest.mark.parametrize(
    ("ids", "says"),
    [
        ([[3, -1]], "0 <= id < 97, got -1"),
        ([[3, TINY.vocabulary]], "0 <= id < 97, got 97"),
        ([[]], "at least one"),
        (np.zeros((0, 3), int), "at least one"),
        ([[1.0, 2.0]], "integers"),
        ([[True, False]], "integers"),
        ([["a"]], "integers"),
        ([1, 2], r"shape \[B, T\], got int64 of shape \[2\]"),
        ([[[1, 2]]], "shape"),
        (np.zeros((1, TINY.max_positions + 1), np.int8), "at most the context, 131072, got 131073"),
    ],
)
def test_refused_ids(ids, says):
    with pytest.raises(BadInput, match=says):
        check_ids(ids, TINY)


def test_ids_may_be_any_integers():
    assert check_ids(np.array([[96]], np.uint8), TINY).dtype == np.int64
    assert check_ids([[0, 1], [2, 3]], TINY).shape == (2, 2)


@pytest.mark.parametrize(("size", "layers", "whole"), [("1b", 26, 4), ("4b", 34, 5), ("27b", 62, 10), ("12b", 48, 8)])
def test_every_sixth_layer_is_global_and_the_last_is_not_made_so(size, layers, whole):
    kinds = [SIZES[size].is_global(layer) for layer in range(SIZES[size].layers)]
    assert len(kinds) == layers
    assert [layer for layer, kind in enumerate(kinds) if kind] == [6 * i + 5 for i in range(whole)]
    assert kinds[-1] is (layers % 6 == 0)


def test_local_layers_have_their_own_window_base_and_no_factor():
    for size in SIZES.values():
        assert (size.window_of(0), size.rope(0)) == (size.window, (10_000.0, 1.0))
        assert (size.window_of(5), size.rope(5)) == (None, (1_000_000.0, size.rope_factor))
