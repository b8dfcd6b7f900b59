"""The index page of many dumps: what it is given, and in headless Chromium, offline, what it shows."""

import json
import re
from importlib.util import find_spec

import pytest
from support.browser import CHROMIUM, DRIVER, MISSING, errors, eventually, open_page
from support.many import rows
from support.report_examples import HOSTILE
from support.report_page import DESKTOP, PHONE, text

from ref.report.index import packed, render_index, write_index
from ref.report.many import Cell, Row, column_of, columns_of, summary_lines

needs_browser = pytest.mark.skipif(not (CHROMIUM and DRIVER and find_spec("selenium")), reason=f"needs {MISSING}")
ORDER = "return [...document.querySelectorAll('#rows .name')].map(one => one.textContent)"


def many(count, layers=62):
    """Rows as of a large run; the bug of every tenth is in another layer."""

    def cells(i):
        worst = Cell("bug", 5.0 + i, f"text.layer.{i % layers}.attn.k")
        columns = ["embed", *range(layers), "final", "logits"]
        return {
            one: worst if i % 10 == 0 and one == i % layers else Cell("match", 0.5 + i / count, "text.embed")
            for one in columns
        }

    verdicts = ["match" if i % 10 else "bug" for i in range(count)]
    return [
        Row(
            f"p{i:04d}",
            one,
            one,
            f"text.layer.{i % layers}.attn.k, pass 0" if one == "bug" else "",
            (),
            (),
            1.0,
            cells(i),
            417,
            2.0,
            None,
            f"i/{i}.html",
        )
        for i, one in enumerate(verdicts)
    ]


def test_columns_are_in_the_order_of_execution():
    assert [column_of(tap) for tap in ("vision.pool", "text.embed", "model.merged", "text.layer.11.mid")] == [
        "vision",
        "embed",
        "embed",
        11,
    ]
    found = columns_of(rows())
    assert found == ["vision", "embed", *range(18), "final", "logits"]


def test_a_cell_is_the_worst_of_its_taps():
    given = rows()[1]
    data = json.loads(packed(rows(), 10**7))
    line = dict(zip(data["row"], data["dumps"][1], strict=True))
    for column, cell in zip(data["columns"], line["cells"], strict=True):
        if cell:
            verdict, ratio, tap = cell
            mine = given.cells[column]
            assert (data["verdicts"][verdict], data["taps"][tap]) == (mine.verdict, mine.tap)
            assert ratio == pytest.approx(mine.ratio, rel=0.01)
    assert line["first"] == "text.layer.3.attn.q_rope, pass 0"
    assert data["verdicts"][line["cells"][data["columns"].index(3)][0]] == "bug"


def test_a_thousand_dumps_of_62_layers_fit_and_more_lose_cells_of_those_that_match():
    page = render_index(many(1000))
    assert len(page) < 1_500_000
    data = json.loads(packed(many(100), 60_000))
    assert data["left_out"] == 90
    assert sum(bool(line[-1]) for line in data["dumps"]) == 10
    assert json.loads(packed(many(100), 1))["left_out"] == 100
    assert json.loads(packed(many(100), 10**7))["left_out"] == 0


def test_the_page_needs_nothing_and_its_texts_are_text():
    page = render_index(rows())
    assert "<img" not in page
    assert "http:" not in page.replace("http://www.w3.org", "")
    assert re.search(r"Content-Security-Policy\" content=\"default-src 'none'", page)
    assert "plotly" not in page


def test_the_summary_says_what_was_found():
    lines = summary_lines(rows())
    assert lines[-1] == "7 dumps: 1 failed, 1 refused, 3 bug, 2 match"
    assert "rope_interleaved: in 2 dumps: en/bug, moved" in lines
    assert lines[-2] == "beside the baseline: worse in 1 dump, 1 not comparable"


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    folder = tmp_path_factory.mktemp("index")
    return write_index(rows(), folder / "index.html").as_uri(), write_index(many(1000), folder / "many.html").as_uri()


