"""`gemma3-ref check-rule`: property checks of masks and crops in any language, through a child process."""

import argparse
from tempfile import TemporaryDirectory

from ref.commands import BUG, FINE
from ref.commands.about import About, add_command
from ref.commands.shared import json_flag, note, print_json
from ref.config import CROPS

PROTOCOL = """\
The program is started once. It reads one case per line on its stdin, as JSON, and writes one answer per line on its
stdout, as JSON, and flushes it before it reads on (mawk: -W interactive). It ends when its stdin ends. Of what it
prints on stderr only the last line is shown, if it dies.

crops
  case    {"width": 2500, "height": 1000, "min_ratio": 1.2, "min_crop": 256, "max_crops": 4, "past_edge": "clip"}
  answer  [[0, 0, 1000, 834], [0, 834, 1000, 1668], [0, 1668, 1000, 2500]]
  y0, x0, y1, x1 of each crop in pixels, half-open, in reading order, without the whole image; [] where it is not cut.

visibility
  case    {"soft": [0, 1, 1], "first": [0, 0, 0], "start": 1, "window": 3, "keys": 4, "pads": 0,
           "prompts": [0, 0, 0, 0], "positions": [1, 2, 3], "local_window": 3}
  answer  [[1, 1, 0, 0], [1, 1, 1, 1], [0, 1, 1, 1]]  or ["1100", "1111", "0111"]  or [[0, 2], [0, 4], [1, 4]]
  One row per token: what it sees of the keys, 0 or 1 each, or start and stop of the range of keys it sees, half-open.
  The first case is three tokens of text after nothing, and tells by its answer which form you use. What pads see is
  not judged.
    soft          for each of the T tokens of this pass: 1 if it stands for a row of image features
    first         for each token: index of the first key of its prompt (after left pads; after packed prompts)
    start         how many keys earlier passes left in the cache; the tokens' own keys follow them
    window        of a local layer: how many keys a token sees, its own included; null: a global layer
    keys          how many there are, start + T
    pads          left pads, where no prompts are packed (--without packed)
    prompts       for each key: the number of its prompt; -1: a pad, or a prompt that ended in the cache
    positions     for each token: its position in its prompt
    local_window  the window of local layers, also on global ones

Instead of an answer, {"error": "why"} is a wrong answer, reported with its case. No answer in time, no JSON, more lines
than cases, an end before the end: exit code 2 and one line.
"""

ABOUT = About(
    "check-rule",
    "find what a program's masks or crops get wrong, in any language",
    "Ask the program about many cases, shrink what it gets wrong, and name the known mistake it makes.",
    (
        "gemma3-ref check-rule crops --exec ./crops",
        "gemma3-ref check-rule visibility --without packed --exec node mask.js",
    ),
    (FINE, BUG),
    PROTOCOL,
)


def add(subparsers) -> None:
    """Declare the command."""
    parser = add_command(subparsers, ABOUT, run, [json_flag()])
    parser.add_argument("rule", choices=("visibility", "crops"))
    parser.add_argument(
        "--exec",
        dest="program",
        nargs=argparse.REMAINDER,
        required=True,
        metavar="PROGRAM",
        help="the program and its arguments; everything after --exec is theirs",
    )
    parser.add_argument("--examples", type=int, default=500, metavar="N", help="cases to ask; default 500")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the draw; default 0")
    parser.add_argument(
        "--timeout", type=float, default=10.0, metavar="S", help="seconds an answer may take; default 10"
    )
    group = parser.add_argument_group("crops")
    group.add_argument("--policy", choices=CROPS, default="transformers", help="default: transformers")
    group = parser.add_argument_group("visibility")
    group.add_argument(
        "--composition",
        choices=("current", "before_46850", "two_sided"),
        default="current",
        help="how window and image block combine; they differ only where a block is longer than the window",
    )
    group.add_argument(
        "--without",
        action="append",
        default=[],
        metavar="FEATURE",
        help="cases without images, long-images (longer than the window), pads, packed, cached, local or global "
        "(repeatable)",
    )


def run(args) -> int:
    """Ask until all is right or one answer is wrong; a wrong one is asked again of a fresh child."""
    from ref.errors import wanted
    from ref.testing.search import explain

    if args.examples < 1:
        raise wanted("examples", "check-rule", "1 or more", args.examples)
    rule, outcome = _search(args)
    if outcome.found:
        _ask_again(args, rule, outcome.found)
    if args.json:
        print_json(_report(args.rule, rule, outcome))
    elif outcome.found:
        print(explain(rule, outcome))
    else:
        without = f"; without {', '.join(sorted(args.without))}" if args.without else ""
        note(f"{args.rule}: all {outcome.asked} cases are right{without}")
    return BUG if outcome.found else FINE


def _search(args):
    from ref.testing.child import Child
    from ref.testing.search import find_counterexample
    from ref.testing.strategies import set_hypothesis_home_dir

    with TemporaryDirectory() as home, Child(args.program, args.timeout) as child:
        set_hypothesis_home_dir(home)  # else it leaves a folder where we were called
        try:
            rule = _rule(args, child)
            outcome = find_counterexample(rule, lambda case: child.ask(rule.question(case)), args.examples, args.seed)
        finally:
            set_hypothesis_home_dir(None)
        if not outcome.found:
            child.close()
    return rule, outcome


def _rule(args, child):
    from ref.testing.answers import plain_question
    from ref.testing.rules import crops_rule, visibility_rule

    if args.rule == "visibility":
        return visibility_rule(lambda layout: child.ask(plain_question(layout)), args.composition, args.without)
    rule = crops_rule(args.policy)
    _, *settings = CROPS[args.policy]._asdict().items()
    return rule._replace(question=lambda size: rule.question(size) | dict(settings))


def _ask_again(args, rule, found) -> None:
    """Refuse a child whose answer depends on what it was asked before: its lines and ours are out of step."""
    from ref.errors import wanted
    from ref.testing.answers import Ended
    from ref.testing.child import Child, RuleError

    again = None
    with Child(args.program, args.timeout) as child:
        try:
            again = rule.read(found.case, child.ask(rule.question(found.case)))
        except Ended:
            raise
        except (RuleError, ValueError):
            pass  # wrong again
        child.close()
    if again is not None and rule.same(found.case, found.expected, again):
        raise wanted("answer", args.program[0], "the same whatever was asked before", "another from a fresh child")


def _report(name: str, rule, outcome) -> dict:
    """Make the report: see golden/schema/report.schema.json."""
    from ref.golden_files.report_format import headed

    found = outcome.found
    nothing = dict.fromkeys(("case", "expected", "got", "problem", "mutant"))
    if found is None:
        content = {"rule": name, "verdict": "match", "cases": outcome.asked, "wrong": 0, **nothing, "diagnosis": []}
        return headed("check-rule", content)
    content = {
        "rule": name,
        "verdict": "bug",
        "cases": outcome.asked,
        "wrong": found.wrong,
        "case": rule.question(found.case),
        "expected": rule.plain(found.expected),
        "got": None if found.problem else rule.plain(found.got),
        "problem": found.problem or None,
        "mutant": found.mutants[0].name if found.mutants else None,
        "diagnosis": [
            {"mutant": m.name, "what": m.what, "seen_in": [one.where for one in m.seen_in]} for m in found.mutants
        ],
    }
    return headed("check-rule", content)
