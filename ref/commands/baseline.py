"""`compare --baseline OLD`: earlier reports, or dumps that are judged again, found by the name of a dump."""

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from ref.dump.find_dumps import FILES, dumps_in, is_folder_of_dumps, names_of
from ref.errors import BadInput, nearest, wanted
from ref.golden_files.report_format import FORMAT
from ref.report.many import NOT_JUDGED
from ref.report.read_many import read_reports
from ref.report.regression import reduced, refused, set_beside
from ref.untrusted import map_file

WANT = "a dump, a report that --json printed, or a folder of them"
Judge = Callable[[str], dict[str, Any]]


class Baseline(AbstractContextManager):
    """What a run is set beside. Of a file of many reports the little that is needed is kept in a temporary file."""

    def __init__(self, path: Path, judge: Judge):
        self.path, self.judge = path, judge
        self.kept = tempfile.TemporaryFile("w+b")  # noqa: SIM115 - closed by __exit__
        self.partners: dict[str, str] = {}  # name of a dump -> that of its earlier one
        self.sources: dict[str, Callable[[], dict[str, Any]]] = {}

    def __exit__(self, *_) -> None:
        self.kept.close()

    def find(self, names: Iterable[str]) -> None:
        """Find the earlier ones.

        Args:
            names: of the dumps that will be judged.

        Raises:
            BadInput: nothing is there, what is there cannot be read, or none has a name of these.
        """
        if not _is_there(self.path):
            raise wanted("--baseline", self.path, WANT, "nothing there")
        if is_folder_of_dumps(self.path):
            files = dumps_in(self.path, [".json"])
            for name, file in zip(names_of(files, self.path), files, strict=True):
                self.sources[name] = partial(self._read if is_report(file) else self._judged, file)
        elif is_report(self.path):
            self._keep_all()
        else:
            self.sources[names_of([self.path])[0]] = partial(self._judged, self.path)
        names = list(names)
        if not self.sources:
            raise wanted("--baseline", self.path, WANT, "none")
        self.partners = partners_of(names, list(self.sources))
        if not self.partners:
            near = nearest(names[0], self.sources)
            got = f"{len(self.sources)} others" + (f", near {names[0]}: {near}" if near else "")
            raise wanted("--baseline", self.path, "one with the name of a dump that is judged", got)

    def beside(self, report: dict[str, Any], name: str, noise: float) -> tuple[dict[str, Any], str]:
        """Set a report beside the earlier one of its name; where there is one of each, beside that.

        Args:
            report: what `compare` returns.
            name: of its dump.
            noise: as `ref.report.regression.set_beside`.

        Returns:
            (the key `regression`, why the earlier one could not be read; else empty).
        """
        name = self.partners.get(name, name)
        source = self.sources.get(name)
        if source is None:
            return refused(name, "the baseline has no dump of this name", report, noise), ""
        try:
            return set_beside(source(), report, name, noise), ""
        except BadInput as error:
            return refused(name, str(error), report, noise), str(error)

    def _keep_all(self) -> None:
        """Read a file of reports; its one report, where it is none of many, has the file's name."""
        for name, report in read_reports(self.path):
            if report["verdict"] in NOT_JUDGED:
                continue
            start = self.kept.tell()
            # Infinity and NaN are no JSON, but Python reads back what it wrote
            self.kept.write(json.dumps(reduced(report)).encode())
            name = names_of([self.path])[0] if name is None else name
            self.sources[name] = partial(self._kept, start, self.kept.tell() - start)

    def _kept(self, start: int, size: int) -> dict[str, Any]:
        self.kept.seek(start)
        return json.loads(self.kept.read(size))

    def _judged(self, dump: Path) -> dict[str, Any]:
        return self.judge(str(dump))

    def _read(self, file: Path) -> dict[str, Any]:
        found = list(islice(read_reports(file), 2))
        if len(found) != 1 or found[0][1]["verdict"] in NOT_JUDGED:
            raise wanted(
                "baseline",
                file,
                "the report of one dump",
                "one that was refused" if len(found) == 1 else "those of several",
            )
        return found[0][1]


def partners_of(names: list[str], earlier: list[str]) -> dict[str, str]:
    """Find for each dump the earlier one of its name; where folders above differ, that of the longest end alike.

        en/p1 -> en/p1;  today/en/p1 -> en/p1, unless today/de/en/p1 is there as well

    Args:
        names: of dumps.
        earlier: names of earlier ones; one and one go together whatever they are called.
    """
    if len(names) == len(earlier) == 1:
        return {names[0]: earlier[0]}
    found = {name: name for name in set(names) & set(earlier)}
    free = [[name for name in several if name not in found] for several in (names, earlier)]
    likely = {name: [one for one in free[1] if _ends_alike(name, one)] for name in free[0]}
    wanted_by = Counter(one for several in likely.values() for one in several)
    return found | {name: one[0] for name, one in likely.items() if len(one) == 1 and wanted_by[one[0]] == 1}


def _ends_alike(name: str, other: str) -> bool:
    return f"/{name}".endswith(f"/{other}") or f"/{other}".endswith(f"/{name}")


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # no name that can be
        return False


def is_report(path: Path) -> bool:
    """Tell whether a file holds what --json printed, and is not a dump in JSON.

    Args:
        path: of anything.

    Raises:
        BadInput: a file that cannot be read.
    """
    try:
        there = path.suffix.lower() not in FILES and path.is_file() and path.stat().st_size > 0
    except (OSError, ValueError):
        return False
    return there and map_file(path).find(json.dumps(FORMAT).encode()) >= 0
