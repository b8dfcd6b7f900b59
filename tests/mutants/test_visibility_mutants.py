"""Mistakes in visibility: each shows where it says it does, cell by cell, and nowhere else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ref.mutants.visibility import VISIBILITY_MUTANTS
from ref.mutants.visibility_parts import Layout, compose, parts_of, real_rows, visible
from ref.ops.visibility import COMPOSITIONS
from ref.testing.strategies import layouts

MUTANTS = {mutant.name: mutant for mutant in VISIBILITY_MUTANTS}


def drawn(text, window=None, composition="current", local_window=512):
    """Read a row: p pad, t text, I image, ' text that begins another prompt; what stands before | is cached."""
    start = max(text.find("|"), 0)
    letters, first, begins = text.replace("|", ""), [], 0
    for index, letter in enumerate(letters):
        begins = index if letter == "'" else index + 1 if letter == "p" else begins
        first.append(begins)
    pads = letters.count("p")
    first[:pads] = [pads] * pads
    soft = np.array([letter == "I" for letter in letters])
    return Layout(soft[start:], np.array(first[start:]), start, window, composition, window or local_window)


def changed(name, layout):
    """Which (query, key) the mistake adds, and which it takes away."""
    truth, wrong = visible(layout), MUTANTS[name].run(layout)
    assert wrong.shape == truth.shape
    assert wrong.dtype == bool
    real = real_rows(layout)[:, None]
    added, taken = (np.argwhere(cells & real) for cells in (wrong & ~truth, truth & ~wrong))
    return ({(int(t) + layout.start, int(s)) for t, s in cells} for cells in (added, taken))


# name: layout; cells added; cells taken away, by hand, as (query, key)
SHOWN = {
    "window_plus_one": (drawn("tttt", 2), {(2, 0), (3, 1)}, set()),
    "window_minus_one": (drawn("ttt", 2), set(), {(1, 0), (2, 1)}),
    "window_half": (drawn("ttttt", 4), set(), {(2, 0), (3, 0), (3, 1), (4, 1), (4, 2)}),
    "window_ignored": (drawn("tttt", 2), {(2, 0), (3, 0), (3, 1)}, set()),
    "window_on_global": (drawn("tttt", local_window=2), set(), {(2, 0), (3, 0), (3, 1)}),
    "no_causal": (drawn("ttt"), {(0, 1), (0, 2), (1, 2)}, set()),
    "mask_transposed": (drawn("t|tt"), {(1, 2)}, {(2, 1)}),
    "self_excluded": (drawn("tIt"), set(), {(0, 0), (2, 2)}),
    "pads_visible": (drawn("pptt"), {(2, 0), (2, 1), (3, 0), (3, 1)}, set()),
    "pads_shift_queries": (drawn("pttt"), set(), {(1, 1), (2, 2), (3, 3)}),
    "image_causal": (drawn("tIIIt"), set(), {(1, 2), (1, 3), (2, 3)}),
    "images_mutually_visible": (drawn("ItIIt"), {(0, 2), (0, 3)}, set()),
    "image_blocks_by_distance": (drawn("tIIIIttIIIIt"), {(3, 7), (4, 7), (4, 8)}, set()),
    "image_sees_future": (drawn("IttI"), {(0, 1), (0, 2), (0, 3)}, set()),
    "markers_in_block": (drawn("ttIt"), {(1, 2), (1, 3), (2, 3)}, set()),
    "padding_mask_only": (drawn("ptIt", 2), {(1, 2), (1, 3), (2, 3), (3, 1)}, set()),
    "block_only_on_global": (drawn("tII", 3), set(), {(1, 2)}),
    "block_only_on_local": (drawn("tII"), set(), {(1, 2)}),
    "composition_current": (drawn("tIIIt", 2, "two_sided"), {(1, 3)}, set()),
    "composition_before_46850": (drawn("tIIIt", 2), {(3, 1)}, set()),
    "composition_two_sided": (drawn("tIIIt", 2), set(), {(1, 3)}),
    "long_block_dropped": (drawn("tIIIt", 2), set(), {(1, 2), (1, 3), (2, 3)}),
    "block_cut_by_chunk": (drawn("tIIIt", local_window=3), set(), {(1, 3), (2, 3)}),
    "block_only_without_cache": (drawn("t|II"), set(), {(1, 2)}),
    "block_at_wrong_keys": (drawn("tt|tII"), set(), {(3, 4)}),
    "cached_positions_restart": (drawn("tt|tt"), set(), {(2, 1), (2, 2), (3, 2), (3, 3)}),
    "cache_unseen": (drawn("tt|tt"), set(), {(2, 0), (2, 1), (3, 0), (3, 1)}),
    "ring_overwritten": (drawn("ttt|ttt", 3), set(), {(3, 1), (3, 2), (4, 2)}),
    "packed_leak": (drawn("tt't"), {(2, 0), (2, 1), (3, 0), (3, 1)}, set()),
    "packed_by_restarted_positions": (drawn("tt't"), {(0, 2), (1, 2), (1, 3), (2, 0), (3, 0), (3, 1)}, set()),
}

