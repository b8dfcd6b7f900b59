"""The command line: `gemma3-ref COMMAND`, also `python -m ref`."""

import argparse
import io
import os
import sys

from ref.commands import (
    BAD_INPUT,
    capture,
    check_rule,
    compare,
    crops,
    doctor,
    explore,
    generate,
    golden,
    memory,
    params,
    preprocess,
    quantize,
    tokens,
    trace,
    verify,
)
from ref.errors import BadInput

COMMANDS = (
    compare,
    capture,
    verify,
    check_rule,
    generate,
    tokens,
    explore,
    trace,
    crops,
    preprocess,
    params,
    memory,
    quantize,
    golden,
    doctor,
)


class OneLineParser(argparse.ArgumentParser):
    """A parser whose refusals are one line, as all others here."""

    def error(self, message: str):
        """Print the refusal and exit with 2."""
        self.exit(BAD_INPUT, f"{self.prog}: {' '.join(message.splitlines())}\n")


def build_parser() -> argparse.ArgumentParser:
    """Declare every command."""
    import ref

    parser = OneLineParser(prog="gemma3-ref", description="The NumPy/Numba reference of Gemma 3.")
    parser.add_argument("--version", action="version", version=f"gemma3-ref {ref.__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=OneLineParser)
    for command in COMMANDS:
        command.add(subparsers)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run a command; exit codes: 0 fine, 1 a bug was found, 2 bad usage or input (one line), 3 undetermined."""
    args = build_parser().parse_args(argv)
    for stream in (sys.stdout, sys.stderr):  # a pipe that is not UTF-8 gets \u escapes instead of a traceback
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        return args.run(args)
    except BadInput as error:
        print(f"gemma3-ref {args.command}: {' '.join(str(error).splitlines())}", file=sys.stderr)
        return BAD_INPUT
    except BrokenPipeError:  # the reader of our output left, as `head` does: not an error of ours
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
