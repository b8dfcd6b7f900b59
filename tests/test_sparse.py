"""Dumps of whatever taps their owner could get: a clean one matches, and a corrupted tap is found, whatever is missing.

`tests/bench/sparse.py` runs the same for as many seeds as one likes.
"""

from functools import cache

import numpy as np
import pytest
from judged import as_dump, cached_passes

import ref
from ref.verify import compare
from ref.verify.align import Stored
from ref.verify.bench import Bench
from ref.verify.emulate import emulate
from ref.verify.graph import Run
from ref.verify.judge import judge
from ref.verify.policy import members_of
from ref.verify.sample import made_pixels
from ref.verify.stages import Stage, prepare_stage
from ref.verify.world import Unknown, world_of

LENGTHS = ((6,), (5, 1), (4, 1, 1), (3, 4, 1), (1, 1), (9, 2, 1))  # tokens of each pass
DTYPES = ("float32", "bfloat16", "float16")
made = cache(cached_passes)


def drawn(seed):
    """Draw passes and a subset of their taps: few, many, whole layers, whole kinds, nothing of some passes."""
    rng = np.random.default_rng(seed)
    passes = made(LENGTHS[rng.integers(len(LENGTHS))], DTYPES[rng.integers(len(DTYPES))])
    share = rng.choice([0.01, 0.05, 0.3, 0.9, 1.0], size=len(passes.taps))
    kept = [[tap for tap in taps if rng.random() < p] for taps, p in zip(passes.taps, share, strict=True)]
    layer, kind = rng.integers(6), rng.choice(["attn.mix", "cache.k", "out", "ffn.act", "attn.scores", "k_rope"])
    for number in np.flatnonzero(rng.random(len(kept)) < 0.3):
        kept[number] = [tap for tap in passes.taps[number] if f"layer.{layer}." in tap or tap.endswith(kind)]
    for number in np.flatnonzero(rng.random(len(kept)) < 0.2):
        kept[number] = []
    if not any(kept):
        kept[-1] = ["text.logits"]
    return passes, kept, rng


def corrupted(passes, kept, rng):
    """Change one tap that is kept; of many values all, so that no floor hides it."""
    number = int(rng.choice([i for i, taps in enumerate(kept) if taps]))
    tap = str(rng.choice(kept[number]))
    value = passes.taps[number][tap]
    wrong = ~value if value.dtype == bool else value + 1 if value.dtype.kind == "i" else value * np.float32(1.5) + 1
    taps = [dict(one) for one in passes.taps]
    taps[number][tap] = wrong
    return passes._replace(taps=taps), number, tap


@pytest.mark.parametrize("seed", range(40))
def test_any_subset_of_a_clean_run_matches(seed):
    passes, kept, _ = drawn(seed)
    report = compare(as_dump(passes, kept), loaded=ref.load("tiny"))
    assert report["verdict"] == "match", [row for row in report["taps"] if row["verdict"] != "match"][:1]
    assert len(report["taps"]) == sum(map(len, kept))


@pytest.mark.parametrize("seed", range(20))
def test_a_corruption_of_a_kept_tap_is_found(seed):
    passes, kept, rng = drawn(seed)
    wrong, number, tap = corrupted(passes, kept, rng)
    report = compare(as_dump(wrong, kept), loaded=ref.load("tiny"))
    assert report["verdict"] == "bug"
    found = {(row["pass"], row["tap"]) for row in report["taps"] if row["verdict"] == "bug"}
    assert (number, tap) in found


def test_no_value_is_made_with_the_weights_of_another_stage():
    loaded = ref.load("tiny")
    world = world_of(loaded, [5, 6, 7])
    run = Run(world, emulate(*members_of("float32")[0]))
    run.enter(Stage("layer", 1), prepare_stage(loaded, Stage("layer", 1), "file", np.float32))
    with pytest.raises(Unknown, match=r"text\.layer\.0 are not at hand: text\.layer\.1 are"):
        run.value("text.layer.0.attn.q")


def test_keys_of_an_earlier_pass_are_dropped_only_after_the_later_one_has_read_them():
    loaded = ref.load("tiny")
    members = [emulate(*members_of("float32")[0])]
    first = Bench(0, world_of(loaded, [5, 6]), {}, members, None)
    later = Bench(1, world_of(loaded, [7], cached=2, before=first.world), {}, members, first)
    for stage in (Stage("embed"), Stage("layer", 0)):
        weights = prepare_stage(loaded, stage, "file", np.float64)
        for bench in (first, later):
            bench.enter(stage, weights, prepare_stage(loaded, stage, "file", np.float32))
        for bench in (first, later):
            bench.finish(stage)
        if stage.layer is None:
            for bench in (first, later):
                bench.forget(["text.layer.0.in"])
    assert later.own.value("text.layer.0.out").shape[1] == 1


def test_a_pass_without_images_behind_one_with_images_has_no_part_in_the_tower():
    loaded = ref.load("tiny")
    pixels, soft = made_pixels(1, 40), loaded.vision.config.soft_tokens
    first = world_of(loaded, [5, *[97] * soft, 9], pixels=pixels)
    later = world_of(loaded, [11, 12], cached=first.total, pixels=pixels[:0], before=first)
    members = [emulate(*members_of("float32")[0])]
    pool = np.zeros((1, soft, loaded.vision.config.width), np.float32)
    shown = {"vision.pool": Stored("vision.pool", "float32", pool.shape, lambda: pool)}
    one = Bench(0, first, shown, members, None)
    two = Bench(1, later, {}, members, one)
    found = list(judge([one, two], loaded, "file", lambda *_: None))
    assert [each.row["tap"] for each in found] == ["vision.pool"]
