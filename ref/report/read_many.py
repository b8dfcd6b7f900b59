"""Reading the reports of a file back one after the other: of `compare --json`, of one dump or of many."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ref.errors import BadInput, wanted
from ref.report.many import COMMAND, NOT_JUDGED, SCHEMA_VERSION
from ref.report.read import MOST_BYTES, WANT, check_report
from ref.untrusted import open_regular, quoted, strict_decoder

PIECE = 2**20  # characters that are read at a time, at least
SPACE = " \t\r\n"


def is_many(path: Path) -> bool:
    """Tell whether a file holds the reports of many dumps, by its first key.

    Args:
        path: of any file.

    Raises:
        BadInput: no file that can be read.
    """
    try:
        with open_regular(path, "report") as file, io.TextIOWrapper(file, encoding="utf-8") as text:
            return next(_Stream(text, path).object_keys(), None) in ("schema_version", "command", "dumps", "summary")
    except (ValueError, RecursionError) as error:
        if isinstance(error, BadInput) and not path.is_file():
            raise
        return False


def read_reports(path: str | Path) -> Iterator[tuple[str | None, dict[str, Any]]]:
    """Yield the reports of a file; one of them is in memory at a time.

    Args:
        path: a file that --json of compare printed, of one dump or of many.

    Yields:
        (name, report): None where the file is the report of one dump; of a dump that was not judged {"verdict", "why"}.

    Raises:
        BadInput: no file, no JSON, not what the schemas say.
    """
    path, head, many = Path(path), dict[str, Any](), False
    try:
        with open_regular(path, "report") as file, io.TextIOWrapper(file, encoding="utf-8") as text:
            stream = _Stream(text, path)
            for key in stream.object_keys():
                if key in head or (key == "dumps" and many):
                    raise wanted("report", path, "every key once", f"{quoted(key)} twice")
                if key == "dumps":
                    many = True
                    yield from _named(stream, path)
                else:
                    head[key] = stream.value()
    except (ValueError, RecursionError) as error:  # a BadInput is one, too
        raise error if isinstance(error, BadInput) else wanted("report", path, "JSON in UTF-8", error) from None
    if not many:
        yield None, check_report(head, path)
    elif (head.get("schema_version"), head.get("command")) != (SCHEMA_VERSION, COMMAND):
        got = f"{quoted(head.get('schema_version'))} of {quoted(head.get('command'))}"
        raise wanted("schema_version", path, f"{SCHEMA_VERSION} of {COMMAND}", got)


def _named(stream: "_Stream", path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for item in stream.items():
        if not isinstance(item, dict) or not isinstance(item.get("name"), str):
            raise wanted("dumps", path, "reports with their names", quoted(item))
        if item.get("verdict") not in NOT_JUDGED:
            check_report(item, path)
        elif not isinstance(item.get("why"), str):
            raise wanted("why of a dump", path, "a text", quoted(item.get("why")))
        yield item["name"], item


class _Stream:
    """JSON that is read as far as it is needed."""

    def __init__(self, file: io.TextIOBase, path: Path):
        self.file, self.path, self.decoder = file, path, strict_decoder(path, "report")
        self.buffer, self.at = "", 0

    def object_keys(self) -> Iterator[str]:
        """Yield the keys of an object; each one's value must be read before the next is asked for."""
        self._expect("{")
        first = True
        while self._goes_on("}", first):
            key, first = self.value(), False
            if not isinstance(key, str):
                raise wanted("report", self.path, WANT, quoted(key))
            self._expect(":")
            yield key
        if self._peek():
            raise wanted("report", self.path, "nothing after its end", quoted(self._peek()))

    def items(self) -> Iterator[Any]:
        """Yield the items of a list."""
        self._expect("[")
        first = True
        while self._goes_on("]", first):
            first = False
            yield self.value()

    def value(self) -> Any:
        """Return the next value."""
        self._peek()
        while True:
            try:
                start, (found, end) = self.at, self.decoder.raw_decode(self.buffer, self.at)
                if end < len(self.buffer):
                    self.at = end
                    return found
                if not self._read():  # else a number could go on
                    self.at = end - start
                    return found
            except json.JSONDecodeError:
                if not self._read():
                    raise

    def _goes_on(self, end: str, first: bool) -> bool:
        """Tell whether an object or a list goes on; what stands between its items is read over."""
        if self._peek() == end:
            self.at += 1
            return False
        if not first:
            self._expect(",")
        return True

    def _expect(self, sign: str) -> None:
        if self._peek() != sign:
            raise wanted("report", self.path, f"{WANT}, and there {sign}", quoted(self._peek() or "its end"))
        self.at += 1

    def _peek(self) -> str:
        """Return the next character that is no white space; empty at the end."""
        while True:
            while self.at < len(self.buffer) and self.buffer[self.at] in SPACE:
                self.at += 1
            if self.at < len(self.buffer) or not self._read():
                return self.buffer[self.at : self.at + 1]

    def _read(self) -> bool:
        """Read on, as much again as is waiting; what was used is let go."""
        waiting = self.buffer[self.at :]
        if len(waiting) > MOST_BYTES:
            raise wanted("report", self.path, f"at most {MOST_BYTES} characters of one dump", "more")
        piece = self.file.read(max(PIECE, len(waiting)))
        self.buffer, self.at = waiting + piece, 0
        return bool(piece)