# without these features a mistake cannot show
NEEDS = {
    "local": "window_plus_one window_minus_one window_half window_ignored block_only_on_global ring_overwritten",
    "global": "window_on_global block_only_on_local",
    "pads packed": "pads_shift_queries pads_visible",
    "images": "image_causal images_mutually_visible image_blocks_by_distance image_sees_future markers_in_block "
    "padding_mask_only block_only_on_global block_only_on_local block_cut_by_chunk block_only_without_cache "
    "block_at_wrong_keys",
    "long-images": "composition_current composition_before_46850 composition_two_sided long_block_dropped",
    "cached": "block_only_without_cache block_at_wrong_keys cached_positions_restart cache_unseen ring_overwritten",
    "packed": "packed_leak packed_by_restarted_positions",
}
NEVER = [(name, features) for features, names in NEEDS.items() for name in names.split()]


def test_names_are_unique_and_each_mistake_is_shown_and_has_a_need():
    assert len(MUTANTS) == len(VISIBILITY_MUTANTS)
    assert set(SHOWN) == set(MUTANTS)
    assert {name for name, _ in NEVER} == set(MUTANTS) - {"no_causal", "mask_transposed", "self_excluded"}


@pytest.mark.parametrize("mutant", VISIBILITY_MUTANTS, ids=lambda m: m.name)
def test_each_says_what_it_is_and_what_shows_it(mutant):
    assert mutant.what
    assert mutant.needs.words
    assert not mutant.what.endswith(".")


@pytest.mark.parametrize("name", SHOWN)
def test_it_changes_the_cells_it_must(name):
    layout, added, taken = SHOWN[name]
    assert [*changed(name, layout)] == [added, taken]


@pytest.mark.parametrize(("name", "features"), NEVER)
@settings(max_examples=30)
@given(data=st.data(), composition=st.sampled_from(COMPOSITIONS))
def test_it_changes_nothing_where_its_need_is_not_met(name, features, data, composition):
    layout = data.draw(layouts(without=features.split(), composition=composition))
    assert [*changed(name, layout)] == [set(), set()]


@pytest.mark.parametrize("name", ["no_causal", "mask_transposed"])
def test_one_token_hides_it(name):
    assert [*changed(name, drawn("ttt|t", 2))] == [set(), set()]


def test_an_image_alone_hides_that_text_does_not_see_itself():
    assert [*changed("self_excluded", drawn("tt|III"))] == [set(), set()]


@given(data=st.data(), composition=st.sampled_from(COMPOSITIONS))
def test_the_parts_of_masks_compose_to_the_rule(data, composition):
    layout = data.draw(layouts(composition=composition))
    np.testing.assert_array_equal(compose(layout, parts_of(layout)), visible(layout))


@pytest.mark.parametrize("composition", COMPOSITIONS)
def test_a_composition_is_no_mistake_where_it_is_the_rule(composition):
    layout = drawn("tIIIIt", 2, composition)
    assert [*changed(f"composition_{composition}", layout)] == [set(), set()]


def test_mistakes_compose_blocks_as_the_layout_does():
    added, taken = changed("window_plus_one", drawn("tIIIIt", 2, "before_46850"))
    assert (added, taken) == ({(2, 0), (5, 3)}, set())  # the block is seen whole already
    added, taken = changed("window_plus_one", drawn("tIIIIt", 2, "two_sided"))
    assert added == {(2, 0), (3, 1), (4, 2), (5, 3), (1, 3), (2, 4)}
    assert not taken
