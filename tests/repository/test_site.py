"""The pages of the site, where it was built (.ci/run does): tabs are what their sections are in the repository."""

import re
import sys
from pathlib import Path

import pytest
from support.browser import CHROMIUM, DRIVER, MISSING, chromium, eventually

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs"))
from tabs import anchor, tabbed  # noqa: E402

SOURCE, BUILT = ROOT / "docs/getting-a-dump.md", ROOT / "build/site/getting-a-dump.html"
STACKS = re.findall(r"^## (.+)$", SOURCE.read_text(), re.M)
OLD = not BUILT.exists() or BUILT.stat().st_mtime < SOURCE.stat().st_mtime
OPEN = """return [...document.querySelectorAll('.sd-tab-content')].filter(tab => tab.checkVisibility()).map(
    tab => tab.previousElementSibling.innerText)"""


def test_each_section_becomes_a_tab_and_nothing_else_changes():
    text = SOURCE.read_text()
    made = tabbed(text)
    assert re.findall(r"^::::\{tab-item\} (.+)$", made, re.M) == STACKS
    assert re.findall(r"^:name: (.+)$", made, re.M) == [anchor(title) for title in STACKS]
    assert [made.count(line) for line in set(text.splitlines()) if line[:2] not in ("##", "<!")].count(0) == 0
    assert tabbed("## A\n\nno marks\n") == "## A\n\nno marks\n"


def test_every_link_of_the_page_leads_to_a_section():
    assert set(re.findall(r"\]\(#([^)]+)\)", SOURCE.read_text())) <= {anchor(title) for title in STACKS}


@pytest.mark.skipif(OLD, reason="the site is not built: python -m sphinx -W -b html docs build/site")
@pytest.mark.skipif(not (CHROMIUM and DRIVER), reason=MISSING)
def test_a_link_opens_its_tab():
    pytest.importorskip("selenium", reason=MISSING)
    with chromium() as driver:
        for title in STACKS:
            driver.get(f"{BUILT.as_uri()}#{anchor(title)}")
            eventually(driver, OPEN, [title])
        driver.find_element("css selector", f"table a[href='#{anchor('MLX')}']").click()
        eventually(driver, OPEN, ["MLX"])
