"""The parser of the command line: help that begins with the purpose, refusals in one line that name what is near."""

import argparse
from collections.abc import Callable, Iterator
from typing import NoReturn

from ref.commands import BAD_INPUT
from ref.errors import nearest, one_line


class OneLineParser(argparse.ArgumentParser):
    """A parser whose refusals are one line, as all others here; it takes --debug, before and after the command.

    A command may set `complete`, which is called before its arguments are read: it adds what takes time to find.
    """

    complete: Callable[[], None] | None = None

    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        about = "show the traceback of what ends in exit code 4"
        # no default: that of a command would undo the flag before it
        self.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=about)

    def format_help(self) -> str:
        """Write what the command is for first, then how it is used."""
        said, self.description = self.description, None
        try:
            return f"{said}\n\n{super().format_help()}" if said else super().format_help()
        finally:
            self.description = said

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[override]
        """Read arguments, after `complete`."""
        complete, self.complete = self.complete, None
        if complete:
            complete()
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Print the refusal and exit with 2."""
        _, unknown, rest = message.partition("unrecognized arguments: ")
        flag = rest.split("=")[0].split(" ")[0]
        near = nearest(flag, _flags(self)) if unknown and flag.startswith("--") else ""
        self.exit(BAD_INPUT, f"{self.prog}: {one_line(message)}{f'; near: {near}' if near else ''}\n")

    def _check_value(self, action: argparse.Action, value) -> None:
        """Refuse what is no choice; the nearest ones are named."""
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            near = nearest(value, map(str, action.choices or ()))
            raise argparse.ArgumentError(action, f"{error.message}; near: {near}") if near else error from None


def _flags(parser: argparse.ArgumentParser) -> Iterator[str]:
    """List the long flags of a parser and of its commands."""
    for action in parser._actions:
        yield from (flag for flag in action.option_strings if flag.startswith("--"))
        if isinstance(action, argparse._SubParsersAction):
            for one in action.choices.values():
                yield from _flags(one)
