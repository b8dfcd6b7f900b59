"""The page: one file of at most 8 MB that runs no text it was given, written whole or not at all."""

import base64
import hashlib
import json
import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from support.report_examples import HOSTILE, INF, WRONG, at, everything_wrong, example, rope_bug, wrong

import ref.report.html as report_html
from ref.errors import BadInput
from ref.report.html import render_html, write_html
from ref.report.page import MOST_BYTES
from ref.report.page_data import packed

pytest.importorskip("plotly", reason="needs plotly: pip install -e '.[report]'")


class Seen(HTMLParser):
    """What a browser's parser makes of a page: elements, and the text inside each kind."""

    def __init__(self, page):
        super().__init__()
        self.open, self.scripts, self.tags, self.texts = [], [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")
        self.open.append(tag)

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        else:
            self.texts.append(data)


def data_of(page):
    return json.loads(Seen(page).scripts[0])


def rows_of(data, dump=0):
    return [dict(zip(data["row"], row, strict=True)) for row in data["dumps"][dump]]


def test_the_page_is_one_file_that_loads_nothing(tmp_path):
    path = write_html(*everything_wrong(), tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == [path]
    page = path.read_text(encoding="utf-8")
    seen = Seen(page)
    assert not [attrs for _, attrs in seen.tags if "src" in attrs or ("href" in attrs and attrs["href"] != "data:,")]
    assert {tag for tag, _ in seen.tags}.isdisjoint({"img", "iframe", "object", "embed", "base", "form"})
    [policy] = [attrs["content"] for _, attrs in seen.tags if attrs.get("http-equiv")]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    # exactly the two scripts that run are allowed to
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in seen.scripts[1:]]
    assert len(digests) == 2
    assert re.findall("'sha256-([^']+)'", policy) == digests


def test_what_comes_from_a_dump_is_text():
    seen = Seen(render_html(*everything_wrong()))
    assert len(seen.scripts) == 3
    assert "onerror" not in {name for _, attrs in seen.tags for name in attrs}
    assert "owned" not in seen.scripts[2]
    for text in (HOSTILE, r"a\x1b[31m\x00\x07\u202eb\ud800\x85\n\ufffe"):
        assert any(text in one for one in seen.texts)
    assert "<" not in seen.scripts[0]


def test_marks_of_the_template_in_a_name_are_not_filled_in():
    report, profiles = example()
    report["unaligned"] = [{"name": "@@DATA@@ @@JS@@", "why": "no table has it"}]
    assert "@@DATA@@ @@JS@@: no table has it" in Seen(render_html(report, profiles)).texts


def test_the_numbers_of_the_report_are_in_the_page():
    report, profiles = rope_bug()
    data = data_of(render_html(report, profiles))
    rows = rows_of(data)
    assert [row["tap"] for row in rows] == [row["tap"] for row in report["taps"]]
    for shown, row in zip(rows, report["taps"], strict=True):
        assert data["groups"][shown["group"]] == row["group"]
        for key in ("local", "local_floor", "local_ratio", "inherited", "floor", "inherited_ratio"):
            assert shown[key] == pytest.approx(row[key], rel=1e-3)
        assert shown["metrics"]["cosine"] == row["metrics"]["cosine"]
    tokens, channels, step, counts, sizes = data["profiles"][[row["tap"] for row in rows].index(WRONG)]
    np.testing.assert_allclose(tokens, profiles[0, WRONG]["tokens"], rtol=1e-2)
    np.testing.assert_allclose(channels, profiles[0, WRONG]["channels"], rtol=1e-2)
    assert (step, counts, sizes) == (1, [40, 512], [40, 640])
    assert data["first"] == {"tap": WRONG, "layer": 3, "pass": 0}
    assert [row["class"] for row in data["diagnosis"]] == [0, 1, 2, 3, 4]


def test_numbers_that_json_does_not_know_survive():
    report, profiles = everything_wrong()
    data = data_of(render_html(report, profiles))
    rows = {(row["pass"], row["tap"]): i for i, row in enumerate(rows_of(data))}
    shown = rows_of(data)[rows[0, "text.layer.12.ffn.act"]]
    assert (shown["local"], shown["local_ratio"], shown["nonfinite"]["truth"]) == ("nan", "nan", 0.0123)
    assert data["profiles"][rows[0, "text.layer.12.ffn.act"]][0] == [1.0, "nan", "inf", 0.0]
    assert rows_of(data)[rows[0, "text.layer.11.attn.visible"]]["local_ratio"] == "inf"
    assert rows_of(data)[rows[1, "text.layer.9.mid"]]["local_ratio"] is None


def test_tables_hold_what_was_found_without_any_script():
    texts = " ".join(Seen(render_html(*everything_wrong())).texts)
    for text in ("first at vision.layer.4.ffn.act (pass 0), 5.50 floors", "rope_factor_missing", "1.000 ± 0.004"):
        assert text in texts
    for text in ("the window was not exercised", "inv_freq", "judged against 270m", "12 values NaN or infinite"):
        assert text in texts


@pytest.mark.parametrize(
    "size",
    [
        {"layers": 62, "vision_layers": 27, "tokens": 512},
        {"layers": 18, "tokens": 512, "passes": 4},
        {"layers": 34, "tokens": 40, "passes": 30},
    ],
    ids=["27b with an image", "270m with steps", "more than there is room for"],
)
def test_the_page_is_never_larger_than_promised_and_keeps_the_bug_sharp(size):
    report, profiles = example(**size)
    wrong(report)
    profiles[0, WRONG]["tokens"][17] = 77.7
    page = render_html(report, profiles)
    assert len(page.encode()) <= MOST_BYTES == 8_000_000
    data = data_of(page)
    rows = rows_of(data)
    place = next(i for i, row in enumerate(rows) if (row["tap"], row["pass"]) == (WRONG, 0))
    assert data["profiles"][place][0][17 // data["profiles"][place][2]] == 77.7
    assert len({row["pass"] for row in rows}) + data["passes_left_out"] == len(report["passes"])


def test_joined_neighbours_keep_their_maximum():
    report, profiles = example(layers=4, tokens=300)
    whole, small = (json.loads(packed(report, profiles, None, room)) for room in (10**7, 200_000))
    steps = {one[2] for one in small["profiles"]}
    assert steps == {max(steps)}
    assert max(steps) > 1
    for a, b in zip(whole["profiles"], small["profiles"], strict=True):
        for axis in (0, 1):
            parts = [a[axis][i : i + b[2]] for i in range(0, len(a[axis]), b[2])]
            assert b[axis] == [max(part) for part in parts]
        assert a[3] == b[3] == [len(a[0]), len(a[1])]


def test_two_dumps_stand_beside_each_other():
    first, profiles = rope_bug()
    second, _ = example(seed=3)
    at(second, WRONG)["local_ratio"] = 0.123
    page = render_html(first, profiles, second)
    data = data_of(page)
    [row] = [row for row in rows_of(data, 1) if row["tap"] == WRONG]
    assert row["local_ratio"] == 0.123
    assert {"first dump: transformers 5.23.0", "The second dump"} <= set(Seen(page).texts)


def test_reports_as_json_gives_them_back_are_drawn_too():
    report, profiles = rope_bug()
    at(report, "text.layer.5.mid").update(local_ratio=INF, local=INF)
    again = json.loads(json.dumps(report).replace("Infinity", "null").replace("NaN", "null"))
    assert rows_of(data_of(render_html(again, {})))[0]["tap"] == "text.embed"
    assert data_of(render_html(again, {}))["profiles"][0] is False
    empty = again | {"taps": [], "first": None, "verdict": "undetermined", "diagnosis": [], "passes": []}
    assert data_of(render_html(empty, {}))["dumps"] == [[]]
    assert len(profiles) == len(report["taps"])


def test_a_page_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("old")
    monkeypatch.setattr(report_html, "render_html", lambda *_: "new")
    with pytest.raises(BadInput, match="output file: wanted a place that can be written"):
        write_html({}, {}, tmp_path / "no" / "report.html")
    with pytest.raises(BadInput, match="wanted a name for a file, got a folder or device"):
        write_html({}, {}, tmp_path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(BadInput, match="got No space left on device"):
        write_html({}, {}, path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_without_plotly_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(BadInput, match=r'plotly: wanted pip install -e "\.\[report\]"') as refusal:
        render_html(*example())
    assert len(str(refusal.value).splitlines()) == 1
