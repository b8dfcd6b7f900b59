"""The everyday commands of noxfile.py: what each runs, without running it, and without nox."""

import re
import tomllib
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
NAMES = ("tests", "lint", "types", "docs", "notebooks", "bench")


class Session:
    """What a session is told, in the place of nox's own."""

    def __init__(self, venv_backend, *posargs):
        self.venv_backend, self.posargs = venv_backend, list(posargs)
        self.installed, self.commands = [], []

    def install(self, *arguments):
        self.installed.append(arguments)

    def run(self, *command):
        self.commands.append(command)


@pytest.fixture
def sessions(monkeypatch):
    found = {}
    nox = SimpleNamespace(
        options=SimpleNamespace(),
        session=lambda function: found.setdefault(function.__name__, function),
        Session=Session,
    )
    monkeypatch.setitem(__import__("sys").modules, "nox", nox)
    monkeypatch.chdir(ROOT)
    run_path(str(ROOT / "noxfile.py"))
    return found


def test_the_sessions_are_there_and_say_what_they_do(sessions):
    assert tuple(sessions) == NAMES
    assert all(one.__doc__ for one in sessions.values())


@pytest.mark.parametrize("name", NAMES)
def test_a_session_installs_extras_that_exist_and_runs_files_that_exist(sessions, name):
    session = Session("virtualenv")
    sessions[name](session)
    [(*_, what)] = session.installed
    asked = re.fullmatch(r"\.\[(.+)\]", what)[1].split(",")
    assert set(asked) <= set(EXTRAS)
    files = [word for command in session.commands for word in command if word.endswith((".py", ".md"))]
    assert [file for file in files if not (ROOT / file).is_file()] == []
    assert session.commands


@pytest.mark.parametrize("name", NAMES)
def test_a_session_in_the_callers_environment_installs_nothing(sessions, name):
    session = Session("none")
    sessions[name](session)
    assert session.installed == []
    assert session.commands


def test_arguments_are_the_tools(sessions):
    session = Session("none", "-k", "norm")
    sessions["tests"](session)
    assert session.commands[-1][-2:] == ("-k", "norm")
    session = Session("none", "formats.py", "64")
    sessions["bench"](session)
    assert session.commands == [("python", "tests/bench/formats.py", "64")]
