"""Small dumps: whoever writes a dump keeps of each tensor its norms, a digest and values at hashed places.

    with sketching():
        ref.capture.transformers.capture(model, ids, "dump")

Adapters write inside of what they run, each with arguments of its own. What one caller asks for is known to what it
calls, and to nobody else: so numpy.errstate and decimal.localcontext work, too.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from ref.errors import wanted
from ref.record import SKETCH_VALUES, Sketch

_ASKED: ContextVar[Sketch | None] = ContextVar("sketch", default=None)


def asked_for() -> Sketch | None:
    """Return how small the dumps are to be that are written now; None: whole."""
    return _ASKED.get()


@contextmanager
def sketching(values: int = SKETCH_VALUES, seed: int = 0) -> Iterator[None]:
    """Make dumps small that are written until the end of a `with` statement.

    Args:
        values: at how many places of each tensor values are kept, at least; smaller ones are kept whole.
        seed: of the places. Two dumps can be laid beside each other where it is the same.

    Raises:
        BadInput: no value, or a negative seed.

    Source: docs/small-dumps.md.
    """
    token = _ASKED.set(checked(values, seed))
    try:
        yield
    finally:
        _ASKED.reset(token)


def checked(values: int, seed: int) -> Sketch:
    """Return how a sketch is made, having refused what none can be.

    Args:
        values, seed: as `sketching`.

    Raises:
        BadInput: as `sketching`.
    """
    if not 1 <= values <= 2**30:
        raise wanted("values", "sketch", f"1 to {2**30}", values)
    if seed < 0:
        raise wanted("seed", "sketch", "0 or more", seed)
    return Sketch(values, seed)
