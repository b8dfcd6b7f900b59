"""docs/adding.md, followed: its mistake is found and named, its adapter runs, its size is a model, its files exist."""

import dataclasses
import json
import os
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
from support.judged import captured, dumped

import ref
from ref.capture import adapters
from ref.cli import main
from ref.config import SIZES
from ref.errors import BadInput
from ref.hypotheses.families import FAMILIES
from ref.mutants import tap_mutants
from ref.testing import break_port

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/adding.md").read_text()
IDS = [2, 33, 5, 80, 7, 11, 3, 90]


def block(marker: str) -> str:
    """Return the code after a marker of the page."""
    return re.search(rf"<!-- {marker} -->\n```\w+\n(.*?)^```", PAGE, re.M | re.S)[1]


def named(marker: str) -> dict:
    names: dict = {}
    exec(block(marker), names)
    return names


def test_every_file_on_the_page_exists():
    paths = set(re.findall(r"`((?:ref|tests|golden|docs)/[\w./]+|README\.md|pyproject\.toml)`", PAGE))
    assert len(paths) > 25
    assert [one for one in paths if not (ROOT / one).exists()] == []


def test_every_table_on_the_page_is_where_it_says():
    for name, path in (
        ("MAKERS", "golden/make/vectors.py"),
        ("OURS", "tests/golden_files/test_vectors.py"),
        ("ORACLE", "tests/golden_files/test_vectors.py"),
        ("TWO_SIDED", "ref/judge/ask.py"),
        ("SIZES", "ref/config.py"),
        ("RELEASED", "ref/config.py"),
        ("HAS_VISION", "ref/config.py"),
        ("REPORT", "ref/model/count.py"),
        ("REPORT", "ref/quant/memory.py"),
        ("ADAPTERS", "ref/capture/adapters.py"),
        ("FAMILIES", "ref/hypotheses/families.py"),
    ):
        assert f"`{name}`" in PAGE
        assert re.search(rf"^{name}\b.*=", (ROOT / path).read_text(), re.M), (name, path)


def test_every_script_on_the_page_is_there():
    scripts = re.findall(r"`python ([\w/]+\.py)`", PAGE)
    assert len(scripts) >= 4
    assert [one for one in scripts if not (ROOT / one).exists()] == []


@pytest.fixture
def mistake(monkeypatch):
    """The page's mistake, in the catalogue while a test runs."""
    rules = named("made-up mistake")["rules"]
    [function] = rules.values()
    like = next(iter(tap_mutants().values()))
    replace = getattr(like, "_replace", None) or (lambda **fields: dataclasses.replace(like, **fields))
    made = replace(name=function.__name__, what=function.__doc__, rules=rules)
    monkeypatch.setitem(tap_mutants(), made.name, made)
    return made.name


def test_the_mistake_is_named_in_a_dump_that_has_it(mistake, tmp_path):
    loaded = ref.load("tiny")
    port = break_port(tmp_path / "dump", loaded, IDS, mistake)
    report = ref.compare(port.path, loaded=loaded)
    assert report["verdict"] == "bug"
    assert report["first"]["tap"] == "text.layer.0.ffn.act"
    assert (report["diagnosis"][0]["mutant"], report["diagnosis"][0]["verdict"]) == (mistake, "named")


def test_without_its_entry_the_mistake_has_no_name(mistake, tmp_path, monkeypatch):
    loaded = ref.load("tiny")
    port = break_port(tmp_path / "dump", loaded, IDS, mistake)
    monkeypatch.delitem(tap_mutants(), mistake)
    report = ref.compare(port.path, loaded=loaded)
    assert report["verdict"] == "bug"
    assert not [one for one in report["diagnosis"] if one["verdict"] == "named"]


@pytest.fixture
def family(monkeypatch):
    """The page's family, among the others while a test runs."""
    names = named("made-up family")
    monkeypatch.setattr("ref.hypotheses.families.FAMILIES", (*FAMILIES, names["family"]))
    return names


def with_slope(names, slope):
    def rule(at):
        return names["swish"](at["ffn.gate"], at["ffn.up"], slope).astype(at.ops.dtype, copy=False)

    return dumped(captured({names["ACT"]: rule}, only=2))


def test_the_mistake_with_a_number_is_named_with_it(family):
    report = ref.compare(with_slope(family, 1.3), loaded=ref.load("tiny"))
    [cause] = report["causes"]
    assert (cause["mutant"], cause["verdict"], cause["layers"]) == ("swish_of", "named", [2])
    [slope] = cause["parameters"]
    assert slope["name"] == "slope"
    assert abs(slope["value"] - 1.3) < 6 * slope["stderr"] + 1e-6


