"""What `compare` of many dumps writes while it judges: lines or JSON on stdout, JUnit XML, pages and their index."""

import json
import os
import re
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from tqdm import tqdm

from ref.commands.shared import finite
from ref.errors import BadInput, wanted
from ref.report.html import write_html
from ref.report.index import write_index
from ref.report.junit_many import Suites
from ref.report.many import COMMAND, NOT_JUDGED, SCHEMA_VERSION, Row, summary_lines, summary_of
from ref.report.page_data import Profiles
from ref.report.text import render_text

LONGEST = 60  # characters of a page's name


class Output(Protocol):
    """What is told of each dump, and at last of all."""

    def add(self, row: Row, report: dict[str, Any] | None, profiles: Profiles | None) -> Row:
        """Take a dump that was judged, or with no report one that was not; return its row, which may say more."""
        ...

    def end(self, rows: Sequence[Row], seconds: float) -> None:
        """Take all of them."""
        ...


class Lines:
    """A line per dump on stdout, or with --all its table; at last what was found in all."""

    def __init__(self, everything: bool, write: Any):
        self.everything, self.write = everything, write

    def add(self, row: Row, report: dict[str, Any] | None, profiles: Profiles | None) -> Row:
        """Print the verdict of a dump."""
        if self.everything and report:
            self.write(f"{row.name}:\n{render_text(report, everything=True)}\n")
        else:
            line = f"{row.verdict}: {row.line}" if row.verdict in NOT_JUDGED else row.line
            self.write(f"{row.name}: {line}")
        return row

    def end(self, rows: Sequence[Row], seconds: float) -> None:
        """Print what was found in all; the last line counts verdicts."""
        self.write("\n".join(summary_lines(rows)))


class Document:
    """One JSON document on stdout, a line per dump, as golden/schema/reports.schema.json says."""

    def __init__(self, write: Any):
        self.write, self.count = write, 0

    def add(self, row: Row, report: dict[str, Any] | None, profiles: Profiles | None) -> Row:
        """Print a report with its name, or why there is none."""
        refused = {"name": row.name, "verdict": row.verdict, "why": row.line}
        self._print({"name": row.name} | report if report else refused)
        return row

    def end(self, rows: Sequence[Row], seconds: float) -> None:
        """Close the document."""
        if not self.count:
            self.write(self._head())
        self.write(f'],\n"summary": {_json(summary_of(rows, seconds))}}}')

    def _print(self, item: dict[str, Any]) -> None:
        self.write((self._head() if not self.count else ",") + _json(item))
        self.count += 1

    def _head(self) -> str:
        return f'{{"schema_version": {SCHEMA_VERSION}, "command": "{COMMAND}", "dumps": [\n'


class Junit:
    """A JUnit XML file with a suite per dump."""

    def __init__(self, suites: Suites):
        self.suites = suites

    def add(self, row: Row, report: dict[str, Any] | None, profiles: Profiles | None) -> Row:
        """Write the suite of a dump down."""
        if report:
            self.suites.add(report, row.name)
        else:
            self.suites.add_refused(row.name, row.line, row.verdict)
        return row

    def end(self, rows: Sequence[Row], seconds: float) -> None:
        """Write the file."""
        self.suites.write()


class Pages:
    """The index page, and in a folder beside it a page per dump."""

    def __init__(self, index: Path, only_bad: bool):
        self.index, self.only_bad = index, only_bad
        self.folder = index.with_name(f"{index.stem}_pages")
        self.taken: set[str] = set()
        self.error: BadInput | None = None

    def check(self) -> None:
        """Make the folder.

        Raises:
            BadInput: it is a file, or cannot be made.
        """
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise wanted("folder of pages", self.folder, "a place that can be written", error.strerror) from None

    def add(self, row: Row, report: dict[str, Any] | None, profiles: Profiles | None) -> Row:
        """Write the page of a dump; where that fails the run goes on, and `end` says so."""
        moved = row.moved and (row.moved.worse or not row.moved.comparable)
        if not report or (self.only_bad and row.verdict == "match" and not moved):
            return row
        name = self._name(row.name)
        try:
            write_html(report, profiles, self.folder / name)
        except BadInput as error:
            self.error = self.error or error
            return row
        return row._replace(page=quote(f"{self.folder.name}/{name}"))

    def end(self, rows: Sequence[Row], seconds: float) -> None:
        """Write the index."""
        with suppress(OSError):  # where no dump has a page
            self.folder.rmdir()
        write_index(rows, self.index)
        if self.error:
            raise self.error

    def _name(self, name: str) -> str:
        """Return a file's name that every file system takes, and that no other dump has."""
        stem = re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._")[:LONGEST] or "dump"
        number, free = 1, stem
        while free.casefold() in self.taken:
            number += 1
            free = f"{stem}-{number}"
        self.taken.add(free.casefold())
        return f"{free}.html"


def outputs_of(args, stack: ExitStack, prints: bool = True) -> list[Output]:
    """Return what a command line asks for; what is printed stands last.

    Args:
        args: with html, pages, junit, all and json.
        stack: closes what has to be closed.
        prints: whether something is printed.

    Raises:
        BadInput: the folder of pages cannot be made.
    """
    outputs: list[Output] = []
    if args.junit:
        outputs.append(Junit(stack.enter_context(Suites(args.junit))))
    if args.html:
        pages = Pages(args.html, args.pages == "bad")
        pages.check()
        outputs.append(pages)
    if prints:
        write = write_stdout(keep_going=bool(args.html or args.junit))
        outputs.append(Document(write) if args.json else Lines(args.all, write))
    return outputs


def end_all(outputs: Sequence[Output], rows: Sequence[Row], seconds: float) -> None:
    """Finish what is written, what is printed first; if one fails, still the others.

    Args:
        outputs: from `outputs_of`.
        rows: of the dumps.
        seconds: that it took.

    Raises:
        BadInput: one could not be written.
    """
    with ExitStack() as stack:  # the last that is put in is called first
        for output in outputs:
            stack.callback(output.end, rows, seconds)


def write_stdout(keep_going: bool):
    """Return what prints a text at once; a reader who left raises BrokenPipeError, or is not missed.

    Args:
        keep_going: whether reports are written besides, which must not be lost.
    """

    def write(text: str) -> None:
        try:
            tqdm.write(text, file=sys.stdout)  # where a bar is drawn it goes below
            sys.stdout.flush()
        except BrokenPipeError:
            if not keep_going:
                raise
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    return write


def _json(content: Any) -> str:
    return json.dumps(finite(content), ensure_ascii=False)
