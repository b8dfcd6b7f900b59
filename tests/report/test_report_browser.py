"""The page in headless Chromium, offline: no word in the console, and what a cell shows is what the report says."""

import re
from importlib.util import find_spec

import pytest
from support.browser import CHROMIUM, DRIVER, MISSING, errors, eventually
from support.report_examples import WRONG, at
from support.report_page import CELL, DESKTOP, PHONE, click, numbers_shown, show, text

pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER and find_spec("selenium") and find_spec("plotly")), reason=f"needs {MISSING}, and plotly"
)


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
    assert text(browser, "#first").strip() == f"first at {WRONG} (pass 0), 41.2 floors"
    assert text(browser, ".as-if") == "RoPE pairs channels 2j and 2j + 1 (rope_interleaved)."
    assert text(browser, ".as-if + .hint") == "This explains the logits."
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
        said = float(bar.removesuffix(" floors").replace("differs", "inf").split()[-1])
        assert said == pytest.approx(max(tokens[i * step :][:step]), rel=0.01, abs=0.01, nan_ok=True)
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


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_block_says_what_is_known_of_each_cause(browser, pages, size):
    report, _, _ = pages["all"]
    show(browser, pages["all"], size)
    assert browser.execute_script("return document.querySelectorAll('.causes > li').length") == len(report["causes"])
    facts = "return [...document.querySelectorAll('.causes > li:nth-child(2) dt')].map(dt => dt.textContent)"
    assert browser.execute_script(facts) == ["at", "as well", "coefficient", "moves", "seen"]
    assert text(browser, ".proof").startswith("Proof (the model was run with what is named): something else remains: ")
    assert text(browser, "#causes ul li").endswith(r"in layer 1; cancels at a\x1b[31m\x00\x07\u202eb\ud800\x85\n\ufffe")
    widths = "return [...document.querySelectorAll('#causes dd')].map(dd => dd.getBoundingClientRect().width)"
    assert min(browser.execute_script(widths)) > size[0] / 3
    show(browser, pages["match"], size)
    assert browser.execute_script("return document.getElementById('causes')") is None


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
