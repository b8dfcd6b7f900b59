"""Image blocks: the interval rule in its three compositions against a brute-force oracle, and its laws."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support import naive
from support.strategies import ImageLayout, Layout, image_layouts, windows

from ref.ops.visibility import COMPOSITIONS, as_matrix, image_blocks, visible_ranges

compositions = st.sampled_from(COMPOSITIONS)


def soft_row(text: str) -> np.ndarray:
    """Read a row drawn as `..IIII.`: I is a soft token."""
    return np.array([[letter == "I" for letter in text]])


def matrix(case, window, composition):
    first = case.layout.first
    blocks = image_blocks(case.soft, first, 0)
    return as_matrix(visible_ranges(first, 0, window, blocks, composition), first.shape[1])


def oracle(case, window, composition):
    rows = zip(case.layout.prompts, case.soft, strict=True)
    return np.array([naive.visibility_with_images(prompts, soft, window, composition) for prompts, soft in rows])


@given(case=image_layouts(), window=windows, composition=compositions)
@example(ImageLayout(Layout(((12,),), (0,)), soft_row("..IIIIIIII..")), 3, "two_sided")  # longer than the window
@example(ImageLayout(Layout(((4, 4),), (0,)), soft_row("..IIII..")), None, "current")  # over a border of two prompts
@example(ImageLayout(Layout(((6,),), (2,)), soft_row("..III...")), 2, "before_46850")  # first, after pads
def test_interval_equals_brute_force(case, window, composition):
    np.testing.assert_array_equal(matrix(case, window, composition), oracle(case, window, composition))


@given(case=image_layouts(), window=windows)
def test_compositions_agree_where_no_block_is_longer_than_the_window(case, window):
    blocks = image_blocks(case.soft, case.layout.first, 0)
    longest = (blocks[..., 1] - blocks[..., 0]).max()
    if window is None or longest <= window:
        for composition in COMPOSITIONS[1:]:
            np.testing.assert_array_equal(matrix(case, window, composition), matrix(case, window, "current"))


@pytest.mark.parametrize("composition", COMPOSITIONS[1:])
def test_compositions_differ_where_a_block_is_longer_than_the_window(composition):
    case = ImageLayout(Layout(((10,),), (0,)), soft_row(".IIIIIII.."))
    assert (matrix(case, 4, composition) != matrix(case, 4, "current")).any()
    np.testing.assert_array_equal(matrix(case, None, composition), matrix(case, None, "current"))


def test_before_46850_lets_an_image_see_its_block_behind_the_window():
    case = ImageLayout(Layout(((8,),), (0,)), soft_row("..IIII.."))
    assert matrix(case, 3, "before_46850")[0, 5].tolist() == [False, False, True, True, True, True, False, False]
    assert matrix(case, 3, "current")[0, 5].tolist() == [False, False, False, True, True, True, False, False]


@given(case=image_layouts(), window=windows, composition=compositions)
def test_images_only_add_and_only_inside_their_own_block(case, window, composition):
    blocks = image_blocks(case.soft, case.layout.first, 0)
    causal = as_matrix(visible_ranges(case.layout.first, 0, window), case.soft.shape[1])
    added = matrix(case, window, composition) & ~causal
    assert (matrix(case, window, composition) >= causal).all()
    for b, query, key in np.argwhere(added):
        assert blocks[b, query, 0] <= key < blocks[b, query, 1]


@given(case=image_layouts(), window=windows, composition=compositions)
def test_text_sees_what_it_sees_without_images(case, window, composition):
    causal = as_matrix(visible_ranges(case.layout.first, 0, window), case.soft.shape[1])
    np.testing.assert_array_equal(matrix(case, window, composition)[~case.soft], causal[~case.soft])


@given(case=image_layouts())
def test_no_token_sees_a_later_image_and_no_image_a_later_token(case):
    blocks = image_blocks(case.soft, case.layout.first, 0)
    for b, query, key in np.argwhere(matrix(case, None, "current")):
        assert key <= query or (blocks[b, query] == blocks[b, key]).all()


@given(case=image_layouts(), window=windows, composition=compositions, data=st.data())
def test_a_cached_pass_that_splits_no_block_sees_what_the_full_pass_saw(case, window, composition, data):
    first, T = case.layout.first, case.soft.shape[1]
    blocks = image_blocks(case.soft, first, 0)
    cuts = [t for t in range(1, T) if not ((blocks[:, t, 0] < t) & (t < blocks[:, t, 1])).any()]
    start = data.draw(st.sampled_from([0, *cuts]))
    stop = data.draw(st.sampled_from([t for t in [*cuts, T] if t > start]))
    part = image_blocks(case.soft[:, start:stop], first[:, start:stop], start)
    np.testing.assert_array_equal(part, blocks[:, start:stop])
    full = visible_ranges(first, 0, window, blocks, composition)
    got = visible_ranges(first[:, start:stop], start, window, part, composition)
    np.testing.assert_array_equal(got, full[:, start:stop])


def test_blocks_by_hand():
    soft = soft_row("I..III.I")
    first = np.array([[0, 0, 0, 0, 5, 5, 5, 5]])  # a second prompt begins at index 4, inside the second run
    text = [-1, -1]
    wanted = [[0, 1], text, text, [3, 4], [4, 6], [4, 6], text, [7, 8]]
    assert image_blocks(soft, first, 0)[0].tolist() == wanted
    moved = [[a + 9, b + 9] if a >= 0 else text for a, b in wanted]
    assert image_blocks(soft, first, 9)[0].tolist() == moved


def test_a_long_run_takes_linear_time():
    soft = np.ones((1, 1_000_000), bool)
    assert image_blocks(soft, np.zeros(soft.shape, np.int64), 0)[0, 500_000].tolist() == [0, 1_000_000]
