"""What each rank holds is measured by itself: slices, replicas, parts of a sum; who is named, and what is no bug."""

import json

import numpy as np
import pytest
from support.judged import captured
from support.ranked import OF, cut, judged_on_ranks, on_ranks, only

import ref
from ref import compare
from ref.ops.linear import widen
from ref.record import Recorder

PRE, K, OUT, AT = "text.layer.2.attn.pre_norm", "text.layer.2.attn.k", "text.layer.2.attn.out", "text.layer.2."


@pytest.fixture(scope="module")
def clean():
    return captured()


def rows(report):
    return {row["tap"]: row for row in report["taps"]}


def wrong(report):
    return [row["tap"] for row in report["taps"] if row["verdict"] == "bug"]


def changed(rank, name, change):
    return lambda number, tap, value: change(value) if (number, tap) == (rank, name) else value


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("letters", ["NKFV", "KFV", "FV"])
def test_a_clean_dump_of_ranks_is_judged_as_the_whole_one(tmp_path, dtype, letters):
    arrays = captured(dtype=dtype)
    weights = {"name": "tiny", "dtype": dtype, "sha256": None} if dtype == "bfloat16" else "tiny"
    report = judged_on_ranks(tmp_path, arrays, letters=letters, weights=weights)
    assert (report["verdict"], report["unaligned"]) == ("match", [])
    assert report["compared"]["taps"] == len(arrays)
    assert not any("ranks" in row for row in report["taps"])


def test_all_ranks_in_one_dump_say_the_same(tmp_path, clean):
    apart = judged_on_ranks(tmp_path / "apart", clean, hold=changed(1, K, lambda x: x * 1.5))
    ids = json.loads((tmp_path / "apart" / "rank0" / "dump.json").read_text())["passes"][0]["ids"]
    with Recorder(tmp_path / "one", ids, weights="tiny", tensor=OF) as rec:
        for rank in range(OF):
            for tap, whole in clean.items():
                value, said = cut(tap, whole, rank)
                rec(tap, value * 1.5 if (rank, tap) == (1, K) else value, rank=rank, **said)
    one = compare(tmp_path / "one", loaded=ref.load("tiny"))
    for field in ("verdict", "first", "causes"):
        assert one[field] == apart[field]
    assert rows(one)[K]["ranks"] == rows(apart)[K]["ranks"]


def test_a_slice_that_is_off_is_told_by_rank(tmp_path, clean):
    report = judged_on_ranks(tmp_path, only(clean, "attn.pre_norm", "attn.k"), hold=changed(2, K, lambda x: x * 1.1))
    row = rows(report)[K]
    assert (row["verdict"], [one["off"] for one in row["ranks"]]) == ("bug", [False, False, True])
    assert [(one["axis"], one["start"], one["stop"]) for one in row["ranks"]] == [("K", i, i + 1) for i in range(OF)]
    assert max(one["floors"] for one in row["ranks"][:2]) <= 2 < 100 < row["ranks"][2]["floors"]
    assert row["why"].startswith("slice of K of rank 2 is")


@pytest.mark.parametrize("rank", range(OF))
def test_a_replica_that_is_off_is_told_whichever_rank_has_it(tmp_path, clean, rank):
    hold = changed(rank, PRE, lambda x: x * np.float32(1.25))
    row = rows(judged_on_ranks(tmp_path, only(clean, "in", "attn.pre_norm"), hold=hold))[PRE]
    assert row["verdict"] == "bug"
    assert [one["off"] for one in row["ranks"]] == [number == rank for number in range(OF)]
    assert f"replica of rank {rank} is" in row["why"]
    assert row["local"] == pytest.approx(0.25, rel=1e-3)


def test_replicas_that_differ_by_rounding_are_noted_and_no_bug(tmp_path, clean):
    other = captured(dtype="float32")
    nudged = lambda x: np.nextafter(x, np.inf)  # noqa: E731 - one step of float32
    report = judged_on_ranks(tmp_path, only(other, "in", "attn.pre_norm"), hold=changed(1, PRE, nudged))
    assert report["verdict"] == "match"
    assert [note for note in report["notes"] if note.startswith("ranks: replicas of 1 tap differ within rounding")]
    assert rows(report)[PRE]["ranks"][1]["apart"] > 0