def test_of_a_number_that_the_catalogue_has_the_catalogue_is_named(family):
    [cause] = ref.compare(with_slope(family, 1.0), loaded=ref.load("tiny"))["causes"]
    assert (cause["mutant"], cause["parameters"]) == ("ffn_silu", [])


def test_without_the_family_there_is_no_name():
    report = ref.compare(with_slope(named("made-up family"), 1.3), loaded=ref.load("tiny"))
    assert report["verdict"] == "bug"
    assert not [one for one in report["causes"] if one["verdict"] == "named"]


@pytest.fixture
def package(tmp_path):
    """Install the page's adapter into a folder of its own, as pip would."""
    project = tomllib.loads(block("made-up registration"))["project"]
    [(group, points)] = project["entry-points"].items()
    [(name, module)] = points.items()
    folder = tmp_path / "site"
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {module}\n")
    (folder / f"{module}.py").write_text(block("made-up adapter"))
    return folder


def ran(package: Path, *arguments: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT), str(package)))}
    command = [sys.executable, "-m", "ref", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=package.parent)


def test_the_adapter_runs_through_the_command_and_its_dump_matches(package):
    [command] = re.findall(r"`gemma3-ref (capture mine [^`]+)`", PAGE)
    done = ran(package, *command.split(), "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["passes"] == [{"ids": 4, "cached": 0}]
    report = ref.compare(package.parent / "dump", loaded=ref.load("tiny"))
    assert report["verdict"] == "match"
    assert [row["tap"] for row in report["taps"]] == ["text.embed"]


def test_the_help_names_the_adapter_and_its_package(package):
    told = ran(package, "capture", "--help").stdout
    assert re.search(r"mine\s+write a dump of a run of an adapter of\s+my-gemma 1.0", told)
    assert "keras-hub" in told


def test_a_flag_that_the_adapter_has_no_argument_for_is_refused(package):
    done = ran(package, "capture", "mine", "--weights", "tiny", "--ids", "2,33", "--dtype", "bfloat16", "-o", "dump")
    assert done.returncode == 2
    assert "--dtype: wanted a witness that takes it; mine does not, got bfloat16" in done.stderr
    assert not (package.parent / "dump").exists()


def test_an_adapter_that_cannot_be_imported_is_refused_in_one_line(package):
    (package / "my_gemma_capture.py").write_text("import no_such_framework\n")
    done = ran(package, "capture", "mine", "--weights", "tiny", "--ids", "2,33", "-o", "dump")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "no_such_framework" in done.stderr


@pytest.mark.parametrize(
    ("module", "refusal"),
    [
        ("json", "json: adapter: wanted a function capture_weights, got none"),
        ("no_such", "no_such: adapter: wanted a module that can be imported, got No module named 'no_such'"),
    ],
)
def test_a_module_that_is_no_adapter_is_refused(module, refusal):
    with pytest.raises(BadInput) as error:
        adapters.load_adapter(adapters.Adapter(module, "nothing"))
    assert str(error.value) == refusal


def test_a_name_of_ours_cannot_be_taken_by_another_package(package):
    info = next(package.glob("*.dist-info"))
    (info / "entry_points.txt").write_text("[gemma3_ref.capture]\nkeras = my_gemma_capture\n")
    told = ran(package, "capture", "--help").stdout
    assert "an adapter of" not in told


@pytest.mark.parametrize("name", adapters.ADAPTERS)
def test_our_adapters_take_what_the_command_gives(name):
    function = adapters.load_adapter(adapters.ADAPTERS[name])
    names = function.__code__.co_varnames[: function.__code__.co_argcount + function.__code__.co_kwonlyargcount]
    assert names[:3] == ("weights", "prompts", "out")
    assert {"steps", "taps"} <= set(names)


def test_the_table_of_adapters_loads_nothing():
    code = "import sys; before = set(sys.modules); import ref.capture.adapters\n"
    code += "print(sorted(name for name in set(sys.modules) - before if name.split('.')[0] in ('numpy', 'numba')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_size_is_a_model(monkeypatch, tmp_path):
    size = named("made-up size")["size"]
    monkeypatch.setitem(SIZES, size.name, size)
    assert main(["params", size.name]) == 0
    out = str(tmp_path / "dump")
    assert main(["trace", "--weights", f"synthetic:{size.name}", "--ids", "2,33,5,80", "-o", out]) == 0
    assert ref.compare(out)["verdict"] == "match"


def test_the_page_says_where_our_adapters_are():
    for name in adapters.ADAPTERS.values():
        assert import_module(name.module).__file__.startswith(str(ROOT / "ref/capture"))
