"""`gemma3-ref report`: draw a saved report again, as text, a page or JUnit XML."""

from contextlib import ExitStack
from pathlib import Path

from ref.commands import FINE
from ref.commands.about import About, add_command
from ref.commands.compare_many import pages_flag
from ref.commands.output import refuse_overwriting
from ref.errors import wanted

ABOUT = About(
    "report",
    "draw a saved report again: as text, as a page or as JUnit XML",
    "The file is what --json of compare, verify, capture, trace or check-rule printed. Nothing is judged anew.",
    ("gemma3-ref report report.json", "gemma3-ref report report.json --html report.html"),
)


def add(subparsers) -> None:
    """Declare the command."""
    parser = add_command(subparsers, ABOUT, run)
    parser.add_argument("file", type=Path, metavar="FILE", help="a saved report")
    group = parser.add_argument_group("of a report of compare")
    group.add_argument("--all", action="store_true", help="a line for every tap, not for every group")
    group.add_argument("--html", type=Path, metavar="FILE", help="one offline page, without the errors of tokens")
    pages_flag(group)
    group.add_argument("--junit", type=Path, metavar="FILE", help="JUnit XML, one test case per tap")


def _check_outputs(args) -> None:
    from ref.report.page import check_target

    for path in (args.html, args.junit):
        if path:
            refuse_overwriting(str(args.file), check_target(path))
    if args.html and args.junit and args.html.absolute() == args.junit.absolute():
        raise wanted("output file", args.junit, "another file than --html", "the same")


def _draw_many(args) -> int:
    """Draw the reports of many dumps: lines, or the index and JUnit XML."""
    from ref.commands.many_outputs import end_all, outputs_of
    from ref.report.many import NOT_JUDGED, row_of, row_of_refused
    from ref.report.read_many import read_reports

    _check_outputs(args)
    args.json, rows = False, []
    with ExitStack() as stack:
        outputs = outputs_of(args, stack, prints=not (args.html or args.junit))
        for name, report in read_reports(args.file):
            judged = report if report["verdict"] not in NOT_JUDGED else None
            row = row_of(report, str(name)) if judged else row_of_refused(str(name), report["why"], report["verdict"])
            for output in outputs:
                row = output.add(row, judged, None)
            rows.append(row)
        end_all(outputs, rows, 0.0)
    return FINE


def run(args) -> int:
    """Read the report, write the files asked for, else print it."""
    from ref.report.html import write_html
    from ref.report.junit import junit_xml
    from ref.report.page import write_page
    from ref.report.read import read_report
    from ref.report.read_many import is_many
    from ref.report.text_saved import render_saved

    if is_many(args.file):
        return _draw_many(args)
    report = read_report(args.file)
    flags = [flag for flag in ("--html", "--junit") if getattr(args, flag[2:])]
    if flags and report["kind"] != "compare":
        raise wanted(flags[0], args.file, "a report of compare", f"one of {report['kind']}")
    _check_outputs(args)
    if args.html:
        write_html(report, None, args.html, report.get("other"))
    if args.junit:
        write_page(args.junit, junit_xml(report))
    if not flags:
        print(render_saved(report, args.all))
    return FINE
