"""The page in headless Chromium, offline: no word in the console, and what a cell shows is what the report says."""

import re
from importlib.util import find_spec

import pytest
from support.browser import CHROMIUM, DRIVER, MISSING, PATIENCE, chromium, errors, eventually, open_page, prefer
from support.report_examples import WRONG, at, everything_wrong, example, rope_bug

from ref.report.html import write_html

pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER and find_spec("selenium") and find_spec("plotly")), reason=f"needs {MISSING}, and plotly"
)
DESKTOP, PHONE = (1400, 1000), (390, 844)


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


def show(browser, page, size=DESKTOP, scheme="light"):
    open_page(browser, page[2], size, scheme)


def text(browser, selector):
    return browser.execute_script("return document.querySelector(arguments[0]).innerText", selector)


# a cell's place on the screen, its colour's number and its mark; the examples' column 0 is what comes before layer 0
CELL = """
const [id, place, layer] = arguments, div = document.getElementById(id), {xaxis, yaxis} = div._fullLayout;
const {z, text} = div.data[0], y = yaxis.ticktext.indexOf(place);
const x = layer === null ? z[y].findIndex(v => v !== null) : layer + 1;
const box = () => div.querySelector(".nsewdrag").getBoundingClientRect();
window.scrollBy({top: box().y + yaxis.l2p(y) - innerHeight / 2, behavior: "instant"});
div.scrollLeft = xaxis.l2p(x);  // of a tower of many layers a phone shows a part
return [box().x + xaxis.l2p(x), box().y + yaxis.l2p(y), z[y][x], text[y][x]];
"""


def shows(browser, tap):
    """Wait until the page shows a tap."""
    eventually(browser, "return document.getElementById('tap').innerText", tap)


def click(browser, tower, place, layer, tap):
    """Click a cell as a hand would, wait until its tap is shown, and return its colour's number and its mark."""
    from selenium.webdriver.common.actions.action_builder import ActionBuilder

    x, y, z, mark = browser.execute_script(CELL, f"map-{tower}", place, layer)
    actions = ActionBuilder(browser, duration=20)
    actions.pointer_action.move_to_location(round(x), round(y)).click()
    actions.perform()
    shows(browser, tap)
    return z, mark


def numbers_shown(browser):
    rows = "return [...document.querySelectorAll('#numbers tbody tr')].map(r => [...r.cells].map(c => c.textContent))"
    return {name: values for name, *values in browser.execute_script(rows)}


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["match", "bug", "all", "two"])
def test_a_page_loads_offline_without_a_word_in_the_console_and_fits(browser, pages, name, scheme, size):
    show(browser, pages[name], size, scheme)
    assert errors(browser) == []
    assert browser.title == "gemma3-ref compare"
    eventually(browser, "return document.documentElement.scrollWidth", size[0])
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert not browser.execute_script("return [...document.images].filter(i => !i.src.startsWith('data:')).length")


