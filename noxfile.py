"""Everyday commands: `nox -s tests`, or `nox --no-venv -s tests` in an environment that has the extras already.

    nox -l                                   what there is
    nox -s tests -- tests/ops -k norm        after `--`: arguments of the tool

`.ci/run` is all of it in one fresh environment.
"""

from pathlib import Path

import nox

nox.needs_version = ">=2024.4.15"
nox.options.sessions = ["lint", "types", "tests"]
nox.options.reuse_existing_virtualenvs = True


def install(session: nox.Session, extras: str) -> None:
    """Install this project with extras, unless the session runs in the caller's environment (`--no-venv`)."""
    if session.venv_backend != "none":
        session.install("-q", "-e", f".[{extras}]")


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests on every core; arguments are pytest's."""
    install(session, "test,weights")
    session.run("python", "-m", "pytest", "-q", "-n", "auto", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check lint, format, import direction, spelling and golden digests."""
    install(session, "test")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports")
    pages = sorted(str(page) for page in (*Path().glob("*.md"), *Path("docs").glob("*.md")))
    session.run("codespell", "ref", "tests", "golden/make", "examples", *pages)
    session.run("python", "-m", "ref", "golden", "check")


@nox.session
def types(session: nox.Session) -> None:
    """Check types."""
    install(session, "test")
    session.run("pyright", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Make the tables of docs/ again, then the site in build/site."""
    install(session, "docs")
    session.run("python", "docs/make_status.py")
    session.run("python", "docs/make_paper.py")
    session.run("python", "docs/make_mistakes.py")
    session.run("python", "-m", "sphinx", "-q", "-W", "-b", "html", "docs", "build/site")


@nox.session
def notebooks(session: nox.Session) -> None:
    """Execute every notebook in a fresh kernel; arguments are names, such as 03_visibility."""
    install(session, "notebooks,report")
    session.run("python", "notebooks/run.py", *(session.posargs or ["--check"]))


@nox.session
def bench(session: nox.Session) -> None:
    """Run the benchmark that no clean dump is called a bug; an argument chooses another file of tests/bench."""
    install(session, "test,weights")
    script, *arguments = session.posargs or ["clean.py"]
    session.run("python", f"tests/bench/{script}", *arguments)
