"""Make docs/status.md: a row per operation, what it has and what it lacks.

python docs/make_status.py            writes the page
python docs/make_status.py --check    fails where it is not up to date
"""

import ast
import importlib
import inspect
import json
import pkgutil
import sys
from collections.abc import Callable
from typing import NamedTuple

from generated import ROOT, made_line, table, write_or_check

sys.path.insert(0, str(ROOT))

import ref.ops
from ref.model.tap_rows import LAYER_TAPS, MERGED, TEXT_TAPS, VISION_LAYER_TAPS, VISION_TAPS
from ref.model.taps import tap_row
from ref.mutants import tap_mutants

MACHINE = ("simd", "blas")  # the machine's side: no operation of the model
PARTS = ("attend_blocks", "slot_keys", "triangle_weights", "rows_first", "take_rows")  # of another operation
# what stands beside the vectors: tests that hold what they import from `ref.ops` to numbers of a witness
WITNESSED = {
    "golden_files/test_second_witness.py": "google-deepmind/gemma 3.3.0",
    "ops/test_masks.py": "transformers 5.23.0",
    "ops/test_patches.py": "torch 2.13.0",
    "ops/test_rounding.py": "ml_dtypes",
}
SETS = ("ops", "DEFINITION", "KERNEL")  # what tests call an `Ops`
ABOUT = """\
An operation is a public function of `ref/ops` with a `Source` field. A dash: there is none.

- **Kernel**: its compiled twin. "one rule": integers or bits, one function, proved by properties.
- **Vector**: the file of `golden/vectors` that it is run on, and how many vectors that has.
- **Witness**: who made the numbers that it is held against. "taps": every value that it makes in the model is also held
  against transformers in float64 (`golden/cases`).
- **Mistakes**: how many mistakes of the catalogue (`ref.mutants`) stand in its place in the model, and how many flags
  its vectors have.
- **Test**: files of `tests` that call it by name.
"""


class Op(NamedTuple):
    """A public function of `ref/ops`."""

    name: str
    module: str  # such as norm
    function: Callable
    kernel: str | None

    @property
    def fields(self) -> set[str]:
        """Return its names in `Ops`, whose field may have a shorter one."""
        return {field for field in ref.ops.Ops._fields if getattr(ref.ops.DEFINITION, field) is self.function}


def operations() -> list[Op]:
    """List the operations, file by file in the order of the alphabet."""
    found = []
    for file in pkgutil.iter_modules(ref.ops.__path__):
        if file.name in MACHINE:
            continue
        module = importlib.import_module(f"ref.ops.{file.name}")
        for name, function in vars(module).items():
            plain = getattr(function, "py_func", function)  # some rules are compiled under their plain name
            own = inspect.isfunction(plain) and plain.__module__ == module.__name__
            public = not name.startswith("_") and not name.endswith("_jit") and name not in PARTS
            if own and public and "\nSource:" in (inspect.getdoc(plain) or ""):
                found.append(Op(name, file.name, function, _kernel(module, name)))
    return found


def _kernel(module, name: str) -> str | None:
    return f"{name}_jit" if hasattr(module, f"{name}_jit") else None


def vectors_by_name() -> dict[str, set[str]]:
    """Return which vector files run which names: fields of `Ops`, or functions.

    They are read off `OURS` in tests/golden_files/test_vectors.py, which takes a file's inputs to our functions.
    """
    tree = ast.parse((ROOT / "tests/golden_files/test_vectors.py").read_text(encoding="utf-8"))
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    [ours] = [node.value for node in tree.body if isinstance(node, ast.Assign) and _assigns(node, "OURS")]
    assert isinstance(ours, ast.Dict)
    found: dict[str, set[str]] = {}
    for key, value in zip(ours.keys, ours.values, strict=True):
        for name in _used(value, functions):
            found.setdefault(name, set()).add(ast.literal_eval(key))  # type: ignore[arg-type]
    return found


def _assigns(node: ast.Assign, name: str) -> bool:
    return any(isinstance(one, ast.Name) and one.id == name for one in node.targets)


def _used(node: ast.AST, functions: dict[str, ast.FunctionDef]) -> set[str]:
    """Return names and attributes in a piece of code, and in the functions of the same file that it calls."""
    names = {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
    names |= {one.attr for one in ast.walk(node) if isinstance(one, ast.Attribute)}
    for name in names & functions.keys():
        names |= _used(functions[name], {other: body for other, body in functions.items() if other != name})
    return names


def tests_by_name() -> dict[str, set[str]]:
    """Return which test files, such as ops/test_norm.py, import or call which functions of `ref.ops`."""
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / "tests").glob("*/test_*.py")):
        names = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ref.ops"):
                names |= {one.name for one in node.names}
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in SETS:
                names.add(node.attr)
        for name in names:
            found.setdefault(name, set()).add(f"{path.parent.name}/{path.name}")
    return found


def mistakes_by_op() -> dict[str, set[str]]:
    """Return the names of mistakes in the model by the op of the tap that they change."""
    found: dict[str, set[str]] = {}
    for mutant in tap_mutants().values():
        for group in mutant.rules:
            row = tap_row(group.replace("*", "0"))
            if row:
                found.setdefault(row.op, set()).add(mutant.name)
    return found


def ops_of_taps() -> set[str]:
    """Return the ops whose values are taps."""
    tables = (LAYER_TAPS, TEXT_TAPS, MERGED, VISION_LAYER_TAPS, VISION_TAPS)
    return {row.op for rows in tables for row in rows.values()}


def _count(count: int, what: str) -> str:
    return f"{count} {what}" + "s" * (count != 1)


def _shortest(files: list[str]) -> list[str]:
    """Return those of the ops' own room, or else the first two of others."""
    own = [file for file in files if file.startswith("ops/") and file != "ops/test_pairs.py"]
    return [f"`{file}`" for file in own or files[:2]]


def page() -> str:
    """Return the page's text."""
    files = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in ROOT.glob("golden/vectors/*.json")}
    used, tests, mistakes, tapped = vectors_by_name(), tests_by_name(), mistakes_by_op(), ops_of_taps()
    rows = []
    for op in operations():
        names = op.fields | {op.name}
        vectors = sorted(set().union(*(used.get(name, set()) for name in names)))
        called = sorted(set().union(*(tests.get(name, set()) for name in (*names, op.kernel or ""))))
        witnesses = {WITNESSED[file] for file in called if file in WITNESSED} | {
            source for file in vectors for source, row in files[file]["sources"].items() if row["kind"] == "witness"
        }
        taps = ["taps"] if names & tapped else []
        known = set().union(*(mistakes.get(name, set()) for name in names))
        flags = {flag for file in vectors for flag in files[file]["flags"]}
        rows.append(
            (
                f"`{op.module}.{op.name}`",
                f"`{op.kernel}`" if op.kernel else "missing" if op.fields else "one rule",
                ", ".join(f"{file} ({len(files[file]['vectors'])})" for file in vectors),
                ", ".join(sorted(witnesses) + taps),
                ", ".join([f"{len(known)} in the model"] * bool(known) + [_count(len(flags), "flag")] * bool(flags)),
                ", ".join(_shortest(called)),
            )
        )
    head = ("definition", "kernel", "vector", "witness", "mistakes", "test")
    return f"# Status of the operations\n\n{made_line('make_status.py')}\n\n{ABOUT}\n{table(head, rows)}"


if __name__ == "__main__":
    sys.exit(write_or_check("status.md", page()))