def test_the_verdict_and_the_first_divergence_stand_at_the_top(browser, pages):
    show(browser, pages["bug"])
    assert text(browser, "header .badge") == "bug"
    assert text(browser, "#first").strip() == f"first at {WRONG}, pass 0: 41.2 floors"
    assert "rope_interleaved (c = 0.9998 ± 0.0003): RoPE pairs channels" in text(browser, ".as-if")
    assert text(browser, "#tap") == WRONG
    assert browser.execute_script(CELL, "map-text", "attn.q_rope", 3)[3] == "<b>1</b>"


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize(
    ("tower", "place", "layer", "tap"),
    [
        ("text", "attn.q_rope", 8, "text.layer.8.attn.q_rope"),
        ("text", "ffn.act", 12, "text.layer.12.ffn.act"),
        ("text", "logits", None, "text.logits"),
        ("vision", "ffn.act", 4, "vision.layer.4.ffn.act"),
        ("vision", "pool", None, "vision.pool"),
    ],
)
def test_a_cell_shows_the_numbers_of_the_report(browser, pages, size, tower, place, layer, tap):
    report, profiles, _ = pages["all"]
    show(browser, pages["all"], size)
    z, _ = click(browser, tower, place, layer, tap)
    row = at(report, tap)
    shown = numbers_shown(browser)
    for name, keys in (("local", ("local", "local_floor", "local_ratio")), ("inherited", ("inherited", "floor"))):
        for value, key in zip(shown[name], keys, strict=False):
            assert float(value) == pytest.approx(
                row[key], rel=0.01, abs=0.005 if key.endswith("ratio") else None, nan_ok=True
            )
    if row["local_ratio"] == row["local_ratio"]:
        assert 10**z == pytest.approx(row["local_ratio"], rel=1e-3)
    told = text(browser, "#metrics")
    assert ("12 values" in told) == (tap == "text.layer.12.ffn.act")
    assert not row["metrics"] or str(row["metrics"]["worst_channel"]) in told
    tokens = profiles[0, tap]["tokens"]
    bars = browser.execute_script("return document.getElementById('tokens').data[0].hovertext")
    step = len(tokens) // len(bars)  # neighbours are joined where the page would be too large
    assert len(bars) in (len(tokens), 64, 128)
    for i, bar in enumerate(bars):
        assert float(bar.split()[-2]) == pytest.approx(max(tokens[i * step :][:step]), rel=0.01, abs=0.01, nan_ok=True)
    # 600 tokens in 512 bins: the first 88 bins hold two
    two = len(tokens) == 512
    name = f"tokens 0 to {step * (1 + two) - 1}: at most" if step * (1 + two) > 1 else "token 0:"
    assert bars[0].startswith(name)
    if row["metrics"]:  # 640 channels in 512 bins: the axis counts channels, as the number of the worst one does
        last = browser.execute_script("return document.getElementById('channels').data[0].hovertext.at(-1)")
        assert re.match(r"channels? (\d+ to )?639:", last)
        ends = browser.execute_script("return document.getElementById('channels').layout.xaxis.range")
        assert ends == [-0.5, 639.5]
        assert "There are 640 channels: a bar is the largest of neighbours." in text(browser, "#bins")
    assert errors(browser) == []


def test_bugs_are_marked_without_colour_and_the_limit_breaks_the_scale(browser, pages):
    show(browser, pages["all"])
    marks = [browser.execute_script(CELL, "map-text", *cell)[3] for cell in (("attn.k_rope", 5), ("ffn.out", 12))]
    assert marks == ["×", "?"]
    assert browser.execute_script(CELL, "map-text", "attn.k_rope", 17)[2] == 3
    scale = browser.execute_script("return document.getElementById('map-text').data[0].colorscale")
    assert scale[1][0] == scale[2][0] == pytest.approx((0.30103 + 1) / 4)
    assert scale[1][1] != scale[2][1]


def test_the_switches_change_the_map(browser, pages):
    report, _, _ = pages["all"]
    show(browser, pages["all"])
    choose = (
        "const s = document.getElementById(arguments[0]); s.value = arguments[1]; s.dispatchEvent(new Event('change'))"
    )
    browser.execute_script(choose, "error", "inherited_ratio")
    z = browser.execute_script(CELL, "map-text", "mid", 9)[2]
    assert 10**z == pytest.approx(at(report, "text.layer.9.mid")["inherited_ratio"], rel=1e-3)
    browser.execute_script(choose, "pass", "1")
    assert browser.execute_script(CELL, "map-text", "mid", 9)[2:] == [None, "?"]
    click(browser, "text", "ffn.up", 9, "text.layer.9.ffn.up")
    assert "pass 1" in text(browser, "#about")
    browser.execute_script(choose, "pass", "all")
    browser.execute_script(choose, "error", "local_ratio")
    z = browser.execute_script(CELL, "map-text", "ffn.up", 3)[2]
    assert 10**z == pytest.approx(max(at(report, "text.layer.3.ffn.up", n)["local_ratio"] for n in range(3)), rel=1e-3)
    assert browser.execute_script(CELL, "map-text", "mid", 9)[3] == "?"


