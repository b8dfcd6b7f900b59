"""JUnit XML of many dumps: a suite each, kept in a temporary file until all are there."""

import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import chain
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from ref.errors import wanted
from ref.report.junit import finish, suite_of
from ref.report.page import write_pieces
from ref.report.words import printable

HEAD, END = "<?xml version='1.0' encoding='utf-8'?>\n<testsuites>\n", "</testsuites>\n"
PIECE = 2**20  # characters that are copied at a time


class Suites(AbstractContextManager):
    """Suites that are written down as they come, so that memory does not grow with their number."""

    def __init__(self, path: Path):
        self.path, self.count, self.error = path, 0, None
        self.file = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - closed by __exit__

    def __exit__(self, *_) -> None:
        self.file.close()

    def add(self, report: dict[str, Any], name: str) -> None:
        """Write down the report of one dump.

        Args:
            report: what `compare` returns.
            name: of the dump.
        """
        self._keep(suite_of(report, name, self.count))

    def add_refused(self, name: str, why: str, kind: str) -> None:
        """Write down that a dump could not be judged, as a test case with an error.

        Args:
            name: of the dump.
            why: a line.
            kind: `refused` or `failed`.
        """
        from junitparser import Error, TestCase, TestSuite
        from junitparser.junitparser import SystemErr, SystemOut

        name, why = printable(name), printable(why)
        suite, case = TestSuite(f"gemma3-ref compare {name}"), TestCase("dump", name, 0.0)
        case.result = [Error(why, kind)]
        suite.add_property("verdict", kind)
        suite.add_testcase(case)
        suite.append(SystemOut(why))
        suite.append(SystemErr(""))
        suite.update_statistics()
        finish(suite, self.count)
        self._keep(suite)

    def write(self) -> None:
        """Write the document under its own name.

        Raises:
            BadInput: it cannot be written, or a suite could not be kept.
        """
        self._try(lambda: self.file.seek(0))
        if self.error:
            raise wanted("output file", self.path, "room for a temporary file beside it", self.error)
        write_pieces(self.path, chain([HEAD], iter(lambda: self.file.read(PIECE), ""), [END]))

    def _keep(self, suite) -> None:
        """Write a suite down; a full disk ends no run of an hour: it is told by `write`."""
        self.count += 1
        self._try(lambda: self.file.write(ElementTree.tostring(suite._elem, encoding="unicode") + "\n"))

    def _try(self, do: Callable[[], object]) -> None:
        try:
            do()
        except OSError as error:
            self.error = error.strerror or error
