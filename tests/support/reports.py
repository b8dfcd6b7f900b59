"""Whatever `--json` prints of a judgement is what golden/schema/report.schema.json says."""

import json

from ref.golden_files.files import check_schema
from ref.golden_files.report_format import KINDS


def checked(report):
    """Refuse a report that is not what the schema says, and return it."""
    check_schema(report, "report")
    return report


def report_of(text, kind):
    """Read what a command printed, which must be a report of this kind; numbers must be finite."""

    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    report = checked(json.loads(text, parse_constant=refuse))
    assert report["kind"] == kind in KINDS
    return report
