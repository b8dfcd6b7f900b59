"""docs/mistakes.md: made from the catalogue, up to date, a row per mistake, and read by Markdown as it is meant."""

import importlib.util
import re

import pytest

from ref.golden_files.files import golden_root
from ref.mutants import rule_mutants, tap_mutants

ROOT = golden_root().parent
SCRIPT = ROOT / "docs/make_mistakes.py"
pytestmark = pytest.mark.skipif(not SCRIPT.is_file(), reason="docs/ is in a clone only")
NAMES = [*tap_mutants(), *(one.name for key, some in rule_mutants().items() if key != "visibility" for one in some)]


@pytest.fixture(scope="module")
def maker():
    spec = importlib.util.spec_from_file_location("make_mistakes", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def rows(maker):
    lines = maker.PAGE.read_text(encoding="utf-8").splitlines()
    cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines if line.startswith("| `")]
    return {one[0].strip(" `"): [cell.strip() for cell in one] for one in cells}


def test_the_page_is_up_to_date(maker):
    assert maker.PAGE.read_text(encoding="utf-8") == maker.page(), "run: python docs/make_mistakes.py"


def test_every_mistake_has_its_row_with_every_cell(rows):
    assert sorted(rows) == sorted(NAMES)
    assert {len(cells) for cells in rows.values()} == {6}
    assert [name for name, cells in rows.items() if not all(cells[:4]) or cells[4] == "``"] == []


def test_a_seen_mistake_links_every_place(rows):
    for mutant in tap_mutants().values():
        cell = rows[mutant.name][2]
        assert all(f"]({one.url} " in cell for one in mutant.seen_in)
        assert (cell == "not seen yet") == (not mutant.seen_in)


def test_goldens_and_flags_are_those_that_there_are(maker, rows):
    assert rows["embed_scale_bfloat16"][4] == "`270m/long`"
    assert rows["crops_fitting_ignored"][4] == "`pan_and_scan-19`"
    assert rows["norm_without_plus_one"][5] == "`rms_norm`"
    assert rows["gelu_erf"][5] == "`geglu`, `gelu_tanh`"
    assert rows["rope_missing"][5] == ""
    flags = {flag for flag in maker.vector_files() if flag in NAMES}
    assert {name for name, cells in rows.items() if cells[5]} == flags


def test_names_of_tokens_and_newlines_are_text(maker, rows):
    assert "\\<bos\\>" in rows["prompt_no_bos"][1]
    assert maker.plain(r"\n [H] a|b") == r"\\n \[H\] a\|b"
