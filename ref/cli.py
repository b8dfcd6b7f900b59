"""The command line: `gemma3-ref COMMAND`, also `python -m ref`."""

import argparse
import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from ref.commands import BAD_INPUT, FAILED
from ref.commands.about import exit_codes
from ref.commands.parser import OneLineParser
from ref.errors import BadInput, one_line

COMMANDS = (
    "compare",
    "capture",
    "sketch",
    "report",
    "verify",
    "check-rule",
    "generate",
    "tokens",
    "explore",
    "trace",
    "crops",
    "preprocess",
    "params",
    "memory",
    "quantize",
    "golden",
    "doctor",
)


MOST_SAID = 300  # characters of a message that is not ours


def build_parser(commands: Sequence[str] = COMMANDS) -> argparse.ArgumentParser:
    """Declare commands; all of them, or only the one that will run, whose module alone is then imported."""
    import ref

    parser = OneLineParser(
        prog="gemma3-ref",
        description="find what is wrong in a port of Gemma 3, beside a readable NumPy/Numba reference",
        epilog=exit_codes(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"gemma3-ref {ref.__version__}")
    parser.set_defaults(debug=False)
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=OneLineParser)
    for command in commands:
        import_module(f"ref.commands.{command.replace('-', '_')}").add(subparsers)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run a command and return its exit code, one of those that `--help` lists; 130 after an interrupt.

    Args:
        argv: the arguments; None takes the program's own.

    Source: README, "What else it does".
    Differs: Python itself exits with 1 after an exception, which here only ever means that a bug was found.
    """
    argv = sys.argv[1:] if argv is None else argv
    named = argv[:1] if argv and argv[0] in COMMANDS else COMMANDS
    args = build_parser(named).parse_args(argv)
    for stream in (sys.stdout, sys.stderr):  # a pipe that is not UTF-8 gets \u escapes instead of a traceback
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        return args.run(args)
    except BadInput as error:
        print(f"gemma3-ref {args.command}: {one_line(error)}", file=sys.stderr)
        return BAD_INPUT
    except BrokenPipeError:  # the reader of our output left, as `head` does: not an error of ours
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # the last resort: Python's own exit code would be 1, a bug found
        if args.debug:
            import traceback

            traceback.print_exc()
        print(f"gemma3-ref {args.command}: {_failure(error, args.debug)}", file=sys.stderr)
        return FAILED


def _failure(error: Exception, shown: bool) -> str:
    """Say in one line what ended the program."""
    what = one_line(error)[:MOST_SAID]
    end = "" if shown else " (--debug shows where)"
    return f"failed: {type(error).__name__}{': ' + what if what else ''}{end}"


if __name__ == "__main__":
    sys.exit(main())
