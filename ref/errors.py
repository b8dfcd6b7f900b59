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
        want: the condition that must hold, in words or as a value.
        got: what was found; long values are cut at 120 characters, and control characters escaped.
    """
    text = one_line(got)
    text = text if len(text) <= 120 else text[:117] + "..."
    return BadInput(one_line(f"{where}: {what}: wanted {want}, got {text}"))
