"""Reading a report back: a file that `--json` printed."""

import math
from pathlib import Path
from typing import Any

import jsonschema

from ref.errors import BadInput, wanted
from ref.golden_files.files import check_schema
from ref.golden_files.report_format import FORMAT, FORMAT_VERSION
from ref.untrusted import parse_json, quoted, read_regular

MOST_BYTES = 256 * 2**20
WANT = "a report, as gemma3-ref compare --json prints it"
ERRORS = (("local", "local_floor", "local_ratio"), ("inherited", "floor", "inherited_ratio"))


def read_report(path: str | Path) -> dict[str, Any]:
    """Read a report and check it against golden/schema/report.schema.json.

    Args:
        path: a file that --json of compare, verify, capture, trace or check-rule printed.

    Returns:
        The report. JSON has no word for infinity and writes null: where a floor was measured, an error or a ratio of
        null is infinite again.

    Raises:
        BadInput: no file, no JSON, no report of ours, one of another version, or not what the schema says.
    """
    path = Path(path)
    try:
        report = parse_json(read_regular(path, "report", most=MOST_BYTES).lstrip(), path, "report")
    except BadInput as error:
        raise BadInput(f"{error} ({WANT})") if path.is_file() else error from None
    return check_report(report, path)


def check_report(report: dict[str, Any], path: Path) -> dict[str, Any]:
    """Check what was read as a report, and put infinity back.

    Args:
        report: an object out of a file; changed in place.
        path: of the file, for the refusal.

    Returns:
        The same.

    Raises:
        BadInput: as `read_report`.
    """
    if report.get("format") != FORMAT:
        raise wanted("report", path, WANT, f'"format": {quoted(report.get("format"))}')
    if report.get("format_version") != FORMAT_VERSION or isinstance(report["format_version"], bool):
        raise wanted("format_version of the report", path, FORMAT_VERSION, quoted(report.get("format_version")))
    try:
        check_schema(report, "report")
    except (jsonschema.ValidationError, RecursionError) as error:
        place = "/".join(map(str, getattr(error, "absolute_path", ()))) or "report"
        raise wanted(place, path, "what report.schema.json says", str(error).split("\n")[0]) from None
    for one in (report, report.get("other")):
        for row in one["taps"] if one and one["kind"] == "compare" else ():
            _restore(row)
    return report


def _restore(row: dict[str, Any]) -> None:
    """Put infinity back where there is a floor and no number."""
    for error, floor, ratio in ERRORS:
        if row[floor] is not None:
            for key in (error, ratio):
                row[key] = math.inf if row[key] is None else row[key]