@needs_browser
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("which", [0, 1])
def test_the_page_loads_offline_without_a_word_in_the_console_and_fits(browser, index, which, scheme, size):
    open_page(browser, index[which], size, scheme)
    assert errors(browser) == []
    eventually(browser, "return document.documentElement.scrollWidth", size[0])
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    widths = (
        "return [...document.querySelectorAll('#rows .strip i')].slice(0, 60).map(i => i.getBoundingClientRect().width)"
    )
    assert min(browser.execute_script(widths)) > 3
    names = "return [...document.querySelectorAll('#rows .name')].map(i => i.getBoundingClientRect().width)"
    assert min(browser.execute_script(names)) > 0


def choose(browser, name, value):
    script = "const s = document.getElementById(arguments[0]); s.value = arguments[1];"
    script += "s.dispatchEvent(new Event(arguments[2]))"
    browser.execute_script(script, name, value, "input" if name == "find" else "change")


@needs_browser
def test_rows_are_sorted_and_found(browser, index):
    open_page(browser, index[0], DESKTOP)
    assert browser.execute_script(ORDER)[:3] == ["en/match", "en/bug", "moved"]
    choose(browser, "sort", "verdict")
    words = "return [...document.querySelectorAll('#rows .word')].map(one => one.textContent.split(' ')[1])"
    assert browser.execute_script(words) == ["failed", "refused", "bug", "bug", "bug", "match", "match"]
    choose(browser, "show", "worse")
    assert browser.execute_script(ORDER) == ["moved"]
    choose(browser, "show", "all")
    choose(browser, "find", "ROPE_inter bug")
    assert browser.execute_script(ORDER) == ["en/bug", "moved"]
    choose(browser, "find", "nothing like it")
    assert browser.execute_script(ORDER) == []
    assert text(browser, "#more") == "No dump is like that."
    browser.execute_script("document.querySelector('button.mistake').click()")
    assert len(browser.execute_script(ORDER)) == 2


@needs_browser
def test_a_bug_has_a_sign_besides_its_colour_and_a_row_leads_to_its_page(browser, index):
    open_page(browser, index[0], DESKTOP)
    strip = "const row = document.querySelectorAll('#rows .row')[1];"
    strip += "return [...row.querySelectorAll('.strip i')].map(i => [i.textContent, i.offsetHeight])"
    cells = browser.execute_script(strip)
    tallest = max(height for _, height in cells)
    assert [sign for sign, _ in cells if sign] == ["1"]
    assert [height for sign, height in cells if sign] == [tallest]
    assert max(height for sign, height in cells if not sign) < 0.7 * tallest
    links = "return [...document.querySelectorAll('#rows a.name')].map(a => a.getAttribute('href'))"
    assert browser.execute_script(links) == [f"index_pages/{i}.html" for i in range(5)]


@needs_browser
def test_what_a_cell_is_is_told(browser, index):
    open_page(browser, index[0], DESKTOP)
    hover = "const cell = document.querySelectorAll('#rows .row')[1].querySelector('.strip i.bug');"
    hover += "cell.dispatchEvent(new Event('mouseover', {bubbles: true}))"
    browser.execute_script(hover)
    assert text(browser, "#told") == "en/bug, layer 3: bug, at most 41.2 floors, at text.layer.3.attn.q_rope"


@needs_browser
def test_a_hostile_name_does_nothing(browser, index):
    open_page(browser, index[0], DESKTOP)
    assert browser.title == "gemma3-ref compare: many dumps"
    assert HOSTILE in browser.execute_script(ORDER)
    assert browser.execute_script("return document.querySelectorAll('script, img').length") == 3


@needs_browser
def test_all_of_a_thousand_rows_come_as_one_scrolls(browser, index):
    open_page(browser, index[1], PHONE)
    count = "return document.querySelectorAll('#rows .row').length"
    assert browser.execute_script(count) < 400
    for _ in range(40):
        browser.execute_script("scrollTo(0, document.body.scrollHeight)")
        if (
            browser.execute_async_script("requestAnimationFrame(() => setTimeout(arguments[0], 50))")
            or browser.execute_script(count) == 1000
        ):
            break
    eventually(browser, count, 1000)
