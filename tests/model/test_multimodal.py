"""Images and text in one pass: what may depend on an image and what may not, caching, batches, threads."""

import numpy as np
import pytest
from support.multimodal import WIDE, image, images, run
from support.threads import TWO_THREADS, threads
from support.tiny import BOTH, TINY, assert_close, params, vision

from ref.config import VISION
from ref.golden_files.sampled import made_pixels
from ref.model.cache import empty_cache
from ref.model.generate import Sampling, generate
from ref.model.multimodal import embed_images, forward_images
from ref.model.taps import Recorder, tap_names
from ref.model.text import How, forward
from ref.model.vision import encode_images
from ref.ops import KERNEL
from ref.ops.visibility import COMPOSITIONS

TOWERS = ("tiny", "tiny-long")  # blocks shorter and longer than the window


@pytest.mark.parametrize("name", TOWERS)
@pytest.mark.parametrize("ops", BOTH)
def test_every_tap_is_reported_once_and_in_order(name, ops):
    taps = Recorder()
    run([[2, 3, *image(name), 5]], images(name), How(ops=BOTH[ops], dtype=np.float64, taps=taps))
    assert list(taps.values) == tap_names(TINY.layers, vision_layers=VISION[name].layers)


@pytest.mark.parametrize("name", TOWERS)
def test_definition_and_kernel_agree_and_tapped_and_untapped_too(name):
    ids = [[2, *image(name), 3, 4, *image(name)]]
    kernel = run(ids, images(name, 2))
    assert_close(run(ids, images(name, 2), How(BOTH["definition"], np.float64)), kernel, 1e-12)
    assert_close(run(ids, images(name, 2), How(KERNEL, np.float64, Recorder())), kernel, 1e-12)


def test_the_tower_sees_each_image_alone():
    pixels = made_pixels(3, VISION["tiny"].image)
    together = encode_images(vision("tiny"), pixels, WIDE)
    taps = Recorder("vision.pool")
    batched = encode_images(vision("tiny"), pixels, WIDE._replace(taps=taps))
    for i in range(3):
        assert_close(encode_images(vision("tiny"), pixels[i : i + 1], WIDE), together[i : i + 1])
    assert_close(batched, together)


@TWO_THREADS
@pytest.mark.parametrize("name", TOWERS)
def test_the_number_of_threads_changes_no_bit(name):
    results = []
    for count in (1, 2):
        with threads(count):
            results.append(run([[2, *image(name), 3, 4, *image(name)]], images(name, 2), How()))
    np.testing.assert_array_equal(*results)


def test_listening_to_the_text_alone_leaves_the_images_one_by_one():
    taps = Recorder("text.logits")
    sizes = []
    ops = KERNEL._replace(average_pool=lambda x, pool: sizes.append(len(x)) or KERNEL.average_pool(x, pool))
    run([[2, *image(), 3, *image()]], images(count=2), How(ops, np.float64, taps))
    assert sizes == [1, 1]


@pytest.mark.parametrize("name", TOWERS)
def test_what_comes_before_an_image_does_not_depend_on_it_and_what_comes_after_does(name):
    ids = [[2, 3, 4, *image(name), 5, 6]]
    one, other = run(ids, images(name)), run(ids, images(name, start=1))
    np.testing.assert_array_equal(one[:, :3], other[:, :3])
    assert (one[:, 3:] != other[:, 3:]).any(axis=-1).all()


def test_every_soft_token_depends_on_the_last_row_of_its_own_image_and_on_no_later_one():
    ids = np.array([[2, *image(), 3, *image(), 4]])
    soft = embed_images(images(count=2), ids, TINY, WIDE)
    rows = soft.rows.copy()
    rows[0, -1] += 1
    moved = forward(params(), ids, WIDE, soft=soft._replace(rows=rows))[0]
    base = forward(params(), ids, WIDE, soft=soft)[0]
    assert (moved != base).any(axis=-1).tolist() == [[False] + [True] * 10]
    rows = soft.rows.copy()
    rows[1] += 1
    moved = forward(params(), ids, WIDE, soft=soft._replace(rows=rows))[0]
    assert (moved != base).any(axis=-1).tolist() == [[False] * 6 + [True] * 5]


