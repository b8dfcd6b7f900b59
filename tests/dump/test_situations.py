"""Version 2: what servers do to a cache can be said; clean dumps match, and what goes wrong there is named."""

import json

import numpy as np
import pytest
from support.caused import table_of
from support.dumps_on_disk import MODEL, POLICY
from support.serving import chain, ids_of, index_of, row_of, shown, write

import ref
from ref import compare
from ref.dump.open import open_dump
from ref.dump.write import DumpWriter
from ref.emulate.context import Context
from ref.emulate.text_rules import LAYER
from ref.errors import BadInput
from ref.hypotheses.cache_moves import MIX

A, B, C, D = ids_of(6, 1), ids_of(3, 2), ids_of(5, 3), ids_of(1, 4)
REJECTED = [[0, 7, 0]]  # of 9 keys the last two
SHIFTED = [[0, 2, 0], [5, 9, 2]]  # the first two stay, three are dropped, four move down


def judged(folder):
    return compare(folder, loaded=ref.load("tiny"))


def causes(report):
    return [(one["mutant"], one["verdict"], [p["value"] for p in one["parameters"]]) for one in report["causes"]]


def written(folder, kept, rules=None, fused=False):
    """Write three passes: nine tokens, five behind those of them that are kept, one more."""
    _, taps = chain([(np.concatenate([A, B]), None), (C, kept), (D, None)], rules)
    cached = len(index_of(kept)[0])
    rows = row_of([*A, *B], 0), row_of(C, cached, kept=kept), row_of(D, cached + 5)
    return write(folder, [(row, shown(x, fused)) for row, x in zip(rows, taps, strict=True)])


@pytest.mark.parametrize("kept", [REJECTED, SHIFTED, [[0, 9, 0]]])
@pytest.mark.parametrize("fused", [False, True])
def test_dropped_and_moved_keys_match(tmp_path, kept, fused):
    folder = written(tmp_path / "dump", kept, fused=fused)
    assert json.loads((folder / "dump.json").read_text())["format_version"] == 2
    report = judged(folder)
    assert report["verdict"] == "match", report["first"]


def test_what_was_moved_is_turned_to_its_new_position():
    """Against keys that are rotated once, by where they are now."""
    runs, taps = chain([(np.concatenate([A, B]), None), (C, SHIFTED)], truth=True)
    index, _ = index_of(SHIFTED)
    for layer in (0, 5):
        prefix = f"text.layer.{layer}."
        k, v = runs[1].history(prefix)
        at = Context(runs[1], prefix + "attn.k_rope", prefix, layer)
        (cos, sin), half = table_of(at, positions=np.arange(len(index))[None]), k.shape[-1] // 2
        norm = taps[0][prefix + "attn.k_norm"][:, index]
        a, b = norm[..., :half], norm[..., half:]
        wanted = np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)
        np.testing.assert_allclose(k[:, : len(index)], wanted, atol=1e-6)
        np.testing.assert_array_equal(v[:, : len(index)], taps[0][prefix + "attn.v"][:, index])


def turned(times):
    def keys(at, which):
        return at.run.history(at.prefix, times)[which]

    return {LAYER + "cache.k": lambda at: keys(at, 0), LAYER + "cache.v": lambda at: keys(at, 1)}


@pytest.mark.parametrize(("times", "fused"), [(0, False), (0, True), (-1, False)])
def test_keys_that_are_not_turned_as_far_as_they_moved_are_named(tmp_path, times, fused):
    report = judged(written(tmp_path / "dump", SHIFTED, turned(times), fused))
    assert causes(report) == [("cache_keys_turned", "named", [times])]
    assert report["causes"][0]["first"]["pass"] == 1
    assert report["proof"]["verdict"] == "explained", report["proof"]["says"]


