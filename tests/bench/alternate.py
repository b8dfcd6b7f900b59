"""Run a row: a process for each entry, prepared, then asked for one timing at a time in turn."""

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from .environment import ROOT, THREADS, last_words
from .files import Files
from .row import Entry, Failed, Options, Row, Taken, python_of

REST = 0.05  # seconds after a timing, in which the threads of its process stop spinning


class Child:
    """A process that runs `child.py`.

    Args:
        python: that runs it.
        threads: of all its libraries.
        checkout: whose `ref` it imports.
    """

    def __init__(self, python: str, threads: int, checkout: Path):
        paths = os.pathsep.join([str(checkout), str(ROOT / "tests")])
        environment = os.environ | dict.fromkeys(THREADS, str(threads)) | {"PYTHONPATH": paths}
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115  closed in `close`
        command = [python, "-m", "bench.child"]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            command, env=environment, cwd=checkout, stdin=pipe, stdout=pipe, stderr=self.log, text=True
        )
        assert self.process.stdin
        assert self.process.stdout
        self.to, self.answers = self.process.stdin, self.process.stdout

    def ask(self, **asked: Any) -> dict[str, Any]:
        """Ask for one thing and return the answer.

        Raises:
            Failed: the process says so, or has ended.
        """
        try:
            print(json.dumps(asked), file=self.to, flush=True)
            line = self.answers.readline()
        except BrokenPipeError:
            line = ""
        answer = json.loads(line) if line else {"error": self.last_words()}
        if "error" in answer:
            raise Failed(answer["error"])
        return answer

    def last_words(self) -> str:
        """Say how the process ended."""
        code = self.process.wait()
        self.log.seek(0)
        return last_words(self.log.read(), code)

    def close(self) -> None:
        """Let the process end, and wait."""
        with suppress(BrokenPipeError):  # it may have ended
            self.to.close()
        self.process.wait()
        self.answers.close()
        self.log.close()


class Timed:
    """An entry with its process: prepared, then asked for one timing at a time."""

    def __init__(self, entry: Entry, options: Options, files: Files):
        self.entry, self.seconds, self.cores, self.peak = entry, [], [], 0
        given = {name: files.resolve(value) for name, value in entry.given.items()}
        self.child = Child(python_of(entry.by, options), options.threads, entry.checkout or ROOT)
        try:
            self.versions = self.child.ask(prepare=entry.job, given=given)["versions"]
        except Failed:
            self.child.close()
            raise

    def take(self, counts: bool) -> None:
        """Take one timing."""
        answer = self.child.ask(time=True)
        time.sleep(REST)
        self.peak = max(self.peak, answer["peak"])
        if counts:
            self.seconds.append(answer["seconds"])
            self.cores.append(answer["cores"])

    def taken(self) -> Taken:
        """Return the timings."""
        return Taken(self.entry, self.seconds, self.cores, self.peak, self.versions)


def measure(row: Row, options: Options, files: Files) -> tuple[list[Taken], dict[str, str]]:
    """Measure a row; return the timings of its entries, and of those left out why."""
    groups = [[entry] for entry in row.entries] if row.alone else [row.entries]
    taken: list[Taken] = []
    left_out: dict[str, str] = {}
    for group in groups:
        taken += _measure_together(row, group, options, files, left_out)
    return taken, left_out


def _measure_together(
    row: Row, entries: Sequence[Entry], options: Options, files: Files, left_out: dict[str, str]
) -> list[Taken]:
    ready: list[Timed] = []
    try:
        for entry in entries:
            _or_leave_out(lambda entry=entry: ready.append(Timed(entry, options, files)), entry, left_out)
        rounds = min(options.rounds, row.most)
        for number in range(-1 if row.warm else 0, rounds):
            for one in ready[:: -1 if number % 2 else 1]:  # who is first in one round is last in the next
                if one.entry.name not in left_out:
                    _or_leave_out(lambda one=one, number=number: one.take(number >= 0), one.entry, left_out)
    finally:
        for one in ready:
            one.child.close()
    return [one.taken() for one in ready if one.entry.name not in left_out]


def _or_leave_out(do: Callable[[], object], entry: Entry, left_out: dict[str, str]) -> None:
    try:
        do()
    except Failed as error:
        left_out[entry.name] = str(error)
