"""docs/status.md is what the code says now, and says so where something is missing."""

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from ref.ops import Ops, norm

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "docs"))

import generated  # noqa: E402
import make_status  # noqa: E402


def rows(text: str) -> dict[str, list[str]]:
    """Return the table's cells by operation."""
    cells = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    return {one[0].strip("`"): one[1:] for one in cells}


def test_the_page_is_up_to_date():
    assert (ROOT / "docs/status.md").read_text() == make_status.page(), "python docs/make_status.py"


def test_every_float_op_has_a_kernel_and_a_test():
    by_field = {field: op for op in make_status.operations() for field in op.fields}
    assert set(by_field) == set(Ops._fields)
    assert [op.name for op in by_field.values() if op.kernel is None] == []
    table = rows(make_status.page())
    assert [op.name for op in by_field.values() if table[f"{op.module}.{op.name}"][-1] == "—"] == []


def test_every_float_op_has_a_witness():
    table = rows(make_status.page())
    ours = [f"{op.module}.{op.name}" for op in make_status.operations() if op.fields]
    assert [name for name in ours if table[name][2] == "—"] == []


def test_every_vector_file_stands_beside_an_operation():
    text = make_status.page()
    files = {path.stem: len(json.loads(path.read_text())["vectors"]) for path in ROOT.glob("golden/vectors/*.json")}
    # encoders are in ref/quant, which is no room of operations
    assert [name for name in files if f"{name} ({files[name]})" not in text] == ["quantise"]


def test_a_kernel_that_is_gone_is_missing_on_the_page(monkeypatch):
    monkeypatch.delattr(norm, "rms_norm_jit")
    assert rows(make_status.page())["norm.rms_norm"][0] == "missing"


def test_a_mistake_more_is_counted(monkeypatch):
    before = rows(make_status.page())["norm.rms_norm"][3]
    mutants = dict(make_status.tap_mutants())
    mutants["made_up"] = SimpleNamespace(name="made_up", what="nothing", rules={"text.final_norm": None})
    monkeypatch.setattr(make_status, "tap_mutants", lambda: mutants)
    after = rows(make_status.page())["norm.rms_norm"][3]
    count = int(re.match(r"\d+", before)[0])
    assert re.match(r"\d+", after)[0] == str(count + 1)


@pytest.mark.parametrize(("change", "code"), [("", 0), ("one more line\n", 1)])
def test_check_writes_nothing_and_fails_where_the_page_is_old(tmp_path, monkeypatch, capsys, change, code):
    (tmp_path / "docs").mkdir()
    page = tmp_path / "docs/status.md"
    page.write_text("as it is\n" + change)
    monkeypatch.setattr(generated, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "argv", ["make_status.py", "--check"])
    assert generated.write_or_check("status.md", "as it is\n") == code
    assert page.read_text() == "as it is\n" + change
    assert ("make_status.py" in capsys.readouterr().err) == bool(code)
