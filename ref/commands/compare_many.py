"""`gemma3-ref compare` of many dumps: each is judged by itself, and what was found in all of them is told together."""

import gc
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ref.commands import BAD_INPUT, BUG, FAILED, FINE, REGRESSED, UNDETERMINED
from ref.commands.many_workers import WEIGHTS, by_workers
from ref.commands.pace import Pace
from ref.dump.find_dumps import dumps_in, is_folder_of_dumps, names_of
from ref.errors import BadInput, one_line, wanted
from ref.report.noise import NOISE

if TYPE_CHECKING:
    from ref.report.many import Row

MOST_SAID = 300  # characters of a message that is not ours
Beside = Callable[[dict[str, Any], str], tuple[dict[str, Any] | None, str]]
Profiles = dict[tuple[int, str], dict[str, list[float]]]
Judge = Callable[[Any, str], tuple[dict[str, Any], Profiles]]


class GivenDumps(NamedTuple):
    """The dumps that are judged."""

    paths: list[Path]
    names: list[str]


def add_flags(parser) -> None:
    """Declare what only many dumps and a baseline need."""
    group = parser.add_argument_group("many dumps, and earlier ones")
    about = "judge one or two dumps as many are: each by itself; for globs that may match few"
    group.add_argument("--each", action="store_true", help=about)
    pages_flag(group)
    about = "what moved since: a dump, what --json printed then, or a folder of either, found by name"
    group.add_argument("--baseline", type=Path, metavar="OLD", help=about)
    about = f"that a tap may move by and be the same (default {NOISE}); above 1 floor, times its error"
    group.add_argument("--noise", type=float, default=NOISE, metavar="FLOORS", help=about)
    about = f"exit code {REGRESSED} where no bug was found, but a tap is worse than the baseline's"
    group.add_argument("--fail-on-regression", action="store_true", help=about)
    parser.set_defaults(load=None)


def pages_flag(group) -> None:
    """Declare --pages."""
    about = "which dumps have pages beside the index (5 MB each): all, or those that do not match or got worse"
    group.add_argument("--pages", choices=("all", "bad"), default="all", help=about)


def dumps_of(args) -> GivenDumps | None:
    """Return the dumps that are judged each by itself; None where one is judged, or two beside each other.

    Raises:
        BadInput: flags that go with one dump only, or with a baseline.
    """
    if not 0 <= args.noise < float("inf"):
        raise wanted("--noise", "compare", "a number of floors", args.noise)
    if args.fail_on_regression and not args.baseline:
        raise wanted("--fail-on-regression", "compare", "--baseline OLD", "none")
    inside = [dumps_in(Path(one)) if one and is_folder_of_dumps(Path(one)) else [] for one in args.dumps]
    paths = [one for path, found in zip(args.dumps, inside, strict=True) for one in found or [Path(path)]]
    opened = any(inside)
    if not paths or not (len(paths) > 2 or args.each or opened or (args.baseline and len(paths) == 2)):
        return None
    for flag in ("text", "next", "resume"):
        if getattr(args, flag) is not None:
            raise wanted(f"--{flag}", "compare", "one dump", f"{len(paths)} that are judged each by itself")
    below = Path(args.dumps[0]) if opened and len(args.dumps) == 1 else None
    return GivenDumps(paths, names_of(paths, below))


def run_many(args, given: GivenDumps, judge: Judge) -> int:
    """Judge dumps one after the other; one that cannot be judged costs the others nothing.

    Args:
        args: the command line.
        given: the dumps.
        judge: (args, dump) -> (report, profiles) of one.

    Returns:
        The exit code: that of the worst of them.

    Raises:
        BadInput: a report that was asked for cannot be written; all else has been by then.
    """
    from ref.commands.many_outputs import end_all, outputs_of
    from ref.report.many import row_of
    from ref.weights.resolve import load

    args.load, rows = lru_cache(WEIGHTS)(load), []
    start, lost = time.perf_counter(), False
    with ExitStack() as stack:
        outputs = outputs_of(args, stack)
        beside = stack.enter_context(open_baseline(args, given.names, judge))
        pace, tidy = stack.enter_context(Pace("compare", "dump", len(given.paths))), stack.enter_context(_tidying())
        judge = stack.enter_context(by_workers(args, given.paths, judge))
        for path, name in zip(given.paths, given.names, strict=True):
            row, report, profiles = _judge_one(args, str(path), name, judge)
            if report and args.baseline:
                report["regression"], why = beside(report, name)
                row, lost = row_of(report, name), lost or bool(why)
            for output in outputs:
                row = output.add(row, report, profiles)
            rows.append(row)
            del report, profiles
            tidy()
            pace.step()
        end_all(outputs, rows, time.perf_counter() - start)
    code = exit_code(rows, args.fail_on_regression)
    return BAD_INPUT if lost and code != FAILED else code


@contextmanager
def open_baseline(args, names: Sequence[str], judge: Judge) -> Iterator[Beside]:
    """Open what --baseline names, before anything is judged.

    Args:
        args: the command line.
        names: of the dumps that will be judged.
        judge: as `run_many`.

    Yields:
        (report, name) -> (the report's key `regression`, or without the flag None; why its baseline cannot be read).

    Raises:
        BadInput: as `Baseline.find`.
    """
    if args.baseline is None:
        yield lambda report, name: (None, "")
        return
    from ref.commands.baseline import Baseline

    with Baseline(args.baseline, lambda dump: judge(args, dump)[0]) as baseline:
        baseline.find(names)
        yield lambda report, name: baseline.beside(report, name, args.noise)


def exit_code(rows: Sequence["Row"], fail_on_regression: bool) -> int:
    """Return the exit code of many dumps: a failure, a refusal, a bug, a regression, undetermined, fine.

    Args:
        rows: of the dumps.
        fail_on_regression: as the flag.
    """
    codes = {"failed": FAILED, "refused": BAD_INPUT, "bug": BUG}
    there = {row.verdict for row in rows}
    for verdict, code in codes.items():
        if verdict in there:
            return code
    if fail_on_regression and any(row.moved and row.moved.worse for row in rows):
        return REGRESSED
    return UNDETERMINED if "undetermined" in there else FINE


def _judge_one(args, path: str, name: str, judge: Judge) -> tuple["Row", dict[str, Any] | None, Profiles]:
    from ref.report.many import row_of, row_of_refused

    try:
        report, profiles = judge(args, path)
        return row_of(report, name), report, profiles
    except BadInput as error:
        return row_of_refused(name, one_line(error), "refused"), None, {}
    except Exception as error:  # a fault of ours: the other dumps are judged all the same, and the exit code is 4
        if args.debug:
            traceback.print_exc()
        what = f"{type(error).__name__}: {one_line(error)[:MOST_SAID]}"
        return row_of_refused(name, what, "failed"), None, {}


@contextmanager
def _tidying() -> Iterator[Callable[[], None]]:
    """Yield what clears up after a dump: a judgement holds itself in circles, arrays and maps of files among them.

    What is there after the first dump (modules, weights) is not looked at again: that takes as long as a small dump.
    """
    frozen = False

    def tidy() -> None:
        nonlocal frozen
        gc.collect()
        if not frozen:
            gc.freeze()
            frozen = True

    try:
        yield tidy
    finally:
        if frozen:
            gc.unfreeze()
