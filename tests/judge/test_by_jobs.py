"""By jobs a judgement says the same as in one go, whatever the dump has and lacks, and whatever is wrong with it."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from support.by_jobs import report_of
from support.image_dumps import blocks_of, prompt_with, taps_with_images
from support.judged import as_dump, cached_passes, captured, dumped
from support.ranked import on_ranks
from support.small_dumps import off_at, small
from support.sparse import corrupted, drawn

import ref
from ref.config import VISION
from ref.dump.read_folder import read_folder
from ref.emulate.policy import FAMILIES
from ref.emulate.text_rules import LAYER
from ref.golden_files.sampled import made_pixels
from ref.mutants import tap_mutants

ORDER = np.random.default_rng(1).permutation(44)


def rules_of(name):
    return tap_mutants()[name].rules


def permuted(cancels):
    """Permute the channels of the feed-forward network; where it does not cancel the columns after it do not."""
    from support.caused import product, right

    undone = np.argsort(ORDER) if cancels else np.arange(44)
    return {
        LAYER + "ffn.gate": lambda at: right("ffn.gate")(at)[..., ORDER],
        LAYER + "ffn.up": lambda at: right("ffn.up")(at)[..., ORDER],
        LAYER + "ffn.out": lambda at: product(at["ffn.act"][..., undone], at.weights.down),
    }


def without(taps, *ends):
    return {tap: value for tap, value in taps.items() if not tap.endswith(ends)}


def whole(passes):
    return as_dump(passes, [list(taps) for taps in passes.taps])


def rows_of(several):
    """Return a dump of several prompts, each a row."""
    made = [dumped(taps) for taps in several]
    passes = [one.passes[0]._replace(number=number) for number, one in enumerate(made)]
    return made[0]._replace(passes=passes)


def with_images():
    ids, pixels = prompt_with(2), made_pixels(2, VISION["tiny"].image)
    taps = taps_with_images(ids, pixels, rules_of("gelu_erf"))
    one = dumped(taps, ids=np.array(ids))
    return one._replace(passes=[one.passes[0]._replace(image_blocks=blocks_of(ids), pixels=pixels)])


def by_policy(family, lengths=(12, 1), rules=None):
    return whole(cached_passes(lengths, policy=FAMILIES[family][1], rules=rules))


def of_ranks(place=None):
    """Return a dump of three ranks, one of which has another gain, and of which layers' ends are not shown."""

    def hold(rank, tap, value):
        return value * 1.5 if rank == 1 and tap == "text.layer.2.attn.pre_norm" else value

    taps = without(captured(), ".out", ".in", ".mid", ".ffn.post_norm")
    with TemporaryDirectory() as folder:
        dump = read_folder(on_ranks(Path(folder) / "ranks", taps, hold=hold), None)
        for one in dump.passes:
            for tap, stored in one.tensors.items():
                one.tensors[tap] = in_memory(stored)
    return dump


def in_memory(stored):
    """Return a tensor that needs its file no more."""
    value = stored.read().copy()
    parts = tuple(one._replace(stored=in_memory(one.stored)) for one in stored.parts)
    return stored._replace(read=lambda: value, parts=parts)


DUMPS = {
    "ranks, of which one is off": of_ranks,
    "clean": lambda: dumped(captured()),
    "clean bfloat16": lambda: dumped(captured(dtype="bfloat16"), "bfloat16"),
    "one mistake": lambda: dumped(captured(rules_of("rope_interleaved"))),
    "two mistakes": lambda: dumped(captured(rules_of("gelu_erf") | rules_of("norm_plus_one_twice"))),
    "below the floor": lambda: dumped(captured(rules_of("gelu_erf"), dtype="bfloat16"), "bfloat16"),
    "first layer": lambda: dumped(captured(rules_of("window_plus_one"), only=0)),
    "cached": lambda: whole(cached_passes([9, 4, 1], rules=rules_of("rope_interleaved"))),
    "rows": lambda: rows_of([captured(tokens=9), captured(rules_of("gelu_erf"), tokens=14), captured(tokens=19)]),
    "images": with_images,
    "basis that cancels": lambda: dumped(captured(permuted(True), only=2)),
    "basis that does not": lambda: dumped(captured(permuted(False), only=2)),
    "basis, layers not shown": lambda: dumped(without(captured(permuted(True), only=2), ".in", ".out", ".mid")),
    "logits alone": lambda: dumped({"text.logits": captured(rules_of("rope_interleaved"))["text.logits"]}),
    "no layer's input": lambda: dumped(without(captured(rules_of("gelu_erf"), only=4), ".in")),
    "small": small,
    "small bfloat16": lambda: small(dtype="bfloat16"),
    "small, a step": lambda: small(cached=True),
    "small, one mistake": lambda: small("rope_interleaved"),
    "small, one tap": lambda: off_at(small(), "text.layer.1.mid"),
    "small bfloat16, one mistake": lambda: small("norm_plus_one_twice", "bfloat16"),
    "small, some taps whole": lambda: small(
        "gelu_erf", taps=[f"text.layer.3.ffn.{one}" for one in ("gate", "up", "act")]
    ),
    "products in TF32": lambda: by_policy("tf32"),
    "TF32 and a mistake": lambda: by_policy("tf32", rules=rules_of("ffn_silu")),
}


@pytest.mark.parametrize("name", DUMPS)
def test_by_jobs_a_report_is_the_same(name):
    dump, loaded = DUMPS[name](), ref.load("tiny")
    alone, profiles, _ = report_of(dump, loaded)
    report, others, doer = report_of(dump, loaded, 2)
    assert doer.count > 5
    assert report == alone
    np.testing.assert_equal(others, profiles)


@pytest.mark.parametrize("seed", range(100, 112))
def test_by_jobs_any_subset_of_taps_is_judged_the_same(seed):
    passes, kept, rng = drawn(seed)
    wrong, _, _ = corrupted(passes, kept, rng)
    dump, loaded = as_dump(wrong, kept), ref.load("tiny")
    assert report_of(dump, loaded, 1 + seed % 4)[0] == report_of(dump, loaded)[0]


def test_jobs_are_independent_of_how_many_there_are_and_of_what_was_done_before():
    dump, loaded = DUMPS["rows"](), ref.load("tiny")
    first, *others = (report_of(dump, loaded, workers)[0] for workers in (1, 2, 3, 8))
    assert all(one == first for one in others)