def test_rows_are_inserted_unscaled_in_order_and_what_the_id_there_was_does_not_matter():
    ids = np.array([[2, *image(), 3, *image()], [5, 6, *image(), *image()]])
    soft = embed_images(images(count=4), ids, TINY, WIDE)
    taps = Recorder("model.merged", "text.embed")
    wanted = forward(params(), ids, WIDE._replace(taps=taps), soft=soft)[0]
    merged, embed = taps.values["model.merged"], taps.values["text.embed"]
    np.testing.assert_array_equal(merged[soft.places], soft.rows.reshape(-1, TINY.width))
    np.testing.assert_array_equal(merged[~soft.places], embed[~soft.places])
    np.testing.assert_array_equal(forward(params(), np.where(soft.places, -2, ids), WIDE, soft=soft)[0], wanted)


def test_images_that_touch_are_one_block():
    ids = np.array([[2, *image(), *image(), 3]])
    taps = Recorder("text.layer.5.attn.visible")
    run(ids, images(count=2), WIDE._replace(taps=taps))
    assert taps.values["text.layer.5.attn.visible"][0, 1:9].tolist() == [[0, 9]] * 8


@pytest.mark.parametrize("name", TOWERS)
@pytest.mark.parametrize("composition", COMPOSITIONS)
def test_cached_decoding_after_an_image_equals_the_full_pass(name, composition):
    ids = [2, *image(name), 3, *image(name), 4, 5, 6, 7, 8, 9, 10]
    how = WIDE._replace(composition=composition)
    full = run([ids], images(name, 2), how)
    prefill = len(ids) - 7
    store = empty_cache(TINY, np.zeros(1), len(ids), np.float64)
    got, store = forward_images(params(), images(name, 2), [ids[:prefill]], how, store)
    parts = [got]
    for t in range(prefill, len(ids)):
        got, store = forward(params(), [ids[t : t + 1]], how, store)
        parts.append(got)
    assert_close(np.concatenate(parts, axis=1), full)


def test_an_image_in_a_later_pass_equals_the_full_pass():
    ids = [2, *image(), 3, 4, 5, 6, 7, 8, *image(), 9]
    full = run([ids], images(count=2))
    store = empty_cache(TINY, np.zeros(1), len(ids), np.float64)
    first, store = forward_images(params(), images(), [ids[:9]], WIDE, store)
    second, store = forward_images(params(), images(start=1), [ids[9:]], WIDE, store)
    assert_close(np.concatenate([first, second], axis=1), full)


def test_compositions_agree_on_short_blocks_and_differ_on_long_ones():
    for name, differs in zip(TOWERS, (False, True), strict=True):
        ids = [[2, 3, *image(name), 4]]
        seen = [run(ids, images(name), WIDE._replace(composition=one)) for one in COMPOSITIONS]
        assert (seen[0] != seen[1]).any() == differs
        assert (seen[0] != seen[2]).any() == differs


def test_left_pads_and_neighbours_in_the_batch_change_nothing():
    alone = run([[2, *image(), 3]], images())
    ids = [[0, 0, 0, 2, *image(), 3], [4, *image(), 5, 6, 7, 8]]
    both = run(ids, images(count=2), first=np.array([3, 0]))
    assert_close(both[:1, 3:], alone)


@pytest.mark.parametrize("where", ["first", "last"])
def test_an_image_may_begin_or_end_the_prompt(where):
    ids = [*image(), 3, 4] if where == "first" else [3, 4, *image()]
    assert np.isfinite(run([ids], images())).all()


def test_generation_with_images_equals_the_full_pass_token_by_token():
    prompts = [[2, *image(), 3], [4, 5, 6, *image(), 7, *image()]]
    steps = list(generate(params(), prompts, 6, Sampling(greedy=True), (), WIDE, images(count=3)))
    pictures = [images(), images(count=2, start=1)]
    for row, prompt in enumerate(prompts):
        ids = list(prompt)
        for step in steps:
            assert step[row] == run([ids], pictures[row])[0, -1].argmax()
            ids.append(step[row])
