"""Looking at a report's page, and clicking at its map, as a reader would."""

from support.browser import eventually, open_page

DESKTOP, PHONE = (1400, 1000), (390, 844)


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
