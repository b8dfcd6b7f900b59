"""Where mistakes were seen: the form of every entry, how many there are, and how reports print them."""

import re

import pytest

from ref.hypotheses.hypothesis import mutant_of
from ref.hypotheses.names import NAMES
from ref.mutants import tap_mutants
from ref.mutants.base import describe
from ref.mutants.crops import CROP_MUTANTS
from ref.mutants.formats import FORMAT_MUTANTS
from ref.mutants.pixels import PIXEL_MUTANTS
from ref.mutants.prompts import PROMPT_MUTANTS
from ref.mutants.seen_in import seen_in_words, sightings
from ref.mutants.visibility import VISIBILITY_MUTANTS

TAP_MUTANTS = tap_mutants()
RULE_MUTANTS = [*CROP_MUTANTS, *PIXEL_MUTANTS, *PROMPT_MUTANTS, *VISIBILITY_MUTANTS]
RULE_MUTANTS += [mutant for several in FORMAT_MUTANTS.values() for mutant in several]
ENTRIES = [(name, entry) for name, entries in sightings().items() for entry in entries]
PLACE = r"[\w.-]+/[\w.-]+(#\d+|@[\w.-]+(:[\w./+-]+)?)"
URL = r"https://github\.com/[\w.-]+/[\w.-]+/(issues|pull|commit|blob)/[\w./+-]+(#L\d+)?"


def test_at_least_90_of_the_mistakes_inside_the_model_were_seen():
    assert sum(bool(mutant.seen_in) for mutant in TAP_MUTANTS.values()) >= 90


def test_every_entry_belongs_to_a_mistake():
    assert set(sightings()) <= {*TAP_MUTANTS, *(mutant.name for mutant in RULE_MUTANTS), *NAMES}


@pytest.mark.parametrize(("name", "entry"), ENTRIES, ids=[f"{name}-{entry.where}" for name, entry in ENTRIES])
def test_each_entry_says_where_what_and_in_which_model(name, entry):
    assert re.fullmatch(PLACE, entry.where)
    assert re.fullmatch(URL, entry.url)
    assert entry.url.lower().startswith(f"https://github.com/{re.split('[#@]', entry.where)[0].lower()}/")
    number = re.search(r"#(\d+)", entry.where)
    assert not number or entry.url.endswith(f"/{number[1]}")
    assert len(entry.what) > 30
    assert entry.what.endswith(".")
    assert entry.model
    assert entry.same in ("exact", "another model", "convention")


def test_a_mistake_has_a_place_once_and_at_most_three():
    for name, entries in sightings().items():
        assert 1 <= len({entry.url for entry in entries}) == len(entries) <= 3, name


def test_mistakes_with_parameters_were_seen_too():
    assert len(NAMES & set(sightings())) >= 10


def test_a_fitted_mistake_says_where_it_was_seen():
    row = describe(mutant_of("horizon", "A global layer sees 11 keys, not all.", {}))
    assert row["seen_in"] == ["ml-explore/mlx-lm#1343"]


@pytest.mark.parametrize("name", ["composition_current", "composition_two_sided"])
def test_a_convention_says_that_it_is_no_bug(name):
    assert all("not a bug" in entry.what for entry in TAP_MUTANTS[name].seen_in)


def test_reports_name_the_places_or_say_that_there_is_none():
    row = describe(TAP_MUTANTS["scale_of_head_dim"])
    assert row["seen_in"][0] == "antonellof/ferrox#40"
    assert seen_in_words(row["seen_in"]).startswith("Seen in antonellof/ferrox#40, google/gemma.cpp@")
    assert describe(TAP_MUTANTS["attention_softcap"])["seen_in"] == []
    assert seen_in_words([]) == "Plausible, not seen yet."
