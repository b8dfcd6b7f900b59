"""docs/doors.md has the table that tests/bench/doors.py makes: a row for every door, in the form that it has now."""

import re
from pathlib import Path

import pytest
from bench.doors.all_doors import DOORS
from bench.doors.table import HEAD, table

from ref.hypotheses.names import NAMES
from ref.mutants import tap_mutants

PAGE = (Path(__file__).parents[2] / "docs/doors.md").read_text()


def rows_of(door):
    return [line for line in PAGE.splitlines() if line.startswith(f"| {door.name}: ")]


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.name)
def test_every_door_matches_and_its_mistake_is_named(door):
    rows = rows_of(door)
    assert rows
    for row in rows:
        cells = [one.strip() for one in row.strip("|").split(" | ")]
        assert cells[1] == str(door.lines())
        assert door.lines() <= 3
        assert [one.split(";")[0] for one in cells[2:4]] == ["match", "match"]
        assert cells[4] == door.mistake
        assert cells[5:] == [f"`{door.named}` at `{door.tap.removeprefix('text.')}`"]


def test_no_other_row_is_there():
    shown = [line for line in PAGE.splitlines() if re.match(r"\| \S+: ", line)]
    assert HEAD in PAGE
    assert sorted(shown) == sorted(row for door in DOORS for row in rows_of(door))


def test_what_is_planted_has_a_name():
    assert {door.named for door in DOORS} <= NAMES | set(tap_mutants())


def test_the_table_says_what_was_not_run_and_what_was_missed():
    door = DOORS[0]
    line = {"door": door.name, "versions": "a 1", "local": {"floors": 1.25}, "inherited": {"floors": 0.5}, "named": []}
    clean = line | {"tokens": 6, "planted": False, "verdict": "match", "first": None}
    missed = line | {"tokens": 6, "planted": True, "verdict": "bug", "first": {"tap": "text.embed"}}
    row = table(DOORS, [clean, missed]).splitlines()[-1]
    assert [one.strip() for one in row.strip("|").split(" | ")[2:]] == [
        "match; 1.25, 0.50",
        "not run",
        door.mistake,
        "none at `embed`; of 640 tokens not run",
    ]
