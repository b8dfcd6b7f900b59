"""The one exception of bad input: a single line that names what, where, what was wanted and what was got."""

from collections.abc import Iterable
from difflib import get_close_matches

ALIKE = 0.5  # of difflib's ratio, from which a name is near enough to be shown
LONGEST = 200  # characters of a name that are compared: it takes the square of its length


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


def unknown(kind: str, where: object, name: object, known: Iterable[str]) -> BadInput:
    """Build the one-line refusal of a name that does not exist: `where: no mistake is called X; near: A, B`.

    Args:
        kind: what is named, such as "mistake" or "tap".
        where: the flag or function that was given it.
        name: what was given.
        known: the names there are.
    """
    names = list(known)
    near = nearest(name, names)
    hint = f"near: {near}" if near else f"there are {len(names)}, such as {', '.join(names[:2])}"
    return BadInput(f"{one_line(where)}: no {kind} is called {_cut(name, 120)}; {hint}")


def nearest(name: object, known: Iterable[str], most: int = 3) -> str:
    """List the names that somebody may have meant: `A, B`, the most alike first; empty where none is like it.

    Args:
        name: as somebody wrote it.
        known: the names there are.
        most: how many.
    """
    names = {one.casefold(): one for one in known}
    short = str(name)[:LONGEST].casefold()
    near = get_close_matches(short, names, most, ALIKE)
    holding = [one for one in names if short and short in one and one not in near]
    return ", ".join(names[one] for one in [*near, *holding][:most])


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
