"""What people expect of a package: names at the top, types, a citation, a security page, forms."""

import ast
import inspect
import re
import tomllib
from datetime import date
from importlib import resources
from pathlib import Path

import pytest
import yaml

import ref
import ref.testing

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PUBLIC = [(module, name) for module in (ref, ref.testing) for name in module._HOMES]
FORMS = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))


def test_what_the_readme_uses_stands_at_the_top():
    assert {"compare", "How", "Recorder", "load", "forward", "forward_images"} <= set(ref._HOMES)


@pytest.mark.parametrize("module", [ref, ref.testing])
def test_type_checkers_see_the_names_that_load_on_first_use(module):
    tree = ast.parse(Path(module.__file__).read_text())
    [seen] = [node for node in tree.body if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)]
    told = {one.asname: node.module for node in seen.body for one in node.names}
    assert told == module._HOMES


@pytest.mark.parametrize(("module", "name"), PUBLIC, ids=[name for _, name in PUBLIC])
def test_public_functions_say_their_types(module, name):
    value = getattr(module, name)
    functions = [value] if inspect.isfunction(value) else []
    if inspect.isclass(value) and value.__module__.startswith("ref."):
        own = [(one, function) for one, function in vars(value).items() if inspect.isfunction(function)]
        functions += [function for one, function in own if one == "__init__" or not one.startswith("_")]
    for function in functions:
        # of a named tuple and the like: made, not written
        if not function.__module__.startswith("ref."):
            continue
        signature = inspect.signature(function)
        bare = [p.name for p in signature.parameters.values() if p.annotation is p.empty and p.name != "self"]
        assert bare == [], function
        assert function.__name__ == "__init__" or signature.return_annotation is not signature.empty, function


def test_the_wheel_says_that_it_is_typed():
    assert resources.files("ref").joinpath("py.typed").is_file()
    assert PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == ["ref"]
    assert "Typing :: Typed" in PROJECT["project"]["classifiers"]


def test_no_classifier_contradicts_the_licence_expression():
    # PEP 639: a licence is said once
    assert not [one for one in PROJECT["project"]["classifiers"] if one.startswith("License ::")]


def test_the_citation_has_what_the_format_requires():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(cited)
    assert cited["cff-version"] == "1.2.0"
    assert cited["type"] in ("software", "dataset")
    # an entity has a name, a person names of two kinds
    for authors in (cited["authors"], *(one["authors"] for one in cited["references"])):
        assert authors
        assert all("name" in one or {"family-names", "given-names"} <= set(one) for one in authors)
    assert all({"authors", "title", "type"} <= set(one) for one in cited["references"])
    assert isinstance(cited.get("date-released", date.min), date)


def test_the_citation_agrees_with_the_package():
    cited, project = yaml.safe_load((ROOT / "CITATION.cff").read_text()), PROJECT["project"]
    assert (cited["version"], cited["license"]) == (project["version"], project["license"])
    assert cited["version"] == ref.__version__
    assert cited["keywords"] == project["keywords"]


def test_the_security_page_names_files_that_are_there_and_nobody():
    page = (ROOT / "SECURITY.md").read_text()
    files = re.findall(r"`((?:ref|golden)/[\w./]+)`", page)
    assert len(files) >= 6
    assert [one for one in files if not (ROOT / one).exists()] == []
    assert "private security advisory" in page
    assert not re.search(r"https?://|@\w", page)


def test_the_forms_ask_for_what_decides():
    assert [form.stem for form in FORMS] == ["config", "false-alarm", "wrong-reference"]
    needed = {"wrong-reference": {"source", "vector"}, "false-alarm": {"dump", "report"}}
    for form in FORMS:
        content = yaml.safe_load(form.read_text())
        if form.stem == "config":
            assert content["blank_issues_enabled"] is True
            continue
        assert content["name"]
        assert content["description"]
        asked = [field for field in content["body"] if field["type"] != "markdown"]
        names = [field["id"] for field in asked]
        assert len(set(names)) == len(names)
        assert all(field["attributes"]["label"] for field in asked)
        assert needed[form.stem] <= {field["id"] for field in asked if field["validations"]["required"]}
