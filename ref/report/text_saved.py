"""A saved report of any kind as text for a terminal."""

import json
from typing import Any

from ref.mutants.seen_in import seen_in_words
from ref.report.figures import counted, sentence
from ref.report.text import render_text, render_two
from ref.report.text_verify import render_verify
from ref.report.words import printable


def render_saved(report: dict[str, Any], everything: bool = False) -> str:
    """Render a report that was read back.

    Args:
        report: from `read_report`.
        everything: of compare: a line for every tap.
    """
    kind = report["kind"]
    if kind == "compare":
        if report.get("other"):
            return render_two(report, report["other"], ("first dump", "second dump"), everything)
        return render_text(report, everything=everything)
    if kind == "verify":
        return render_verify(report)
    return _rule(printable(report)) if kind == "check-rule" else _written(report)


def _written(report) -> str:
    size = f"{counted(report['tensors'], 'tensor')}, {report['bytes'] / 1e6:.1f} MB"
    return f"{report['kind']}: {counted(len(report['passes']), 'pass')}, {size}"


def _rule(report) -> str:
    """Write what a program answered wrongly; the picture is not in a saved report."""
    if report["verdict"] == "match":
        return f"{report['rule']}: all {report['cases']} cases are right"
    lines = [f"{report['rule']}: wrong on {report['wrong']} of {report['cases']} inputs; the simplest:"]
    lines += [f"  {key}: {json.dumps(report[key], ensure_ascii=False)}" for key in ("case", "expected", "got")]
    lines += [f"  it {report['problem']}"] if report["problem"] else []
    for one in report["diagnosis"]:
        lines += [f"as if: {one['mutant']}: {sentence(one['what'])}", f"  {seen_in_words(one['seen_in'])}"]
    return "\n".join(lines + ([] if report["diagnosis"] else ["as if: no mistake that is known here"]))