def test_a_keyboard_is_enough(browser, pages):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    show(browser, pages["bug"])
    heat = browser.find_element(By.ID, "map-text")
    for key, tap in [
        (Keys.ARROW_RIGHT, "text.layer.4.attn.q_rope"),
        (Keys.ARROW_DOWN, "text.layer.4.attn.k_rope"),
        (Keys.ARROW_LEFT, "text.layer.3.attn.k_rope"),
        (Keys.ARROW_UP, "text.layer.3.attn.q_rope"),
    ]:
        heat.send_keys(key)
        shows(browser, tap)
    show(browser, pages["all"])
    button = browser.find_element(By.ID, "next")
    for i in range(3):
        button.send_keys(Keys.ENTER)
        shows(browser, f"text.layer.{i}.attn.k_rope")
    browser.find_element(By.ID, "previous").send_keys(Keys.ENTER)
    shows(browser, "text.layer.1.attn.k_rope")
    browser.find_element(By.ID, "map-text").send_keys(Keys.ARROW_DOWN)
    eventually(browser, "return /layer.1.(cache.k|attn.visible)$/.test(document.getElementById('tap').innerText)", True)


def test_the_evidence_is_drawn(browser, pages):
    report, _, _ = pages["bug"]
    show(browser, pages["bug"])
    data = browser.execute_script("return document.getElementById('coefficients').data[0]")
    rows = report["diagnosis"]
    assert data["x"][:4] == pytest.approx([row["coefficient"] for row in rows[:4]], rel=1e-3)
    assert data["error_x"]["array"][:4] == pytest.approx([2 * row["stderr"] for row in rows[:4]], rel=1e-3)
    assert (data["x"][4], data["marker"]["symbol"][4]) == (1.75, "triangle-right")
    layout = browser.execute_script("return document.getElementById('coefficients').layout")
    assert [shape["x0"] for shape in layout["shapes"]] == [0, 1]
    show(browser, pages["all"])
    layout = browser.execute_script("return document.getElementById('coefficients').layout")
    [band] = [shape for shape in layout["shapes"] if shape["type"] == "rect"]
    assert (band["y0"], band["y1"]) == (-0.5, 1.5)


def test_a_hostile_name_does_nothing(browser, pages):
    from selenium.common.exceptions import NoAlertPresentException

    show(browser, pages["all"])
    click(browser, "text", "mid", 9, "text.layer.9.mid")
    assert browser.title == "gemma3-ref compare"
    with pytest.raises(NoAlertPresentException):
        _ = browser.switch_to.alert
    labels = browser.execute_script(
        "return [...document.querySelectorAll('#coefficients .ytick text')].map(t => t.textContent)"
    )
    assert labels[3].startswith(r"<b>x</b>&lt;a\x1b[31m")
    assert '<img src=x onerror=alert(1)>"' in text(browser, "#rest")
    assert browser.execute_script("return document.querySelectorAll('script, #rest img, #diagnosis b').length") == 3


def test_colours_follow_the_scheme_also_while_the_page_is_open(browser, pages):
    from selenium.webdriver.support.ui import WebDriverWait

    show(browser, pages["bug"])
    look = (
        "getComputedStyle(document.body).backgroundColor, document.getElementById('map-text').data[0].colorscale[0][1]"
    )
    light = browser.execute_script(f"return [{look}]")

    def dark(driver):
        return all(a != b for a, b in zip(driver.execute_script(f"return [{look}]"), light, strict=True))

    prefer(browser, "dark")
    WebDriverWait(browser, PATIENCE).until(dark)
    page, _ = browser.execute_script(f"return [{look}]")
    brightness = [sum(map(int, colour[4:-1].split(","))) for colour in (page, light[0])]
    assert brightness[0] < 150 < 700 < brightness[1]
    prefer(browser, "light")
    WebDriverWait(browser, PATIENCE).until(lambda driver: driver.execute_script(f"return [{look}]") == light)
    assert errors(browser) == []


def test_two_dumps_are_compared_in_one_table(browser, pages):
    report, _, _ = pages["two"]
    show(browser, pages["two"])
    shown = numbers_shown(browser)
    assert float(shown["first dump, local"][2]) == pytest.approx(41.2)
    assert float(shown["second dump, local"][2]) < 2
    choose = "const s = document.getElementById('dump'); s.value = '1'; s.dispatchEvent(new Event('change'))"
    browser.execute_script(choose)
    assert browser.execute_script(CELL, "map-text", "attn.q_rope", 3)[3] == ""
    assert "match" in text(browser, "#about")
    assert report["verdict"] == "bug"
