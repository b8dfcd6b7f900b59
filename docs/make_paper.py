"""Make docs/paper.md: line of the technical report, function, test, mistakes, notebook.

python docs/make_paper.py            writes the page
python docs/make_paper.py --check    fails where it is not up to date
"""

import ast
import json
import re
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from generated import ROOT, made_line, table, write_or_check
from make_status import vectors_by_name
from report_statements import STATEMENTS, Statement

sys.path.insert(0, str(ROOT))

from ref.mutants import every_mutant

MOST = 4  # names in a cell
CITES = re.compile(r"Gemma 3 (?:Technical Report|report)", re.I)
ABOUT = """\
From the [Gemma 3 technical report](https://arxiv.org/abs/2503.19786) to the code. The statements are in our words; the
numbers are the report's sections, tables and figures.

- **Test**: the one that the notebook names, or else the file that names the function most.
- **Mistakes**: those of the catalogue that break the statement, or else flags of its vectors.
- **Notebook**: where the function is shown.

Not here: training data, distillation, post-training, compute, evaluation, memorisation, safety.
"""


@cache
def notebook_rows() -> dict[str, list[tuple[str, str]]]:
    """Return function -> (notebook, test), from the tables at the end of the notebooks."""
    found: dict[str, list[tuple[str, str]]] = {}
    for path in sorted((ROOT / "notebooks").glob("[0-9]*.py")):
        _, _, end = path.read_text(encoding="utf-8").partition("| paper | function | test |")
        for functions, test in re.findall(r"^# \|[^|\n]+\|([^|\n]+)\|\s*`([^|\n]+)`\s*\|$", end, re.M):
            for function in re.findall(r"`([\w.]+)`", functions):
                found.setdefault(function, []).append((path.stem, test))
    return found


@cache
def _sources(pattern: str) -> dict[str, str]:
    return {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in sorted(ROOT.glob(pattern))}


def test_of(function: str) -> str:
    """Return the test of a function: the notebook's, or the one that names it most, in its own room first."""
    if function in notebook_rows():
        return notebook_rows()[function][0][1]
    parts, name = function.split("."), _called(function)
    counted = {path: len(name.findall(text)) for path, text in _sources("tests/*/test_*.py").items()}

    def rank(path: str) -> tuple[bool, bool, int]:
        _, room, file = path.split("/")
        return room == parts[1], file == f"test_{parts[2]}.py", counted[path]

    return max((path for path in counted if counted[path]), key=rank, default="")


def _called(function: str) -> re.Pattern:
    """Return what a function's use looks like: a method is called on something."""
    parts = function.split(".")
    return re.compile(rf"\.{parts[-1]}\(" if parts[-2][:1].isupper() else rf"\b{parts[-1]}\b")


def notebooks_of(function: str) -> list[str]:
    """Return the notebooks that show a function: by their tables, or else by its name in their code."""
    named = [notebook for notebook, _ in notebook_rows().get(function, [])]
    books = _sources("notebooks/[0-9]*.py").items()
    return named or [Path(path).stem for path, text in books if _called(function).search(text)]


def mistakes_of(statement: Statement) -> list[str]:
    """Return the mistakes that break a statement: of the catalogue, or else flags of its functions' vectors."""
    names = [name for name in every_mutant() if any(fnmatchcase(name, pattern) for pattern in statement.mistakes)]
    if names:
        return names
    files = set().union(*(vectors_by_name().get(one.rpartition(".")[2], set()) for one in statement.functions))
    return [
        flag
        for file in sorted(files)
        for flag in json.loads(_sources("golden/vectors/*.json")[_vectors(file)])["flags"]
    ]


def _vectors(name: str) -> str:
    return f"golden/vectors/{name}.json"


def citations() -> Iterator[tuple[str, str]]:
    """Give each function, and file of tables, whose Source field names the report, and the field."""
    for path, text in _sources("ref/**/*.py").items():
        tree = ast.parse(text)
        module = path.removesuffix(".py").replace("/", ".")
        nodes = [node for node in ast.walk(tree) if isinstance(node, (ast.Module, ast.FunctionDef, ast.ClassDef))]
        for node in nodes:
            told = re.search(r"^Source: (.*?)(?=^\w+:|^$|\Z)", ast.get_docstring(node) or "", re.M | re.S)
            if told and CITES.search(told[1]):
                yield f"{module}.{getattr(node, 'name', '')}".rstrip("."), " ".join(told[1].split())


def _few(names: list[str]) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:MOST])
    return f"{shown} and {len(names) - MOST} more" if len(names) > MOST else shown


def page() -> str:
    """Return the page's text."""
    rows = [
        (
            one.section,
            one.says,
            ", ".join(f"`{function}`" for function in one.functions),
            ", ".join(f"`{test}`" for test in dict.fromkeys(map(test_of, one.functions)) if test),
            _few(mistakes_of(one)),
            ", ".join(dict.fromkeys(book for function in one.functions for book in notebooks_of(function)[:2])),
        )
        for one in STATEMENTS
    ]
    head = ("section", "the report says", "function", "test", "mistakes", "notebook")
    cited = [(f"`{function}`", source) for function, source in citations()]
    sources = "## Where the code cites it\n\nThe `Source` fields that name the report.\n\n"
    top = f"# From the paper to the code\n\n{made_line('make_paper.py')}\n\n{ABOUT}\n"
    return f"{top}{table(head, rows)}\n{sources}{table(('function', 'source'), cited)}"


if __name__ == "__main__":
    sys.exit(write_or_check("paper.md", page()))
