"""docs/paper.md is what code, docstrings and notebooks say now, and every name on it is there."""

import importlib
import re
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from ref.mutants import every_mutant, tap_mutants

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "docs"))

import make_paper  # noqa: E402
from report_statements import STATEMENTS  # noqa: E402

EVERY = pytest.mark.parametrize("statement", STATEMENTS, ids=lambda one: f"{one.section}: {one.says}")


def found(name: str):
    """Return what a dotted name stands for."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            value = getattr(value, part)
        return value
    raise AssertionError(name)


def test_the_page_is_up_to_date():
    assert (ROOT / "docs/paper.md").read_text() == make_paper.page(), "python docs/make_paper.py"


def test_it_has_rows_of_every_part_that_is_here():
    assert len(STATEMENTS) >= 25
    assert {one.section.split(",")[0] for one in STATEMENTS} == {"1", "2", "2.1", "2.2", "2.3", "3", "5"}
    assert len({one.says for one in STATEMENTS}) > len(STATEMENTS) - 2


@EVERY
def test_its_functions_are_there_and_one_has_a_test(statement):
    assert all(found(function) is not None for function in statement.functions)
    tests = [make_paper.test_of(function) for function in statement.functions]
    assert any(tests), statement
    assert [test for test in tests if test and not (ROOT / test).exists()] == []


@EVERY
def test_each_pattern_of_mistakes_is_one_or_more(statement):
    for pattern in statement.mistakes:
        assert [name for name in every_mutant() if fnmatchcase(name, pattern)], pattern


def test_nearly_every_mistake_in_the_text_model_breaks_a_statement():
    told = [pattern for one in STATEMENTS for pattern in one.mistakes]
    left = [name for name in tap_mutants() if not any(fnmatchcase(name, pattern) for pattern in told)]
    assert len(left) < len(tap_mutants()) / 3, left


def test_every_citation_of_the_report_is_on_the_page_with_its_field():
    cited = dict(make_paper.citations())
    assert len(cited) >= 12
    assert all(found(name) is not None for name in cited)
    assert "table 1" in cited["ref.config"]
    text = (ROOT / "docs/paper.md").read_text()
    assert [name for name in cited if f"| `{name}` | {cited[name]} |" not in text] == []


def test_what_notebooks_say_of_the_report_is_on_the_page():
    """A function that a notebook's table puts beside the report stands in a statement."""
    named = {function for one in STATEMENTS for function in one.functions}
    missing = []
    for path in sorted((ROOT / "notebooks").glob("[0-9]*.py")):
        _, _, end = path.read_text().partition("| paper | function | test |")
        for paper, functions in re.findall(r"^# \|([^|\n]+)\|([^|\n]+)\|", end, re.M):
            if "Gemma 3 report" in paper:
                missing += [one for one in re.findall(r"`([\w.]+)`", functions) if one not in named]
    assert missing == []


def test_a_citation_more_is_seen(monkeypatch):
    code = '"""A made-up module.\n\nSource: Gemma 3 report, section 9.\n"""\n'
    monkeypatch.setattr(make_paper, "_sources", lambda pattern: {"ref/made_up.py": code})
    assert list(make_paper.citations()) == [("ref.made_up", "Gemma 3 report, section 9.")]
