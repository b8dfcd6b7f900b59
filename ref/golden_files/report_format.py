"""The format of reports: what `--json` prints of a judgement, by golden/schema/report.schema.json."""

from typing import Any

FORMAT, FORMAT_VERSION = "gemma3-ref report", 1
KINDS = ("compare", "verify", "capture", "trace", "sketch", "check-rule")  # the commands that print one


def headed(kind: str, content: dict[str, Any]) -> dict[str, Any]:
    """Return a report with what every reader looks for first: the format, its version and the kind.

    Args:
        kind: one of KINDS.
        content: the rest.
    """
    assert kind in KINDS
    return {"format": FORMAT, "format_version": FORMAT_VERSION, "kind": kind} | content
