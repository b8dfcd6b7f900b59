"""A browser, and the pages of example reports."""

import pytest
from support.browser import chromium
from support.report_examples import everything_wrong, example, rope_bug
from support.report_page import DESKTOP

from ref.report.html import write_html


@pytest.fixture(scope="module")
def browser():
    with chromium(*DESKTOP) as driver:
        yield driver


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Write each example once: name -> (report, profiles, address)."""
    folder = tmp_path_factory.mktemp("pages")
    second, _ = example(seed=3)
    made = {"match": (example(passes=2), None), "bug": (rope_bug(), None), "all": (everything_wrong(), None)}
    made["two"] = (rope_bug(), second)
    return {
        name: (*one, write_html(*one, folder / f"{name}.html", other).as_uri()) for name, (one, other) in made.items()
    }
