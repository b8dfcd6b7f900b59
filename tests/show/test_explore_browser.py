"""The page of `explore`, read back in headless Chromium without network: it says what the arrays hold."""

import re
from importlib.util import find_spec

import numpy as np
import pytest
from support.browser import CHROMIUM, DRIVER, MISSING, chromium, errors, eventually, open_page
from support.explored import plotly, with_images, without_attention

from ref.show.explore import explore, packed
from ref.show.explore_page import write_explore

in_browser = pytest.mark.skipif(not (CHROMIUM and DRIVER and find_spec("selenium")), reason=f"needs {MISSING}")


@pytest.fixture(scope="module")
def browser():
    with chromium(1300, 1000) as driver:
        yield driver


@pytest.fixture(scope="module")
def page(explored, tmp_path_factory):
    return write_explore(explored, tmp_path_factory.mktemp("explore") / "page.html").as_uri()


ROWS = """
return [...document.querySelectorAll(`#${arguments[0]} tr`)].map(
  row => [row.cells[0].innerText, Number(row.querySelector("[data-p]").dataset.p)]);
"""
SET = """
const input = document.getElementById(arguments[0]);
input.value = arguments[1];
input.dispatchEvent(new Event(arguments[2]));
"""


def show(browser, address, size=(1300, 1000), scheme="light"):
    open_page(browser, address, size, scheme)


def click(browser, selector):
    browser.execute_script("document.querySelector(arguments[0]).scrollIntoView({block: 'center'})", selector)
    browser.find_element("css selector", selector).click()


def table(browser, name):
    """[(first cell, probability)] of a table."""
    return browser.execute_script(ROWS, name)


