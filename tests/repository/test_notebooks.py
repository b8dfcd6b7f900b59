"""Notebooks: pairs in step, whole, small; `notebooks/run.py --check` executes them (in CI)."""

import ast
import importlib
import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "notebooks"))
SOURCES = sorted((ROOT / "notebooks").glob("[0-9]*.py"))
EVERY = pytest.mark.parametrize("path", SOURCES, ids=[path.stem for path in SOURCES])
OPENING = ("- **You will see** ", "- **You need** ", "- **Shown from** ")
MOST_LINES, MOST_BYTES = 150, 12 * 10**6


def cells(path):
    return json.loads(path.with_suffix(".ipynb").read_text())["cells"]


def test_all_are_there_in_the_models_order():
    assert [path.stem[:2] for path in SOURCES] == [f"{number:02}" for number in range(18) if number != 16]
    assert sum(path.stat().st_size for path in (ROOT / "notebooks").iterdir() if path.is_file()) <= MOST_BYTES


@EVERY
def test_the_pair_is_in_step(path):
    pytest.importorskip("jupytext")
    from run import read, sources

    pair = [(cell["cell_type"], "".join(cell["source"])) for cell in cells(path)]
    assert pair == sources(read(path))


@EVERY
def test_it_is_short_and_opens_with_what_one_sees_and_needs(path):
    lines = path.read_text().splitlines()
    assert len(lines) < MOST_LINES
    first = cells(path)[0]
    assert first["cell_type"] == "markdown"
    title, _, *opening = "".join(first["source"]).splitlines()
    assert title.startswith(f"# {path.stem[:2]} ")
    assert [one for one in opening if one.startswith("- ")] == [one for one in opening if one.startswith(OPENING)]
    assert [start for start in OPENING for one in opening if one.startswith(start)] == list(OPENING)


@EVERY
def test_it_was_run_whole_without_an_error_or_a_word_on_stderr(path):
    code = [cell for cell in cells(path) if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    kinds = [(one["output_type"], one.get("name")) for cell in code for one in cell["outputs"]]
    assert not [kind for kind in kinds if kind[0] == "error" or kind[1] == "stderr"]


@EVERY
def test_it_breaks_something_asks_something_and_links_to_what_is_there(path):
    text = "\n".join("".join(cell["source"]) for cell in cells(path))
    assert "## Broken on purpose" in text or path.stem[:2] == "14"  # all of 14 is
    assert "## Exercise" in text
    assert re.search(r"^exercise\(", text, re.M) or ".mistake" in text
    rows = re.findall(r"^\|[^|\n]+\|([^|\n]+)\|([^|\n]+)\|$", text.split("| paper | function | test |")[1], re.M)
    functions = [one for functions, _ in rows for one in re.findall(r"`(ref\.[\w.]+)`", functions)]
    tests = [one for _, tests in rows for one in re.findall(r"`(tests/[\w./]+)`", tests)]
    assert functions
    assert tests
    for name in functions:
        module, _, function = name.rpartition(".")
        assert hasattr(importlib.import_module(module), function), name
    assert [one for one in tests if not (ROOT / one).exists()] == []


@EVERY
def test_no_outputs_name_a_machine(path):
    assert not re.search(r"/home/|/root/|/tmp/|/work/", path.with_suffix(".ipynb").read_text())


@EVERY
def test_definitions_are_answers_or_small(path):
    """The model is `ref`'s; what a notebook defines is an exercise's answer or a line or two of printing."""
    tree = ast.parse(re.sub(r"^# %matplotlib.*$", "", path.read_text(), flags=re.M))
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    defined = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert len(defined) <= 3
    assert max((node.end_lineno - node.lineno for node in defined), default=0) <= 16
