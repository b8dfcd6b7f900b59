"""Which keys a query sees: the interval rule against a brute-force oracle, and its laws."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support import naive
from support.strategies import Layout, layouts, windows

from ref.ops.visibility import as_matrix, prompt_starts, visible_keys, visible_ranges


def matrix(layout, window):
    first = layout.first
    return as_matrix(visible_ranges(first, 0, window), first.shape[1])


def oracle(layout, window):
    return np.array([naive.visibility(prompts, window) for prompts in layout.prompts])


@given(layout=layouts(), window=windows)
@example(layout=Layout(((3, 4),), (0,)), window=5)  # a window that reaches over the border of two prompts
@example(layout=Layout(((1,),), (6,)), window=2)
def test_interval_equals_brute_force(layout, window):
    np.testing.assert_array_equal(matrix(layout, window), oracle(layout, window))


@given(layout=layouts(), window=windows)
def test_what_brute_force_lets_a_query_see_is_contiguous(layout, window):
    edges = np.abs(np.diff(np.pad(oracle(layout, window).astype(int), ((0, 0), (0, 0), (1, 1))), axis=-1))
    assert (edges.sum(axis=-1) <= 2).all()


@given(layout=layouts(), window=windows)
def test_every_real_query_sees_itself_and_nothing_later_and_no_query_sees_padding(layout, window):
    seen = matrix(layout, window)
    pads = np.array([[prompt is None for prompt in row] for row in layout.prompts])
    np.testing.assert_array_equal(np.diagonal(seen, axis1=1, axis2=2), ~pads)
    assert not np.triu(seen, 1).any()
    assert not seen.transpose(0, 2, 1)[pads].any()
    assert not seen[pads].any()


@given(layout=layouts(), window=st.integers(1, 30), wider=st.integers(0, 10))
def test_growing_the_window_only_adds_and_local_is_within_global(layout, window, wider):
    local = matrix(layout, window)
    assert (matrix(layout, window + wider) >= local).all()
    assert (matrix(layout, None) >= local).all()


@given(layout=layouts(), extra=st.integers(0, 5))
def test_a_window_as_long_as_the_row_is_global(layout, extra):
    tokens = layout.first.shape[1]
    np.testing.assert_array_equal(matrix(layout, tokens + extra), matrix(layout, None))


@given(layout=layouts(), window=windows)
def test_a_query_sees_as_many_keys_as_its_prompt_has_or_the_window_holds(layout, window):
    _, positions = prompt_starts(layout.lengths, layout.left_pads)
    pads = np.array([[prompt is None for prompt in row] for row in layout.prompts])
    count = np.minimum(positions + 1, window if window else positions + 1)
    np.testing.assert_array_equal(matrix(layout, window).sum(axis=-1), np.where(pads, 0, count))


@given(layout=layouts(), window=windows, shift=st.integers(0, 10))
def test_more_left_padding_moves_the_picture(layout, window, shift):
    moved = Layout(layout.lengths, tuple(pads + shift for pads in layout.left_pads))
    np.testing.assert_array_equal(matrix(moved, window)[:, shift:, shift:], matrix(layout, window))


@given(layout=layouts(), window=windows, data=st.data())
def test_a_cached_pass_sees_what_the_full_pass_saw(layout, window, data):
    first = layout.first
    start = data.draw(st.integers(0, first.shape[1] - 1))
    stop = data.draw(st.integers(start + 1, first.shape[1]))  # stop == start + 1: a decode step
    full = visible_ranges(first, 0, window)
    np.testing.assert_array_equal(visible_ranges(first[:, start:stop], start, window), full[:, start:stop])


@given(layout=layouts(), window=windows)
def test_a_packed_prompt_sees_what_it_sees_alone(layout, window):
    seen = matrix(layout, window)
    for b, (lengths, pads) in enumerate(zip(layout.lengths, layout.left_pads, strict=True)):
        for start, stop in zip(np.cumsum([pads, *lengths[:-1]]), pads + np.cumsum(lengths), strict=True):
            alone = matrix(Layout(((int(stop - start),),), (0,)), window)[0]
            np.testing.assert_array_equal(seen[b, start:stop, start:stop], alone)
            assert not seen[b, start:stop, :start].any()


def test_window_3_by_hand():
    rows = [
        "".join("x" if start <= key < stop else "." for key in range(6))
        for start, stop in (visible_keys(index, 1, 3) for index in range(6))
    ]
    assert rows == ["......", ".x....", ".xx...", ".xxx..", "..xxx.", "...xxx"]


def test_the_pictures_in_the_docstring():
    lines = visible_keys.__doc__
    for index in range(8):
        drawn = []
        for composition in (0, 1):
            start, stop = visible_keys(index, 1, 3, 3, 7, composition) if 3 <= index < 7 else visible_keys(index, 1, 3)
            drawn.append(" ".join("x" if start <= key < stop else "." for key in range(8)))
        assert f"{index}  {drawn[0]}   |  {drawn[1]}" in lines


@pytest.mark.parametrize(("distance", "seen"), [(511, True), (512, False), (513, False)])
def test_the_window_of_512_holds_512_keys(distance, seen):
    start, stop = visible_keys(10_000, 0, 512)
    assert (start <= 10_000 - distance < stop) is seen
    assert stop - start == 512


def test_positions_restart_in_each_prompt_and_are_zero_on_pads():
    first, positions = prompt_starts([[2, 3], [4]], [0, 1])
    assert first.tolist() == [[0, 0, 2, 2, 2], [1, 1, 1, 1, 1]]
    assert positions.tolist() == [[0, 1, 0, 1, 2], [0, 0, 1, 2, 3]]


def test_rows_of_different_totals_are_refused():
    with pytest.raises(ValueError):
        prompt_starts([[2, 3], [4]], [0, 0])
