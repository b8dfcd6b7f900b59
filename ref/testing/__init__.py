"""For other people's test suites: judge their dumps, their masks and their crops against the reference.

    from ref.testing import assert_matches, check_pan_and_scan, check_visibility

`ref.testing.strategies` has the Hypothesis strategies behind the two checks; with pytest, the fixture `gemma3_ref`
holds the same functions and the folder of golden vectors. The checks need Hypothesis: pip install hypothesis.

Importing this package imports nothing; the names below load on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what type checkers and readers see; at run time `__getattr__` loads each on first use
    from ref.testing.matching import assert_matches as assert_matches
    from ref.testing.rules import check_pan_and_scan as check_pan_and_scan
    from ref.testing.rules import check_visibility as check_visibility

_HOMES = {
    "assert_matches": "ref.testing.matching",
    "check_pan_and_scan": "ref.testing.rules",
    "check_visibility": "ref.testing.rules",
}


def __getattr__(name: str):
    """Load a function when it is first used (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'ref.testing' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
