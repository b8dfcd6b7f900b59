"""Servers' answers and greedy texts beside the truth: right ones match, and a mistake is named."""

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from support.logits_alone import planted
from support.server_json import llama_cpp, sglang, vllm

import ref
from ref.dump.read_server_json import ServerAnswer, answer_of
from ref.emulate.operands import ROUND
from ref.judge.compare import compare
from ref.judge.server_answers import _family, _known, _step
from ref.report.text import render_text
from ref.testing.broken import broken_taps

IDS = [2, *range(20, 38)]
SCHEMA = json.loads(Path("golden/schema/report.schema.json").read_text())


@pytest.fixture(scope="module")
def tiny():
    return ref.load("tiny")


def logits(loaded, name=None, dtype="float32"):
    rules = planted(name).mutant.rules if name else {}
    return np.asarray(dict(broken_taps(loaded, IDS, rules, dtype))["text.logits"][0], np.float32)


def judged(tiny, tree, **how):
    how = {"family": "float32"} | how
    report = compare(answer_of(tree, "answer.json"), loaded=tiny, **how)
    jsonschema.validate(report, SCHEMA)
    return report


@pytest.mark.parametrize(("make", "ids"), [(vllm, None), (llama_cpp, IDS[:-6]), (sglang, IDS[:-6])])
def test_right_answers_match(tiny, make, ids):
    report = judged(tiny, make(logits(tiny), IDS, 6), ids=ids)
    assert report["verdict"] == "match"
    assert "from_logits" not in report
    assert " log-probabilities after " in render_text(report).splitlines()[-1]


@pytest.mark.parametrize(("make", "ids"), [(vllm, None), (llama_cpp, IDS[:-6]), (sglang, IDS[:-6])])
def test_mistakes_are_named(tiny, make, ids):
    report = judged(tiny, make(logits(tiny, "rope_interleaved"), IDS, 6), ids=ids)
    first = report["from_logits"]["ranked"][0]
    assert (report["verdict"], first["mutant"], first["verdict"]) == ("bug", "rope_interleaved", "named")
    last = render_text(report).splitlines()[-1]
    assert "(rope_interleaved, explains " in last


def test_one_log_probability_per_token_is_enough(tiny):
    report = judged(tiny, vllm(logits(tiny, "embed_unscaled"), IDS, 0, most=0))
    assert report["from_logits"]["ranked"][0]["mutant"] == "embed_unscaled"


def text_answer(ids):
    return ServerAnswer("text", "a text", None, [], IDS[:-6], ids, "...", [])


def test_greedy_texts(tiny):
    truth, prompt = logits(tiny), list(IDS[:-6])
    right, now = [], prompt
    for _ in range(6):
        out = dict(broken_taps(tiny, now, {}, "float32"))["text.logits"][0, -1]
        right.append(int(out.argmax()))
        now = [*now, right[-1]]
    assert truth.shape[0] == len(IDS)
    report = compare(text_answer(right), loaded=tiny)
    assert render_text(report).splitlines()[-1] == "verdict: match: all 6 tokens are the truth's own choices"
    wrong = [*right[:2], (right[2] + 1) % 97, *right[3:]]
    report = compare(text_answer(wrong), loaded=tiny)
    assert report["verdict"] == "bug"
    assert f"token 2 of 6: id {wrong[2]} where the truth's is id {right[2]}" in report["taps"][0]["why"]
    jsonschema.validate(report, SCHEMA)


def test_the_format_is_told_by_the_steps_of_the_values(tiny):
    for form in ("bfloat16", "float16", "float32"):
        rounded = ROUND[form](20 + 10 * logits(tiny) / np.abs(logits(tiny)).max())
        known = _known_of(vllm(rounded, IDS, 6))
        assert _family(answer_of(vllm(rounded, IDS, 6), "x"), known) == form


def _known_of(tree):
    from ref.dump.server_tokens import followed

    return _known(followed(answer_of(tree, "x"), None, lambda: None, 97))


def test_printed_digits_are_noise(tiny):
    tree = vllm(logits(tiny), IDS, 0)
    assert _step(_known_of(tree)) == 0
    for place in tree["choices"][0]["prompt_logprobs"][1:]:
        for one in place.values():
            one["logprob"] = round(one["logprob"], 3)
    assert _step(_known_of(tree)) == 1e-3
    assert judged(tiny, tree)["verdict"] == "match"
