"""The page in headless Chromium: its switches, the keyboard, and light and dark colours."""

from importlib.util import find_spec

import pytest
from support.browser import CHROMIUM, DRIVER, MISSING, PATIENCE, errors, eventually, prefer
from support.report_examples import at
from support.report_page import CELL, click, show, shows, text

pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER and find_spec("selenium") and find_spec("plotly")), reason=f"needs {MISSING}, and plotly"
)


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
