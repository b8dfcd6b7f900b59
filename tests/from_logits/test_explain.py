"""Mistakes found from logits alone, on `tiny`: the catalogue's, those with a number, those in one layer."""

import numpy as np
import pytest
from support.logits_alone import greedy_of, logits_of, planted, text_of, top_of

import ref
from ref.from_logits.answers import Answer, Known
from ref.from_logits.candidates import Parameter
from ref.from_logits.search import explain
from ref.from_logits.trial import Trial

IDS = [2, *range(20, 38)]


@pytest.fixture(scope="module")
def tiny():
    return ref.load("tiny")


def explained(loaded, candidate, make=logits_of, **how):
    text = text_of(loaded, IDS)
    return explain(Trial(loaded, text, make(loaded, text, candidate, **how), "float32"))


@pytest.mark.parametrize("name", ["rope_interleaved", "embed_unscaled", "final_norm_missing", "norm_eps_1e-5"])
def test_mistakes_of_the_catalogue(tiny, name):
    first = explained(tiny, planted(name))["ranked"][0]
    assert (first["mutant"], first["verdict"], first["layers"]) == (name, "named", None)
    assert first["explains"] > 0.99
    assert first["left"] < 2


def test_correct_logits_are_given_no_name(tiny):
    assert explained(tiny, None) is None


def test_the_last_token_is_enough(tiny):
    first = explained(tiny, planted("ffn_silu"), rows=[len(IDS) - 1])["ranked"][0]
    assert (first["mutant"], first["verdict"]) == ("ffn_silu", "named")


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [("rotary_base", 33_000.0, "local"), ("softmax_scale", 0.31, "all"), ("embedding_scaled", 5.0, "all"),
     ("norm_epsilon", 2.5e-4, "all"), ("window", 7, "local"), ("horizon", 9, "global")],
)  # fmt: skip
def test_mistakes_with_a_number(tiny, name, value, kind):
    first = explained(tiny, planted(name, value=value, kind=kind, config=tiny.params.config))["ranked"][0]
    assert (first["mutant"], first["verdict"]) == (name, "named")
    assert first["parameters"][0]["value"] == pytest.approx(value, rel=2e-3)


def test_a_mistake_in_one_layer(tiny):
    found = explained(tiny, planted("norm_without_plus_one", layer=3))
    first = found["ranked"][0]
    assert (first["mutant"], first["layers"], first["verdict"]) == ("norm_without_plus_one", [3], "named")
    assert found["tried"]["layers"] > 100


def test_a_mistake_that_is_not_known_here_is_listed_without_a_name(tiny):
    text = text_of(tiny, IDS)
    answer = logits_of(tiny, text, planted("ffn_silu"))
    values = answer.known[0].values

    def with_values(values):
        known = (answer.known[0]._replace(values=values),)
        return explain(Trial(tiny, text, answer._replace(known=known), "float32"))["ranked"]

    noisy = values + 0.3 * np.std(values) * np.random.default_rng(0).standard_normal(values.shape)
    ranked = with_values(noisy)
    assert ranked[0]["mutant"] == "ffn_silu"
    assert ranked[0]["left"] > 2
    other = values[::-1] + 0.0
    ranked = with_values(other)
    assert all(row["verdict"] == "unexplained" for row in ranked)


@pytest.mark.parametrize("most", [1, 5])
def test_log_probabilities_of_the_most_probable(tiny, most):
    first = explained(tiny, planted("rope_interleaved"), make=top_of, most=most)["ranked"][0]
    assert (first["mutant"], first["verdict"]) == ("rope_interleaved", "named")


def test_greedy_tokens_give_a_list(tiny):
    rows = explained(tiny, planted("rope_interleaved"), make=greedy_of)["ranked"]
    assert "rope_interleaved" in [row["mutant"] for row in rows]


@pytest.mark.parametrize("seed", range(4))
def test_a_text_that_is_not_greedy_is_given_no_name(tiny, seed):
    """One of the forty most probable tokens each: no mistake chose them, and small or capped logits explain none."""
    text = text_of(tiny, IDS)
    whole = logits_of(tiny, text).known[0]
    picks = np.random.default_rng(seed).integers(0, 40, len(whole.rows))
    columns = np.argsort(-whole.values, axis=1)[np.arange(len(picks)), picks][:, None]
    answer = Answer("greedy", (Known(whole.rows, columns, np.zeros(columns.shape)),))
    found = explain(Trial(tiny, text, answer, "float32"))
    assert all(row["verdict"] == "unexplained" for row in found["ranked"])
    assert {"logits_scaled", "final_softcap"} <= {row["family"] for row in found["tried"]["not_tried"]}


def test_a_number_within_its_own_error_is_no_name():
    sure = planted("ffn_silu")._replace(parameters=(Parameter("cap", 3.5, 0.8, "none"), Parameter("n", 2, None, 0)))
    assert sure.is_sure
    assert not sure._replace(parameters=(Parameter("cap", 3.5, 7.0, "none"),)).is_sure
    assert not sure._replace(parameters=(Parameter("factor", 1.1, 0.05, 1.0),)).is_sure


def test_what_is_not_tried_is_said(tiny):
    tried = explained(tiny, planted("embed_unscaled"))["tried"]
    why = {row["family"]: row["why"] for row in tried["not_tried"]}
    assert why["cache_stale"] == "needs cached keys"
    assert why["images_scaled"] == "needs an image"
    assert "rotary_base" in tried["families"]


def test_too_few_numbers_to_fit(tiny):
    text = text_of(tiny, IDS)
    answer = top_of(tiny, text, planted("embed_unscaled"), most=1)
    last = answer.known[0]._replace(rows=answer.known[0].rows[-1:], columns=answer.known[0].columns[-1:])
    last = last._replace(values=answer.known[0].values[-1:])
    tried = explain(Trial(tiny, text, answer._replace(known=(last,)), "float32"))["tried"]
    assert tried["families"] == []
    assert "there are 1" in {row["family"]: row["why"] for row in tried["not_tried"]}["rotary_base"]
