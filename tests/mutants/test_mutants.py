"""The catalogue of mutants as a whole: each is a known operation's, and is counted rightly in README."""

import re
from pathlib import Path

import pytest

from ref.emulate.graph import RULES
from ref.mutants import tap_mutants

MUTANTS = list(tap_mutants().values())


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_each_stands_in_known_operations_and_says_what_shows_it(mutant):
    assert mutant.rules
    assert set(mutant.rules) <= set(RULES)
    assert mutant.what.strip()
    assert mutant.needs.words


def test_readme_counts_them():
    said = re.search(r"Each of (\d+) known mistakes", (Path(__file__).parents[2] / "README.md").read_text())
    assert said
    assert int(said[1]) == len(MUTANTS)
