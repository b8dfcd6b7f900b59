"""For other people's test suites: judge their dumps, their masks and their crops against the reference.

    from ref.testing import assert_matches, check_pan_and_scan, check_visibility

To learn: `exercise` runs a check and prints what it says, `check_op` takes a function of yours to the golden vectors,
`break_port` writes a dump with a known mistake in it.

`ref.testing.strategies` has the Hypothesis strategies behind the two checks; with pytest, the fixture `gemma3_ref`
holds the same checks and the folder of golden vectors. The checks need Hypothesis: the extra [testing].

Importing this package imports nothing; the names below load on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what type checkers and readers see; at run time `__getattr__` loads each on first use
    from ref.testing.broken import break_port as break_port
    from ref.testing.broken import break_port_blindly as break_port_blindly
    from ref.testing.exercises import check_like as check_like
    from ref.testing.exercises import check_op as check_op
    from ref.testing.exercises import exercise as exercise
    from ref.testing.matching import assert_matches as assert_matches
    from ref.testing.rules import check_pan_and_scan as check_pan_and_scan
    from ref.testing.rules import check_visibility as check_visibility

_HOMES = {
    "assert_matches": "ref.testing.matching",
    "break_port": "ref.testing.broken",
    "break_port_blindly": "ref.testing.broken",
    "check_like": "ref.testing.exercises",
    "check_op": "ref.testing.exercises",
    "check_pan_and_scan": "ref.testing.rules",
    "check_visibility": "ref.testing.rules",
    "exercise": "ref.testing.exercises",
}


def __getattr__(name: str):
    """Load a function when it is first used (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'ref.testing' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
