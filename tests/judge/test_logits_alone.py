"""Dumps of nothing but logits, or the final norm: the judge runs whole-model mistakes, and its reports say which."""

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from support.judged import captured, dumped
from support.logits_alone import planted

import ref
from ref.judge.compare import compare
from ref.report.html import render_html
from ref.report.junit import junit_xml
from ref.report.text import render_text

SCHEMA = json.loads(Path("golden/schema/report.schema.json").read_text())
LOGITS, NORM = "text.logits", "text.final_norm"


@pytest.fixture(scope="module")
def tiny():
    return ref.load("tiny")


def judged(tiny, taps, name=None, change=lambda x: x, **how):
    arrays = captured(planted(name).mutant.rules if name else None)
    report = compare(dumped({tap: change(arrays[tap]) for tap in taps}), loaded=tiny, **how)
    jsonschema.validate(report, SCHEMA)
    return report


@pytest.mark.parametrize("taps", [[LOGITS], [NORM], [NORM, LOGITS]])
def test_the_mistake_is_named_in_every_report(tiny, taps):
    lines = []
    report = judged(tiny, taps, "rope_interleaved", say=lines.append)
    first = report["from_logits"]["ranked"][0]
    assert (first["mutant"], first["verdict"], report["decide"]) == ("rope_interleaved", "named", "")
    assert lines[0].startswith("shortlist after ")
    text = render_text(report)
    assert "(rope_interleaved, explains " in text.splitlines()[-1]
    assert "from the logits alone" in text
    assert "(rope_interleaved, explains " in render_html(report, None)
    assert "from the logits alone" in junit_xml(report)
    assert "no mistake that is known here" not in text + render_html(report, None) + junit_xml(report)


def test_right_logits_are_given_no_name(tiny):
    report = judged(tiny, [LOGITS])
    assert report["verdict"] == "match"
    assert "from_logits" not in report


def test_other_taps_need_no_search(tiny):
    report = judged(tiny, [LOGITS, "text.layer.3.attn.q_rope"], "rope_interleaved")
    assert "from_logits" not in report


def test_log_probabilities_in_the_place_of_logits_are_said(tiny):
    def normalised(x):
        wide = x.astype(np.float64)
        return (wide - np.log(np.exp(wide).sum(axis=-1, keepdims=True))).astype(np.float32)

    report = judged(tiny, [LOGITS], change=normalised)
    assert report["verdict"] == "bug"
    assert "from_logits" not in report
    assert "right but for a number common to all of a token" in render_text(report).splitlines()[-1]


def test_progress_is_shown(tiny):
    seen = []
    judged(tiny, [LOGITS], "ffn_silu", progress=lambda done, total: seen.append((done, total)))
    assert all(done <= total for done, total in seen)
    assert len(seen) > 2


@pytest.mark.parametrize(("name", "verdict"), [("rope_interleaved", "bug"), (None, "match")])
def test_the_logits_of_the_last_token_only(tiny, name, verdict):
    arrays = captured(planted(name).mutant.rules if name else None)
    ids = [20 + i % 70 for i in range(arrays[LOGITS].shape[1])]
    report = compare({LOGITS: arrays[LOGITS][:, -1:]}, loaded=tiny, ids=ids)
    jsonschema.validate(report, SCHEMA)
    assert report["verdict"] == verdict
    assert report["taps"][0]["why"].startswith("the last token only, ")
    named = [row["mutant"] for row in report.get("from_logits", {"ranked": []})["ranked"] if row["verdict"] == "named"]
    assert named == ([name] if name else [])
    render_text(report)
