"""What `--help` of a command says: what it is for, an example that works, the exit codes that it can give."""

import argparse
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

from ref.commands import BAD_INPUT, BUG, FAILED, FINE, REGRESSED, UNDETERMINED

MEANINGS = {
    FINE: "fine: done, or what was judged matches",
    BUG: "a bug was found, and nothing else",
    BAD_INPUT: "bad usage or bad input, in one line: what, where, wanted, got",
    UNDETERMINED: "undetermined: what was given cannot decide it",
    FAILED: "the program itself failed, in one line; --debug shows the traceback",
    REGRESSED: "no bug, but worse than --baseline, where --fail-on-regression asks for that",
}


class About(NamedTuple):
    """What a command tells of itself."""

    name: str
    purpose: str  # a line: what it is for
    more: str  # sentences; may be empty
    examples: tuple[str, ...]  # command lines that work in a clone
    codes: tuple[int, ...] = (FINE,)  # besides those of bad input and of a failure, which all have
    protocol: str = ""  # text that stands before the examples as it is


def exit_codes(codes: Collection[int] = tuple(MEANINGS)) -> str:
    """Write what exit codes mean, one per line."""
    return "\n".join(["exit codes:", *(f"  {code}  {MEANINGS[code]}" for code in sorted(codes))])


def add_command(
    subparsers: Any, about: About, run: Callable | None, parents: Sequence[argparse.ArgumentParser] = ()
) -> argparse.ArgumentParser:
    """Declare a command whose help says what it is for, then how it is used.

    Args:
        subparsers: of the parser it belongs to.
        about: what it tells of itself.
        run: args -> exit code; None for a command that has commands of its own.
        parents: parsers whose flags it takes.
    """
    examples = "\n".join([f"example{'s' * (len(about.examples) > 1)}:", *(f"  {line}" for line in about.examples)])
    parts = [about.protocol, examples, exit_codes({*about.codes, BAD_INPUT, FAILED})]
    parser = subparsers.add_parser(
        about.name,
        parents=parents,
        help=about.purpose,
        description=about.purpose + (f"\n{about.more}" if about.more else ""),
        epilog="\n\n".join(part.rstrip("\n") for part in parts if part),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if run is not None:
        parser.set_defaults(run=run)
    return parser