def test_what_follows_from_a_wrong_replica_is_no_bug_of_its_own(tmp_path, clean):
    """Rank 1 goes on with a residual stream of its own, which the dump does not show."""
    wide = {"text.layer.*.attn.post_norm": lambda at: at.ops.round(1.5 * at["attn.out"])}
    other = captured(wide, only=2)
    taps = ("in", "attn.out", "attn.post_norm", "ffn.pre_norm", "ffn.gate")
    mine, theirs = only(clean, *taps), only(other, *taps)

    def hold(rank, tap, value):
        return cut(tap, theirs[tap], rank)[0] if rank == 1 else value

    report = judged_on_ranks(tmp_path, mine, hold=hold)
    assert wrong(report) == [AT + "attn.post_norm"]
    assert rows(report)[AT + "ffn.gate"]["verdict"] == "match"


def test_integers_that_differ_between_ranks_are_a_bug(tmp_path, clean):
    name = AT + "attn.visible"
    report = judged_on_ranks(
        tmp_path, only(clean, "attn.visible"), hold=changed(2, name, lambda x: np.maximum(x - 1, 0))
    )
    assert wrong(report) == [name]
    assert rows(report)[name]["why"] == "on rank 2 unlike the others, which match"


def parts_of(clean):
    x = clean[AT + "attn.mix"].reshape(1, -1, 120)
    weight = widen(ref.load("tiny").params.layers[2].attn_out).astype(np.float32)
    return [x[..., 40 * rank : 40 * rank + 40] @ weight[:, 40 * rank : 40 * rank + 40].T for rank in range(OF)]


def test_parts_of_a_sum_match_with_the_sum_and_without_it(tmp_path, clean):
    parts = {(rank, OUT): part for rank, part in enumerate(parts_of(clean))}
    some = only(clean, "attn.mix", "attn.out", "attn.post_norm")
    assert judged_on_ranks(tmp_path / "with", some, parts=parts)["verdict"] == "match"
    less = {tap: value for tap, value in some.items() if tap != OUT}
    report = judged_on_ranks(tmp_path / "without", less, parts=parts)
    assert (report["verdict"], report["compared"]["taps"]) == ("match", 3)


def test_a_part_that_is_off_and_a_sum_that_is_are_told_apart(tmp_path, clean):
    parts = {(rank, OUT): part * (1.2 if rank == 1 else 1) for rank, part in enumerate(parts_of(clean))}
    some = only(clean, "attn.mix")
    row = rows(judged_on_ranks(tmp_path / "part", some, parts=parts))[OUT]
    assert [one["off"] for one in row["ranks"]] == [False, True, False]
    assert row["why"].startswith("the part of the sum of rank 1 is")
    right = {(rank, OUT): part for rank, part in enumerate(parts_of(clean))}
    wide = some | {OUT: clean[OUT] * np.float32(3)}
    row = rows(judged_on_ranks(tmp_path / "sum", wide, parts=right))[OUT]
    assert row["why"] == "each rank's part of the sum is right, the sum over ranks is not"


def test_a_mistake_in_one_ranks_vocabulary_is_told(tmp_path, clean):
    some = {tap: clean[tap] for tap in ("text.final_norm", "text.logits")}
    report = judged_on_ranks(tmp_path, some, hold=changed(1, "text.logits", lambda x: x * np.float32(1.3)))
    assert [one["off"] for one in rows(report)["text.logits"]["ranks"]] == [False, True, False]


def test_pipeline_ranks_are_judged_as_one(tmp_path, clean):
    for stage in range(2):
        with Recorder(
            tmp_path / f"stage{stage}", [20 + i % 70 for i in range(19)], weights="tiny", pipeline=(stage, 2)
        ) as rec:
            for tap, value in clean.items():
                layer = int(tap.split(".")[2]) if tap.startswith("text.layer.") else 6 if tap != "text.embed" else 0
                if (layer >= 4) == bool(stage):
                    rec(tap, value)
    report = compare(tmp_path, loaded=ref.load("tiny"))
    assert (report["verdict"], report["compared"]["taps"]) == ("match", len(clean))


def test_rows_of_ranks_are_as_the_schema_says(tmp_path, clean):
    from ref.golden_files.files import check_schema

    check_schema(judged_on_ranks(tmp_path, only(clean, "attn.k"), hold=changed(0, K, lambda x: x * 2)), "report")


def test_one_ranks_folder_alone_is_refused(tmp_path, clean):
    on_ranks(tmp_path, only(clean, "attn.k"))
    with pytest.raises(ref.errors.BadInput, match="no rank 1, rank 2"):
        compare(tmp_path / "rank0", loaded=ref.load("tiny"))
