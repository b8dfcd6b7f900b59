"""Rows of many dumps as a run keeps them, out of example reports."""

from support.report_examples import HOSTILE, STRANGE, everything_wrong, example, rope_bug

from ref.report.many import row_of, row_of_refused
from ref.report.regression import refused, set_beside


def reports():
    """Reports of every kind by name: a match, a bug, everything at once, one that moved, one with nothing before it."""
    before, _ = example(layers=6)
    moved, _ = rope_bug(layers=6)
    moved["regression"] = set_beside(before, moved, "moved")
    lonely, _ = example(layers=6)
    lonely["regression"] = refused(HOSTILE, STRANGE, lonely)
    named = {"en/match": example(layers=6)[0], "en/bug": rope_bug(layers=6)[0], "moved": moved, "lonely": lonely}
    return named | {HOSTILE: everything_wrong()[0]}


def rows():
    """Rows of these, and of two dumps that could not be judged."""
    judged = [
        row_of(report, name)._replace(page=f"index_pages/{i}.html")
        for i, (name, report) in enumerate(reports().items())
    ]
    return [*judged, row_of_refused("broken", "no dump.json", "refused"), row_of_refused(STRANGE, HOSTILE, "failed")]
