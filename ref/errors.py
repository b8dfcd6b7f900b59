"""The one exception of bad input: a single line that names what, where, what was wanted and what was got."""


class BadInput(ValueError):
    """Input that is refused. The command line prints its one line and exits with 2, without a traceback."""


def one_line(text: object) -> str:
    """Write a text of any origin as one printable line: white space closed up, other control characters escaped.

    Args:
        text: a message, which may quote names and values out of files that are not trusted. A raw ESC in it would
            reach the reader's terminal as a command; so would marks that turn the direction of writing.
    """
    line = " ".join(str(text).split())
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in line)


def wanted(what: str, where: object, want: object, got: object) -> BadInput:
    """Build the one-line refusal `where: what: wanted W, got G`, so that all refusals read alike.

    Args:
        what: the thing that is wrong, as the user knows it ("head_dim", "tensor blk.0.attn_q.weight").
        where: the file, flag or function it stands in.
        want: the condition that must hold, in words or as a value; cut at 600 characters.
        got: what was found; cut at 120 characters.
    """
    return BadInput(f"{one_line(where)}: {one_line(what)}: wanted {_cut(want, 600)}, got {_cut(got, 120)}")


def _cut(text: object, most: int) -> str:
    """Return a text as one printable line of at most so many characters."""
    line = one_line(text)
    return line if len(line) <= most else line[: most - 3] + "..."


def pip_install(extra: str) -> str:
    """Return the command that installs an extra. The project is published nowhere, so it is run in a clone.

    Args:
        extra: a name of pyproject.toml's optional dependencies, such as `report`.
    """
    return f'pip install -e ".[{extra}]"'
