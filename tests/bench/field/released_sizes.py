"""One local and one global layer of every released size at its real shapes, with two cached steps."""

from .of_transformers import row
from .subjects import made_ids

SUBJECTS = ("1b-pair", "4b-pair", "12b-local", "12b-global", "27b-local", "27b-global")
LENGTHS = (1, 3, 16, 300)
STEPS = 2


def rows():
    """Yield the rows, those of one model in a run."""
    for name in SUBJECTS:
        for dtype in ("float32", "bfloat16", "float16"):
            for length in LENGTHS:
                for attention in ("eager", "sdpa"):
                    quick = name == "1b-pair" and length == 3 and attention == "eager"
                    ids = lambda loaded, length=length: made_ids(loaded, length)  # noqa: E731
                    yield row("torch", name, dtype, attention, f"{length}", ids, steps=STEPS, nightly=quick)