@plotly
@in_browser
@pytest.mark.parametrize("size", [(1300, 1000), (390, 844)], ids=["desktop", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_loads_offline_without_a_word_in_the_console_and_fits(browser, page, size, scheme):
    show(browser, page, size, scheme)
    assert errors(browser) == []
    assert browser.execute_script("return document.documentElement.scrollWidth") <= size[0]
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0


@plotly
@in_browser
def test_what_a_click_shows_is_what_the_arrays_hold(browser, page, real):
    loaded, ids, taps, logits = real
    show(browser, page)
    click(browser, '[data-token="10"]')
    browser.execute_script(SET, "layer", 5, "input")
    browser.execute_script(SET, "head", 2, "change")
    probs = taps["text.layer.5.attn.probs"][0, 2, 10]
    shown = table(browser, "attention")
    assert [int(name) for name, _ in shown] == np.argsort(-probs, kind="stable")[:8].tolist()
    np.testing.assert_allclose([p for _, p in shown], -np.sort(-probs)[:8], atol=1 / 65535)
    row = np.exp(logits[10].astype(np.float64) - logits[10].max())
    np.testing.assert_allclose([p for _, p in table(browser, "next")], -np.sort(-row / row.sum())[:10], rtol=1e-4)
    first = "return document.querySelector('#next tr td').textContent.trim()"
    assert browser.execute_script(first) == loaded.tokenizer().decode([int(logits[10].argmax())]).strip()
    drawn = "const z = document.getElementById('matrix').data[0].z; return [z.length, z[10][4], z[4][10]]"
    T, seen, unseen = browser.execute_script(drawn)
    assert len(ids) == T
    assert seen == pytest.approx(probs[4], abs=1 / 65535)
    assert unseen is None
    norms = browser.execute_script("return document.getElementById('norms').data[0].y")
    np.testing.assert_allclose(norms[7], np.linalg.norm(taps["text.layer.7.in"][0, 10]), rtol=1e-4)


@plotly
@in_browser
def test_keys_walk_tokens_layers_and_heads(browser, page, real):
    from selenium.webdriver.common.keys import Keys

    def press(*keys):
        for key in keys:
            browser.switch_to.active_element.send_keys(key)

    show(browser, page)
    last = len(real[1]) - 1
    where = "return ['token', 'layer', 'head'].map(id => +document.getElementById(id).value)"
    assert browser.execute_script("return document.activeElement === document.body")
    press(Keys.ARROW_LEFT)  # before anything was clicked
    eventually(browser, where, [last - 1, 17, 0])
    click(browser, f'[data-token="{last}"]')
    press(Keys.ARROW_LEFT, Keys.ARROW_LEFT, Keys.ARROW_DOWN, "h")
    eventually(browser, where, [last - 2, 16, 1])
    current = "const a = document.activeElement; return [+a.dataset.token, a.getAttribute('aria-current'), a.tabIndex]"
    eventually(browser, current, [last - 2, "true", 0])
    assert browser.execute_script("return document.querySelectorAll('#tokens [tabindex=\"0\"]').length") == 1
    press("h", "h", "h")  # the fifth choice is the mean
    eventually(browser, where, [last - 2, 16, 4])
    probs = real[2]["text.layer.16.attn.probs"][0, :, -3].mean(0)
    np.testing.assert_allclose([p for _, p in table(browser, "attention")], -np.sort(-probs)[:8], atol=1 / 65535)
    browser.find_element("css selector", "#layer").send_keys(Keys.ARROW_UP)  # a slider keeps its own keys
    eventually(browser, where, [last - 2, 17, 4])


@plotly
@in_browser
@pytest.mark.parametrize(("size", "named"), [((1300, 1000), True), ((390, 844), True), ((250, 700), False)])
def test_the_heads_picture_has_words_where_they_fit(browser, page, real, size, named):
    show(browser, page, size)
    ticks = "return [...document.querySelectorAll('#matrix .ytick text')].map(one => one.textContent)"
    shown = browser.execute_script(ticks)
    words = [piece.replace("▁", " ").strip() for piece in real[0].tokenizer().pieces(real[1])]
    assert shown == words if named else all(one.isdigit() for one in shown)
    eventually(browser, "return document.documentElement.scrollWidth <= innerWidth", True)


@plotly
@in_browser
def test_a_page_without_room_for_attention_says_so_and_works_on(browser, explored, tmp_path, monkeypatch):
    room = without_attention(explored)
    monkeypatch.setattr("ref.show.explore_page.packed", lambda one, _: packed(one, room))
    show(browser, write_explore(explored, tmp_path / "page.html").as_uri())
    assert errors(browser) == []
    assert "Attention of layer 17 is left out" in browser.execute_script("return document.body.innerText")
    browser.execute_script(SET, "token", 3, "input")
    assert len(table(browser, "next")) == 10
    assert browser.execute_script("return document.getElementById('token-name').textContent").startswith("3:")


@plotly
@in_browser
def test_hostile_and_long_tokens_change_nothing_but_words(browser, explored, tmp_path):
    hostile = ["</script><b>x</b>", "<img src=x onerror=alert(1)>", "\u202eabc", "\n" * 31, "x" * 64, "&amp;"]
    facts = explored.facts | {"texts": [*hostile, *explored.facts["texts"][len(hostile) :]]}
    facts["pieces"] = dict.fromkeys(facts["pieces"], "</script>" + "y" * 64)
    address = write_explore(explored._replace(facts=facts), tmp_path / "page.html").as_uri()
    for size in ((320, 700), (1300, 1000)):
        show(browser, address, size)
        for token in range(len(hostile)):
            browser.execute_script(SET, "token", token, "input")
            browser.execute_script(SET, "layer", 0, "input")  # a local layer has the longer name
            assert browser.execute_script("return document.documentElement.scrollWidth") <= size[0]
        assert errors(browser) == []
        assert browser.execute_script("return document.querySelectorAll('main b, main img').length") == 0
    assert browser.execute_script("return document.querySelector('[data-token=\"0\"]').textContent") == hostile[0]


TINTS = """
const button = document.querySelector('[data-token="0"]'), heats = [...document.querySelectorAll("#tokens button")];
const most = Math.max(...heats.map(one => Number(one.style.getPropertyValue("--heat-here"))));
button.style.setProperty("--heat-here", 0.6); // what p = 1 gets
const tint = getComputedStyle(button), under = getComputedStyle(button.closest("section"));
return [most, tint.color, tint.backgroundColor, under.backgroundColor];
"""


def light(rgb):
    """Relative luminance of WCAG."""
    x = np.asarray(rgb) / 255
    return float(np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722])


@plotly
@in_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_most_attended_token_can_be_read(browser, page, scheme):
    """WCAG AA: 4.5 to 1."""
    show(browser, page, scheme=scheme)
    most, *colours = browser.execute_script(TINTS)
    assert 0 < most <= 0.6
    ink, (*tint, alpha), under = ([float(x) for x in re.findall(r"[\d.]+", one)] for one in colours)
    ground = alpha * np.array(tint) + (1 - alpha) * np.array(under)
    bright, dark = sorted([light(ink), light(ground)], reverse=True)
    assert (bright + 0.05) / (dark + 0.05) >= 4.5


BOXES = """
const sides = ["top", "left", "height", "width"];
return [...document.querySelectorAll(".box")].map(box => sides.map(side => parseFloat(box.style[side])));
"""


@plotly
@in_browser
def test_patches_of_images_are_tokens_and_crops_are_drawn_on_the_photo(browser, tmp_path):
    loaded, ids, images, photos = with_images()
    explored = explore(loaded, ids, None, images, photos)
    show(browser, write_explore(explored, tmp_path / "page.html").as_uri())
    assert errors(browser) == []
    click(browser, '.cell[data-token="3"]')
    eventually(browser, "return document.body.innerText.includes('image 0, patch 1 sees tokens 0 to 5')", True)
    probs = explored.attention[-1][0, 3]
    np.testing.assert_allclose([p for _, p in table(browser, "attention")], -np.sort(-probs)[:6], atol=1 / 65535)
    boxes, (height, width) = photos[0].boxes, photos[0].image.shape[:2]
    y0, x0, y1, x1 = boxes.T
    expected = 100 * np.stack([y0 / height, x0 / width, (y1 - y0) / height, (x1 - x0) / width], axis=1)
    np.testing.assert_allclose(browser.execute_script(BOXES), expected, rtol=1e-4)
    eventually(browser, "return [...document.images].every(i => i.complete && i.naturalWidth > 0)", True)
