"""The one exception of bad input: a single line that names what, where, what was wanted and what was got."""


class BadInput(ValueError):
    """Input that is refused. The command line prints its one line and exits with 2, without a traceback."""


def wanted(what: str, where: object, want: object, got: object) -> BadInput:
    """Build the one-line refusal `where: what: wanted W, got G`, so that all refusals read alike.

    Args:
        what: the thing that is wrong, as the user knows it ("head_dim", "tensor blk.0.attn_q.weight").
        where: the file, flag or function it stands in.
        want: the condition that must hold, in words or as a value.
        got: what was found; long values are cut at 120 characters.
    """
    text = " ".join(str(got).split())
    return BadInput(f"{where}: {what}: wanted {want}, got {text if len(text) <= 120 else text[:117] + '...'}")
