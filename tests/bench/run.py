"""Measure rows one after the other, and say what the run was."""

import shlex
import subprocess
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any, TextIO

from .alternate import measure
from .environment import ROOT, commit, machine
from .figures import figures
from .files import Files
from .row import OURS, PEERS, Options, Row, python_of

EXTRAS = {"transformers": "witness", "llama.cpp": "llama"}


def run_all(
    rows: Sequence[Row],
    options: Options,
    folder: Path,
    each: Callable[[dict[str, Any], dict[str, Any]], None],
    out: TextIO,
    arguments: Sequence[str],
) -> dict[str, Any]:
    """Measure rows.

    Args:
        rows: which.
        options: how.
        folder: for files that others read.
        each: called with the run so far and its newest row.
        out: where it is said which implementation is not there.
        arguments: of the command line, to be repeated.

    Returns:
        What `--json` prints.
    """
    files = Files(folder, options)
    absent = {by: line for by in options.against if (line := why_absent(by, options))}
    for line in absent.values():
        print(line, file=out, flush=True)
    run: dict[str, Any] = {
        "command": shlex.join(["python", "-m", "tests.bench", *_public(arguments)]),
        "date": date.today().isoformat(),
        "machine": machine(),
        "threads": options.threads,
        "commit": commit(ROOT),
        "versions": {},
        "left out": list(absent.values()),
        "rows": [],
    }
    if options.beside:
        run["versions"][f"beside {options.beside.name}"] = commit(options.beside)
    for row in rows:
        entries = [entry for entry in row.entries if entry.by not in absent]
        taken, left_out = measure(row._replace(entries=entries), options, files)
        for one in taken:
            run["versions"] |= {k: v for k, v in one.versions.items() if one.entry.by == OURS or k != "Python"}
        run["rows"].append(figures(row, taken, left_out))
        each(run, run["rows"][-1])
    return run


def why_absent(by: str, options: Options) -> str:
    """Say in one line that an implementation is not installed; nothing where it is."""
    python = python_of(by, options)
    asked = f"import importlib.util as u, sys; sys.exit(u.find_spec({PEERS[by]!r}) is None)"
    try:
        there = subprocess.run([python, "-c", asked], capture_output=True, check=False).returncode == 0
    except OSError:
        return f"{by}: left out, no Python at {python}"
    return "" if there else f'{by}: left out, not installed (pip install -e ".[{EXTRAS[by]}]")'


def _public(arguments: Sequence[str]) -> list[str]:
    """Return arguments without this machine's paths."""
    return [one if not Path(one).is_absolute() else Path(one).name for one in arguments]


def together(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return several runs of one machine as one; of a row that comes twice, the later."""
    found = dict(runs[-1])
    rows = {(row["row"], row["form"]): row for run in runs for row in run["rows"]}
    versions = {name: value for run in runs for name, value in run["versions"].items()}
    commands = "`, `".join(dict.fromkeys(run["command"] for run in runs))
    left_out = list(dict.fromkeys(line for run in runs for line in run["left out"]))
    return found | {"rows": [*rows.values()], "versions": versions, "command": commands, "left out": left_out}