def seen_still(at):
    """Attention in plain NumPy over all keys of the pass before, rejected ones too."""
    k, v = at.run.history(at.prefix)
    if at.one_pass.kept is not None:
        old_k, old_v = at.run.before.history(at.prefix)
        k, v = (np.concatenate([old, x[:, at.one_pass.cached :]], axis=1) for old, x in ((old_k, k), (old_v, v)))
    q, T = at["attn.q_rope"], at.one_pass.ids.shape[1]
    k, v = (np.repeat(x, q.shape[2] // k.shape[2], axis=2) for x in (k, v))
    scores = np.einsum("bthc,bshc->bhts", q, k) * at.config.query_scale
    new, extra = np.arange(k.shape[1]), k.shape[1] - at.one_pass.total
    key = np.where(new < at.one_pass.cached, new, np.where(new < at.one_pass.cached + extra, -1, new - extra))
    query, window = at.one_pass.cached + np.arange(T), at.config.window_of(at.layer)
    seen = (key <= query[:, None]) & ((query[:, None] - key < window) if window else True) | (key < 0)
    scores = np.where(seen, scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    return np.einsum("bhts,bshc->bthc", weights, v).astype(np.float32)


def test_rejected_tokens_that_are_still_seen_are_named(tmp_path):
    report = judged(written(tmp_path / "dump", REJECTED, {MIX: seen_still}, fused=True))
    assert causes(report) == [("cache_dropped_seen", "named", [2])]
    assert report["causes"][0]["first"]["tap"] == "text.layer.0.attn.mix"


def spread(tap, x, tokens, keys, length, slots):
    """Put a value's tokens and keys where they lie among padding, whose values are anything."""
    axes = "B T S" if tap.endswith("visible") else {"scores": "B N T S", "probs": "B N T S"}.get(tap.rsplit(".")[-1])
    for axis, letter in enumerate((axes or "B T").split()):
        index, size = {"T": (tokens, length), "S": (keys, slots)}.get(letter, (None, None))
        if index is not None:
            wide = np.full((*x.shape[:axis], size, *x.shape[axis + 1 :]), 7).astype(x.dtype)
            wide[(*[slice(None)] * axis, index)] = x
            x = wide
    return x


def as_matrix(tap, x, run):
    return Context(run, tap, tap[: tap.index("attn")], 0).seen(run.one_pass.total, 0) if tap.endswith("visible") else x


def with_padding(folder, slots=None):
    """Write two passes: six tokens and three right pads, then five; perhaps in a cache with slots."""
    runs, taps = chain([(A, None), (C, None)])
    where = [np.arange(6), np.arange(5)], [np.arange(6), np.r_[0:6, 9:14]]
    counts, rows = (9, 5), [row_of([*A, 0, 0, 0], 0), row_of(C, 9)]
    rows[0]["positions"][6:] = [-1] * 3
    rows[1]["positions"] = list(range(6, 11))
    if slots:
        rows[0] |= {"slots": [*range(3, 12)], "cache_slots": 20}
        rows[1] |= {"slots": [19, 0, 1, 2, 18], "cache_slots": 20}
        where = where[0], [np.arange(3, 9), np.r_[3:9, 19, 0:3, 18]]
    passes = []
    for number, (row, run, some) in enumerate(zip(rows, runs, taps, strict=True)):
        size = 20 if slots else row["cached"] + counts[number]
        keys = where[1][number]
        some = {tap: as_matrix(tap, x, run) for tap, x in shown(some).items()}
        some = {tap: spread(tap, x, where[0][number], keys, counts[number], size) for tap, x in some.items()}
        passes.append((row, some))
    return write(folder, passes)


@pytest.mark.parametrize("slots", [False, True])
def test_padding_and_slots(tmp_path, slots):
    folder = with_padding(tmp_path / "dump", slots)
    report = judged(folder)
    assert report["verdict"] == "match", report["first"]
    opened = open_dump(folder)
    assert opened.passes[1].cached == 6
    assert opened.passes[1].tensors["text.layer.0.attn.scores"].shape[-2:] == (5, 11)


def test_rows_of_a_batch_may_take_turns(tmp_path):
    _, a = chain([(A, None), (C, None)])
    _, b = chain([(B, None), (D, None)])
    rows = row_of(A, 0, row=0), row_of(B, 0, row=1), row_of(C, 6, row=0), row_of(D, 3, row=1)
    taps = a[0], b[0], a[1], b[1]
    folder = write(tmp_path / "dump", [(row, shown(x)) for row, x in zip(rows, taps, strict=True)])
    assert judged(folder)["verdict"] == "match"
    assert [one.number for one in open_dump(folder).passes] == [0, 2, 1, 3]


def test_a_prefix_that_was_not_captured(tmp_path):
    _, taps = chain([(A, None), (C, None)])
    folder = write(tmp_path / "dump", [(row_of(A, 0), {}), (row_of(C, 6), shown(taps[1]))])
    assert judged(folder)["verdict"] == "match"


def test_a_residual_stream_in_two_parts(tmp_path):
    _, (taps,) = chain([(A, None)])
    some = shown(taps)
    with_parts = tmp_path / "dump"

    with DumpWriter(with_parts, MODEL, POLICY) as writer:
        for name, value in some.items():
            if name.endswith(".mid"):
                half = some[name.replace("mid", "in")]
                writer.add_tensor(name, value - half, plus=half)
            else:
                writer.add_tensor(name, value)
        writer.end_pass(row_of(A, 0))
    assert json.loads((with_parts / "dump.json").read_text())["format_version"] == 2
    assert judged(with_parts)["verdict"] == "match"


@pytest.mark.parametrize(
    ("row", "line"),
    [
        (row_of(C, 7, kept=[[0, 10, 0]]), "kept of pass 1: wanted ranges of the 9 keys that are there"),
        (row_of(C, 7, kept=[[4, 9, 0], [0, 2, 5]]), "kept of pass 1: wanted ranges of the 9 keys that are there"),
        (row_of(C, 7, kept=[[2, 9, 2]]), "kept of pass 1: wanted positions 0, 1, 2, ... of the keys that are left"),
        (row_of(C, 6, kept=REJECTED), "cached of pass 1: wanted the 7 keys that are there, got 6"),
        (row_of(C, 9, slots=[9, 10, 11, 12]), "slots of pass 1: wanted 5, as ids, got 4"),
        (row_of(C, 9, slots=[8, 9, 10, 11, 12]), "slots of pass 1: wanted one of the 14 of the cache for each key"),
        (row_of(C, 9, cache_slots=13), "slots of pass 1: wanted one of the 13 of the cache for each key"),
        (row_of(C, 9, row=1), "cached of pass 1: wanted the 0 keys that are there, got 9"),
        (row_of(C, 9, positions=[-1] * 5), "positions of pass 1: wanted a token that is no padding"),
        (row_of(C, 9, kept=[[0, 9, 2**62]]), "kept of pass 1: wanted ranges of the 9 keys that are there"),
        (row_of(C, 9, left_pads=2), "left_pads of pass 1: wanted 0, as the row began with, or 0, got 2"),
    ],
)
def test_what_cannot_be(tmp_path, row, line):
    folder = write(tmp_path / "dump", [(row_of([*A, *B], 0, row=0), {}), (row, {})])
    with pytest.raises(BadInput) as error:
        open_dump(folder)
    assert line in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_version_1_has_no_ranks(tmp_path):
    folder = write(tmp_path / "dump", [(row_of(A, 0), {})])
    content = json.loads((folder / "dump.json").read_text())
    content["policy"]["ranks"] = 2
    (folder / "dump.json").write_text(json.dumps(content))
    with pytest.raises(BadInput, match=r"policy: ranks, which format_version 2 has and 1 has not"):
        open_dump(folder)


@pytest.mark.parametrize("more", [{"row": 0}, {"kept": []}, {"slots": [0] * 6}, {"cache_slots": 9}])
def test_version_1_has_none_of_it(tmp_path, more):
    folder = write(tmp_path / "dump", [(row_of(A, 0), {})])
    content = json.loads((folder / "dump.json").read_text())
    content["passes"][0] |= more
    (folder / "dump.json").write_text(json.dumps(content))
    with pytest.raises(BadInput, match=f"passes.0.: {next(iter(more))}, which format_version 2 has and 1 has not"):
        open_dump(folder)
