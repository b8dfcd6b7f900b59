"""The pytest plugin: fixture `gemma3_ref`. Loading it imports nothing of ours beyond the empty packages."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


class Reference:
    """What `ref.testing` offers, loaded when it is asked for."""

    @property
    def assert_matches(self) -> Callable[..., dict]:
        """Judge a dump or arrays, see `ref.testing.assert_matches`."""
        from ref.testing import assert_matches

        return assert_matches

    @property
    def check_visibility(self) -> Callable[..., Any]:
        """Check a function that makes masks, see `ref.testing.check_visibility`."""
        from ref.testing import check_visibility

        return check_visibility

    @property
    def check_pan_and_scan(self) -> Callable[..., Any]:
        """Check a function that makes crops, see `ref.testing.check_pan_and_scan`."""
        from ref.testing import check_pan_and_scan

        return check_pan_and_scan

    @property
    def golden(self) -> Path:
        """The folder of golden files."""
        from ref.golden_files.files import golden_root

        return golden_root()

    @property
    def vectors(self) -> Path:
        """The folder of golden vectors, one JSON file an op."""
        return self.golden / "vectors"


@pytest.fixture(scope="session")
def gemma3_ref() -> Reference:
    """The Gemma 3 reference: assert_matches, check_visibility, check_pan_and_scan, golden, vectors."""
    return Reference()
