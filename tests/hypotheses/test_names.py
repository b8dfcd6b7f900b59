"""The names of mistakes with parameters: the sources give each, no others, and the catalogue has none of them."""

import re
from pathlib import Path

import pytest

import ref
from ref.from_logits.families import FAMILIES, HORIZON, WINDOW
from ref.hypotheses.names import NAMES
from ref.mutants import rule_mutants, tap_mutants

ROOT = Path(ref.__file__).parent
PARTS = [path for room in ("hypotheses", "diagnosis", "from_logits") for path in (ROOT / room).glob("*.py")]
SOURCE = "\n".join(path.read_text(encoding="utf-8") for path in PARTS if path.name != "names.py")
TESTS = Path(__file__).parents[1]
CASES = TESTS / "bench/field_cases"
PLANTING = [  # mistakes written anew in plain NumPy, and what the judge must say of them
    *(path for path in (TESTS / "hypotheses").glob("*.py") if path != Path(__file__)),
    TESTS / "diagnosis/test_bases.py",
    TESTS / "dump/test_situations.py",
    TESTS / "from_logits/test_scaled_positions.py",
]


@pytest.mark.parametrize("name", sorted(NAMES))
def test_each_name_is_given_somewhere(name):
    assert f'"{name}"' in SOURCE or (f'f"{name.split("_")[0]}_{{' in SOURCE and f'"{name.split("_")[1]}"' in SOURCE)


@pytest.mark.parametrize("name", sorted(NAMES))
def test_each_name_is_asserted_of_a_planted_mistake(name):
    assert any(f'"{name}"' in path.read_text(encoding="utf-8") for path in PLANTING)


def test_every_name_that_is_given_is_listed():
    given = re.findall(r'(?:mutant_of|_number|_bug)\(\s*(?:one, )?"(\w+)"', SOURCE)
    assert len(given) > 20
    assert set(given) <= NAMES


def test_what_is_found_from_logits_alone_has_the_same_names():
    assert {one.name for one in [*FAMILIES, WINDOW, HORIZON]} <= NAMES


def test_the_catalogue_has_other_names():
    assert not NAMES & {*tap_mutants(), *(one.name for some in rule_mutants().values() for one in some)}


@pytest.mark.skipif(not CASES.is_dir(), reason="the bench is in a clone only")
def test_cases_of_the_field_want_names_that_there_are():
    wanted = {name for path in CASES.glob("*.py") for name in re.findall(r'Answer\("(\w+)"', path.read_text("utf-8"))}
    assert len(wanted) > 20
    assert wanted <= NAMES | tap_mutants().keys()
