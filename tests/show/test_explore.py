"""`explore`: what the page says is what the arrays hold, read back in headless Chromium without network."""

import base64
import json
import re
import zlib
from importlib.util import find_spec

import numpy as np
import pytest
from support.browser import CHROMIUM, DRIVER, MISSING, chromium, errors, eventually, open_page
from support.command_line import command, json_of

import ref
from ref.cli import main
from ref.errors import BadInput
from ref.model.taps import Recorder
from ref.model.text import How
from ref.show.explore import Photo, explore, packed
from ref.show.explore_page import write_explore
from ref.show.lens import logit_lens

PROMPT = "The capital of France is Paris. The capital of Italy is"
plotly = pytest.mark.skipif(not find_spec("plotly"), reason="needs plotly: pip install -e '.[report]'")
in_browser = pytest.mark.skipif(not (CHROMIUM and DRIVER and find_spec("selenium")), reason=f"needs {MISSING}")


@pytest.fixture(scope="module")
def real():
    loaded = ref.load("270m")
    tokenizer = loaded.tokenizer()
    ids = tokenizer.encode(PROMPT)
    taps = Recorder("*.in", "*.out", "*.attn.probs", "*.post_norm")
    logits, _ = ref.forward(loaded.params, [ids], How(taps=taps))
    return loaded, ids, taps.values, logits[0]


@pytest.fixture(scope="module")
def explored(real):
    return explore(real[0], real[1], real[0].tokenizer())


def with_images():
    """`tiny` and two pictures, one with crops: text, four soft tokens an image."""
    loaded, rng = ref.load("tiny"), np.random.default_rng(0)
    photos = [rng.integers(0, 255, (60, 200, 3), np.uint8), rng.integers(0, 255, (50, 50, 3), np.uint8)]
    crops = ref.config.CROPS["transformers"]._replace(min_crop=20)
    seen = [ref.preprocess(one, crops, size=loaded.vision.config.image) for one in photos]
    images = ref.Images(loaded.vision, np.concatenate([one.pixels for one in seen]))
    soft, ids = [loaded.params.config.vocabulary] * 4, [2, 30]
    for number in range(len(images.pixels)):
        ids += [*soft, 40 + number]
    return loaded, ids, images, [Photo(one, s.boxes) for one, s in zip(photos, seen, strict=True)]


def unpacked(data):
    """Read attention as the page does: {layer: [N, T, T]}."""
    T, wide, out = len(data["ids"]), data["attention"]["bits"] == 16, {}
    for layer, text in zip(data["attention"]["layers"], data["attention"]["data"], strict=True):
        raw, at = zlib.decompress(base64.b64decode(text)), 0
        flat = np.frombuffer(raw, "<u2") / 65535 if wide else (np.frombuffer(raw, "u1") / 255) ** 2
        ranges = np.array(data["ranges"]["kinds"][data["ranges"]["of"][layer]]).reshape(T, 2)
        out[layer] = np.zeros((data["heads"], T, T))
        for n in range(data["heads"]):
            for t, (first, stop) in enumerate(ranges):
                out[layer][n, t, first:stop] = flat[at : at + stop - first]
                at += stop - first
        assert at == len(flat)
    return out


def test_attention_is_packed_to_its_steps(real, explored):
    data = packed(explored, 10**7)
    assert data["attention"]["bits"] == 16
    for layer, probs in unpacked(data).items():
        assert np.abs(probs - real[2][f"text.layer.{layer}.attn.probs"][0]).max() <= 1 / 65535


def test_attention_is_made_coarser_then_thinned_where_there_is_no_room():
    explored = explore(ref.load("tiny"), [5 + i % 80 for i in range(90)])  # of 84 heads

    def packs(room):
        data = packed(explored, room)
        size = len(json.dumps(data, separators=(",", ":")))
        assert size <= room
        for layer, probs in unpacked(data).items():
            assert np.abs(probs - explored.attention[layer]).max() <= 1 / 255
        assert len(data["lens"]["ids"][0][0]) == 5
        return size, data["attention"]["bits"], data["attention"]["layers"]

    whole, bits, layers = packs(10**7)
    assert (bits, len(layers)) == (16, 7)
    coarse, bits, layers = packs(whole - 2000)
    assert (bits, len(layers)) == (8, 7)
    _, bits, layers = packs(coarse - 6000)
    assert bits == 8
    assert 1 <= len(layers) < 7
    assert layers[-1] == 6


def test_where_the_facts_take_most_of_the_room_the_lens_has_fewer_tokens(explored):
    facts = len(json.dumps(packed(explored, 10**7) | {"attention": None}, separators=(",", ":")))
    short = packed(explored, facts + 3000)["lens"]
    assert len(short["ids"][3][2]) in (1, 3)
    assert explored.facts["lens"]["ids"][3][2][: len(short["ids"][3][2])] == short["ids"][3][2]
    assert len(explored.facts["lens"]["ids"][3][2]) == 5


