"""What is measured: rows, and the entries that do a row's work."""

import sys
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

FORMS = ("file", "q8_0", "bfloat16", "float32")  # how weights are held; `file` is Q4_K_M in the 270M
OURS, TRANSFORMERS, LLAMA = "ref", "transformers", "llama.cpp"
PEERS = {TRANSFORMERS: "transformers", LLAMA: "llama_cpp"}  # what each is imported as


class Options(NamedTuple):
    """What the command line asks for."""

    model: str = "270m"
    forms: Sequence[str] = FORMS
    against: Sequence[str] = tuple(PEERS)
    beside: Path | None = None  # another checkout of this project
    llama_python: str = ""
    rounds: int = 5
    threads: int = 1
    longest: int = 131_072


class Failed(Exception):
    """Something that cannot be measured; the message is one line."""


def python_of(by: str, options: Options) -> str:
    """Return the Python that an entry runs in."""
    return options.llama_python if by == LLAMA and options.llama_python else sys.executable


class Entry(NamedTuple):
    """One that does a row's work, in a process of its own."""

    name: str
    job: str  # module:function of this package, which returns a Job
    given: Mapping[str, Any] = {}  # the function's arguments; a text `file:KEY` is a file that `files.py` makes
    by: str = OURS  # whose process it is: OURS or one of PEERS
    checkout: Path | None = None  # whose `ref` it imports; None is this one's
    beside: str | None = None  # the entry that its ratio is over; None is the row's first


class Taken(NamedTuple):
    """The timings of one entry."""

    entry: Entry
    seconds: list[float]  # of the clock, in each round that counts
    cores: list[float]  # of all cores together
    peak: int  # the most bytes that its process held
    versions: dict[str, str]  # of what its process had loaded


class Row(NamedTuple):
    """A piece of work."""

    name: str
    what: str  # in a few words
    entries: Sequence[Entry]
    amount: float = 1  # that a timing does
    unit: str = ""  # of amount / seconds; none where seconds say it
    form: str = ""  # one of FORMS, where weights can be held in several
    alone: bool = False  # each process ends before the next begins, instead of alternating
    most: int = 100  # rounds; for what takes minutes
    warm: bool = True  # whether a round goes before that does not count
    limit: float = 0.0  # on the ratios, where there is one

    @property
    def full_name(self) -> str:
        """The name, with the form of the weights."""
        return f"{self.name}/{self.form}" if self.form else self.name


class Job(NamedTuple):
    """What a process was prepared for."""

    run: Callable[[], object]  # is timed
    before: Callable[[], object] = lambda: None  # makes ready for one run, is not timed


def chosen(rows: Sequence[Row], patterns: Sequence[str], options: Options) -> list[Row]:
    """Return the rows that patterns name, each with the entries that are asked for."""
    patterns = patterns or ["*"]
    found = []
    for row in rows:
        named = any(fnmatchcase(name, one) for one in patterns for name in (row.name, row.full_name))
        if named and (not row.form or row.form in options.forms):
            found.append(row._replace(entries=_asked(row.entries, options)))
    return found


def _asked(entries: Sequence[Entry], options: Options) -> list[Entry]:
    kept = []
    for entry in entries:
        if entry.by == OURS or entry.by in options.against:
            kept.append(entry)
        if entry.by == OURS and options.beside:
            other = f"{entry.name} of {options.beside.name}"
            kept.append(entry._replace(name=other, checkout=options.beside, beside=entry.name))
    return kept
