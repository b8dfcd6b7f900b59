"""The judge: dumps, measures, noise floors, verdicts. `ref.verify.compare(dump)` is its entry."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ref.verify.comparison import compare as compare


def __getattr__(name: str):
    """Load the entry when it is first used, so that importing a sibling stays light."""
    if name != "compare":
        raise AttributeError(f"module 'ref.verify' has no attribute {name!r}")
    from ref.verify.comparison import compare

    return compare