def without_attention(explored):
    """Find a room in which the facts fit, but no layer's attention."""
    for room in range(60_000, 10_000, -250):
        if not packed(explored, room)["attention"]["layers"]:
            return room
    raise AssertionError("attention always fits")


def test_the_lens_ends_with_the_models_own_predictions(real):
    loaded, _, taps, logits = real
    streams = np.stack([taps["text.layer.0.in"][0], *(taps[f"text.layer.{i}.out"][0] for i in range(18))])
    lens = logit_lens(loaded.params, streams, top=3)
    wide = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    wide /= wide.sum(-1, keepdims=True)
    np.testing.assert_array_equal(lens.ids[-1, :, 0], logits.argmax(-1))
    # logits of 640 terms, summed in another order for other numbers of rows and threads, part by some of their steps
    steps = 16 * float(np.spacing(np.float32(abs(logits).max())))
    np.testing.assert_allclose(lens.probs[-1], -np.sort(-wide, axis=-1)[:, :3], rtol=steps)


def test_lengths_are_those_of_the_rows(real, explored):
    norms, taps = explored.facts["norms"], real[2]
    assert len(norms["stream"]) == 19
    for i in (0, 5, 17):
        np.testing.assert_allclose(
            norms["stream"][i], np.linalg.norm(taps[f"text.layer.{i}.in"][0], axis=-1), rtol=1e-4
        )
        added = np.linalg.norm(taps[f"text.layer.{i}.attn.post_norm"][0], axis=-1)
        np.testing.assert_allclose(norms["attn"][i], added, rtol=1e-4)


def test_images_are_views_with_the_places_of_their_soft_tokens():
    loaded, ids, images, photos = with_images()
    facts = explore(loaded, ids, None, images, photos).facts
    assert [(one["first"], one["photo"], one["box"]) for one in facts["views"]] == [
        (2, 0, -1), *((7 + 5 * i, 0, i) for i in range(len(photos[0].boxes))), (7 + 5 * len(photos[0].boxes), 1, -1)
    ]  # fmt: skip
    assert len(photos[0].boxes) > 1
    assert [one["boxes"] for one in facts["photos"]] == [one.boxes.tolist() for one in photos]
    assert facts["texts"][:3] == ["2", "30", ""]


def test_a_long_prompt_is_refused_before_it_is_run():
    with pytest.raises(BadInput, match="explore: prompt: wanted at most 1280 tokens, got 1281"):
        explore(ref.load("tiny"), [5] * 1281)


@plotly
@pytest.mark.parametrize("name", ["image", "ids"])
def test_a_file_that_is_read_is_not_overwritten(tmp_path, capsys, name):
    from PIL import Image

    path = tmp_path / ("photo.png" if name == "image" else "ids.txt")
    if name == "image":
        Image.new("RGB", (60, 60)).save(path)
        given = ["--image", str(path), "--ids", "5,97,97,97,97,6"]
    else:
        path.write_text("5,6,7")
        given = ["--ids", str(path)]
    before = path.read_bytes()
    assert main(["explore", "--weights", "tiny", *given, "-o", str(path)]) == 2
    assert "output file: wanted another file than what is read, got the same" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_there_must_be_room_for_the_facts(explored):
    with pytest.raises(BadInput, match="explore: page: wanted at most 1000 bytes of data"):
        packed(explored, 1000)


@plotly
def test_the_command_writes_a_small_page_and_says_so(tmp_path, capsys):
    path = tmp_path / "page.html"
    facts = json_of(capsys, "explore", "--ids", "5,6,7", "--weights", "tiny", "-o", str(path))
    assert facts == {"page": str(path), "bytes": path.stat().st_size, "tokens": 3, "layers": 7}
    assert facts["bytes"] < 8_000_000
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (["one", "two"], "prompt: wanted one, got 2 texts"),
        ([], "prompt: wanted a text or --ids, got neither"),
        (["--ids", "5,6", "-o", "{}/no/page.html"], "no/page.html: output file: wanted a place that can be written"),
        (["--ids", "5,6", "-o", "{}"], "output file: wanted a name for a file, got a folder or device"),
        (["--ids", "5,6", "-o", "."], "output file: wanted a name for a file, got a folder or device"),
        (["--ids", "5,6", "-o", ""], "output file: wanted a name for a file, got a folder or device"),
        (["--ids", "5,99999"], "wanted"),
    ],
)
@plotly
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, capsys, given, line):
    given = [one.replace("{}", str(tmp_path)) for one in given]
    out = [] if "-o" in given else ["-o", str(tmp_path / "page.html")]
    assert main(["explore", "--weights", "tiny", *given, *out]) == 2
    said = capsys.readouterr().err
    assert line in said
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


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


def test_explore_stands_in_the_help():
    assert "explore" in command("--help").stdout
