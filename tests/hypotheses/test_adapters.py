"""What an adapter adds, times a wrong number: read off each product that has it, in NumPy and without PEFT."""

import numpy as np
import pytest
from support.caused import product, right
from support.judged import captured, dumped
from support.lora import ALPHA, RANK, save_adapter

import ref
from ref import compare
from ref.emulate.context import split_heads
from ref.emulate.text_rules import LAYER
from ref.measure import measure_logits

SCALE = ALPHA / RANK


def planted(products, multiple, embedded=1.0):
    """Return rules that add B A times a number, in layer 3 and at the ends."""
    base = ref.load("tiny").params

    def in_layer(name, field, source):
        def rule(at):
            if at.layer != 3:
                return right(name)(at)
            weight = np.asarray(getattr(base.layers[3], field), np.float64) + multiple * products[field]
            y = product(at[source], weight)
            return split_heads(y, at.config.query_heads) if name == "attn.q" else y

        return {LAYER + name: rule}

    def embed(at):
        table = base.embedding + embedded * multiple * products["embedding"]
        return (table[at.one_pass.ids] * np.sqrt(at.config.width)).astype(np.float32)

    rules = {}
    if "q" in products:
        rules |= in_layer("attn.q", "q", "attn.pre_norm")
    if "down" in products:
        rules |= in_layer("ffn.out", "down", "ffn.act")
    if "embedding" in products:
        rules["text.embed"] = embed
    if "head" in products:
        rules["text.logits"] = lambda at: product(at["text.final_norm"], base.embedding + multiple * products["head"])
    return rules


def judged(folder, fields, multiple, embedded=1.0):
    products = save_adapter(folder, fields)
    dump = dumped(captured(planted(products, multiple, embedded)))
    return compare(dump, loaded=ref.load("tiny"), adapter=folder)


@pytest.mark.parametrize("fields", [("q", "down"), ("embedding",), ("head",), ("embedding", "head")])
def test_an_adapter_that_is_applied_is_right(tmp_path, fields):
    report = judged(tmp_path / "lora", fields, SCALE)
    assert report["verdict"] == "match"
    assert report["weights"]["adapter"] == {"name": "lora", "merged": False}


def only(report):
    assert report["verdict"] == "bug"
    (cause,) = report["causes"]
    assert (cause["mutant"], cause["verdict"]) == ("adapter_scaled", "named")
    assert report["proof"]["verdict"] == "explained", report["proof"]["says"]
    (parameter,) = cause["parameters"]
    return parameter


@pytest.mark.parametrize(
    ("times", "value", "words"),
    [
        (0, 0, "not applied"),
        (1, 1 / SCALE, "alpha / r is left out"),
        (ALPHA / RANK**0.5, RANK**0.5, ""),  # of rank 4 it is twice as much as well
        (0.37 * SCALE, 0.37, ""),
    ],
)
@pytest.mark.parametrize("fields", [("q", "down"), ("head",)])
def test_a_wrong_multiple_is_read_off(tmp_path, fields, times, value, words):
    parameter = only(judged(tmp_path / "lora", fields, times))
    assert (parameter["name"], parameter["wanted"]) == ("multiple", 1.0)
    assert parameter["value"] == pytest.approx(value, rel=1e-3)
    assert words in parameter["words"]


def test_the_head_of_a_large_vocabulary_is_read_off_some_columns(tmp_path, monkeypatch):
    monkeypatch.setattr(measure_logits, "COLUMNS", 40)
    assert only(judged(tmp_path / "lora", ("head",), 1))["words"] == "alpha / r is left out"


def test_an_embedding_without_its_scale_is_named(tmp_path):
    parameter = only(judged(tmp_path / "lora", ("embedding",), SCALE, 1 / np.sqrt(36)))
    assert (parameter["value"], parameter["words"]) == (pytest.approx(1 / 6), "not multiplied by sqrt(D)")


def test_weights_without_an_adapter_say_so(tmp_path):
    products = save_adapter(tmp_path / "lora", ("q",))
    report = compare(dumped(captured(planted(products, SCALE))), loaded=ref.load("tiny"))
    assert report["verdict"] == "bug"
    assert "adapter_scaled" not in [cause["mutant"] for cause in report["causes"]]
    assert "adapter" not in report["weights"]
