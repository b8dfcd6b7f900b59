"""The pages that people read: their links and the paths they name are there, and what they list is what is so."""

import re
import tomllib
from pathlib import Path

import pytest
from support.report_examples import rope_bug

from ref.mutants import tap_mutants
from ref.report.text import render_text

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "golden/README.md", "notebooks/README.md")]
PAGES += sorted((ROOT / "docs").glob("*.md"))
EVERY = pytest.mark.parametrize("page", PAGES, ids=[path.relative_to(ROOT).as_posix() for path in PAGES])
MADE_BY_SPHINX = ("pages/", "notebooks/", "api/")  # its toctrees name what docs/conf.py copies
REPORT = (ROOT / "docs/reading-a-report.md").read_text()


@EVERY
def test_links_lead_to_what_is_there(page):
    links = re.findall(r"\]\((?!\w+:)([^)#\s]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


@EVERY
def test_files_that_are_named_are_there(page):
    named = re.findall(r"(?:ref|tests|golden|notebooks|docs|findings)/[\w./-]*\w", page.read_text())
    assert [path for path in named if not path.startswith("docs/build") and not list(ROOT.glob(path))] == []


@EVERY
def test_no_page_reads_as_an_x_a_y(page):
    """`One line a group` is a riddle; `one line per group` is not."""
    counted = r"(?:one|two|three|a|an|512|\d+) (?:line|row|file|scale|folder|pass|copy|test|column|value)s? an? \w+"
    assert re.findall(counted, page.read_text(), re.I) == []


def test_toctrees_name_every_page_of_the_site():
    index = (ROOT / "docs/index.md").read_text()
    listed = re.findall(r"^[\w/-]+$", index, re.M)
    own = {path.stem for path in (ROOT / "docs").glob("*.md")} - {"index"}
    assert own == {name for name in listed if not name.startswith(MADE_BY_SPHINX)}


def test_the_layout_lists_the_rooms_in_the_order_that_imports_may_go():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    [layers] = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    allowed = [{room.strip().removeprefix("ref.") for room in layer.split("|")} for layer in reversed(layers)]
    table = (ROOT / "docs/layout.md").read_text().split("| room | what |")[1].split("\n\n")[0]
    told = [set(re.findall(r"`(\w+)`", row.split("|")[1])) for row in table.splitlines()[2:]]
    assert told == allowed


def table_of(columns):
    """Return the first cells of a table by the words of its head."""
    rows = REPORT.split(f"| {columns} |")[1].split("\n\n")[0].splitlines()[2:]
    return [re.search(r"`([^`]+)`", row)[1] for row in rows]


def test_every_column_of_the_report_is_explained():
    head = next(line for line in render_text(rope_bug()[0]).splitlines())
    assert head == REPORT.split("```text\n")[1].splitlines()[0], "run python docs/make_report_example.py"
    assert " ".join(head.split()) == " ".join(table_of("column | meaning"))


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ("of a tap | meaning", ["match", "bug", "undetermined"]),
        ("of the dump (last line) | exit code | meaning", ["match", "bug", "undetermined"]),
        ("verdict of a mistake | meaning", ["named", "tied", "cleared", "undetermined"]),
    ],
)
def test_every_verdict_is_explained(columns, words):
    assert table_of(columns) == words


def test_the_report_is_of_a_mistake_that_we_know_and_its_picture_is_small():
    [named] = re.findall(r"^verdict: bug, .* \((\w+)\); this explains the logits$", REPORT, re.M)
    assert named in tap_mutants()
    picture = (ROOT / "docs/report.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) <= 300_000
