"""Version 2 where situations meet: prompts packed over chunks, more slots than memory, sums of what is no float."""

import json
from itertools import pairwise

import pytest
from support.serving import chain, ids_of, row_of, shown, write

import ref
from ref import compare
from ref.dump.open import open_dump
from ref.errors import BadInput
from ref.mutants import tap_mutants

IDS = ids_of(14, 1)
PLACES = [*range(6), *range(5), *range(3)]  # of three prompts in a row


def cut(tap, x, start, stop):
    """Return the part of a value of a whole row that a chunk of it has."""
    x = x[:, :, start:stop] if tap.endswith(("attn.scores", "attn.probs")) else x[:, start:stop]
    return x[..., :stop] if x.dtype == bool or tap.endswith(("attn.scores", "attn.probs")) else x


def in_chunks(folder, cuts, rules=None):
    """Write a row of packed prompts, which is run at once, as chunks."""
    _, (taps,) = chain([(IDS, None)], rules, positions=PLACES)
    spans = pairwise([0, *cuts, len(IDS)])
    rows = [(row_of(IDS[a:b], a, positions=PLACES[a:b]), a, b) for a, b in spans]
    return write(folder, [(row, {tap: cut(tap, x, a, b) for tap, x in shown(taps).items()}) for row, a, b in rows])


@pytest.mark.parametrize("cuts", [[4], [6], [8], [4, 9]])
def test_packed_prompts_that_begin_in_a_later_chunk_match(tmp_path, cuts):
    report = compare(in_chunks(tmp_path / "dump", cuts), loaded=ref.load("tiny"))
    assert report["verdict"] == "match", report["first"]
    assert report["notes"] == []


@pytest.mark.parametrize("cuts", [[6], [8]])
def test_seeing_the_prompt_before_is_named_there_too(tmp_path, cuts):
    rules = tap_mutants()["packed_leak"].rules
    report = compare(in_chunks(tmp_path / "dump", cuts, rules), loaded=ref.load("tiny"))
    assert [(one["mutant"], one["verdict"]) for one in report["causes"]] == [("packed_leak", "named")]


def test_a_port_that_forgets_the_keys_before_is_no_packed_prompt(tmp_path):
    """Positions that begin at 0 where a pass does are judged as those of the same prompt."""
    (first, _), (_, taps) = chain([(IDS[:6], None), (IDS[6:], None)])
    assert first.one_pass.total == 6
    rows = row_of(IDS[:6], 0), row_of(IDS[6:], 6, positions=list(range(8)))
    report = compare(write(tmp_path / "dump", [(rows[0], {}), (rows[1], shown(taps))]), loaded=ref.load("tiny"))
    assert report["verdict"] == "match"
    assert report["notes"] == ["positions of pass 1 are 0..7, wanted 6..13 (first at token 0): judged with 6..13"]


def test_which_of_packed_prompts_are_left_cannot_be_said(tmp_path):
    folder = write(
        tmp_path / "dump", [(row_of(IDS, 0, positions=PLACES), {}), (row_of(IDS, 3, kept=[[11, 14, 0]]), {})]
    )
    with pytest.raises(
        BadInput, match="kept of pass 1: wanted a row of one prompt without left pads, got packed prompts"
    ):
        open_dump(folder)


def changed(folder, change):
    """Edit what a dump of one pass says."""
    _, (taps,) = chain([(IDS[:6], None)])
    write(folder, [(row_of(IDS[:6], 0, row=0), shown(taps))])
    content = json.loads((folder / "dump.json").read_text())
    change(content["passes"][0])
    (folder / "dump.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            lambda row: row.update(cache_slots=10**15),
            "visible: wanted a matrix [B, T, S] of bool, since keys lie in slots",
        ),
        (
            lambda row: row["tensors"]["text.layer.0.in"].update(plus="text.layer.0.in"),
            "wanted another tensor, both of",
        ),
        (lambda row: row["tensors"]["text.layer.0.in"].update(plus="x"), "'x': wanted a tensor of this file"),
        (
            lambda row: row["tensors"]["text.layer.0.attn.visible"].update(plus="text.layer.1.attn.visible"),
            "plus of 'text.layer.0.attn.visible': wanted another tensor, both of floats, got",
        ),
    ],
)
def test_slots_and_sums_that_cannot_be(tmp_path, change, line):
    with pytest.raises(BadInput) as error:
        open_dump(changed(tmp_path / "dump", change))
    assert line in str(error.value)
    assert len(str(error.value).splitlines()) == 1
