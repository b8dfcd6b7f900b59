"""The proof: the named mistakes are planted in the truth; what it says where they explain, and where they do not."""

import numpy as np
from support.caused import LOCAL, report_of, right
from support.judged import captured, dumped

import ref
from ref import compare
from ref.emulate.text_rules import LAYER

UP = LAYER + "ffn.up"


def scaled(at):
    return right(UP)(at) * np.float32(2)


def test_it_compares_the_logits_with_and_without_the_mistake():
    proof = report_of({UP: scaled}, LOCAL)["proof"]
    assert (proof["verdict"], proof["tap"], proof["first"]) == ("explained", "text.logits", None)
    assert proof["left"] < 2
    assert proof["says"].startswith("these explain the logits: ")
    assert proof["says"].endswith(" without them")


def test_a_dump_without_logits_is_judged_at_its_last_tap():
    taps = captured({UP: scaled}, only=LOCAL)
    few = {tap: x for tap, x in taps.items() if tap.startswith(("text.embed", "text.layer.0", "text.layer.3."))}
    proof = compare(dumped(few), loaded=ref.load("tiny"))["proof"]
    assert (proof["verdict"], proof["tap"]) == ("explained", f"text.layer.{LOCAL}.out")
    assert "the last tap of the dump" in proof["says"]


def test_something_that_no_tap_shows_remains():
    # the layer after the mistake has one of its own, of which the dump shows the logits only
    taps = captured({UP: scaled}, only=LOCAL)
    shifted = taps | {"text.logits": taps["text.logits"] + np.float32(0.5) * np.sin(np.arange(97, dtype=np.float32))}
    report = compare(dumped(shifted), loaded=ref.load("tiny"))
    proof = report["proof"]
    assert proof["verdict"] == "remains"
    assert proof["first"] == {"tap": "text.logits", "layer": None, "pass": 0}
    assert [one["verdict"] for one in report["causes"]].count("unexplained") == 1


def test_without_a_name_there_is_no_proof():
    noise = np.random.default_rng(0).normal(size=(1, 19, 44)).astype(np.float32)
    assert report_of({UP: lambda at: noise}, LOCAL)["proof"] is None
