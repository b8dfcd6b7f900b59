"""The flags of golden vectors: a mistake has one name in vectors, mutants, notebooks and reports."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest

from ref.emulate.graph import LAYER
from ref.golden_files.files import golden_root
from ref.mutants import every_mutant, tap_mutants
from ref.mutants.visibility import VISIBILITY_MUTANTS
from ref.mutants.visibility_parts import Layout
from ref.ops.gelu import geglu, gelu_tanh

DOCUMENTS = {path.stem: json.loads(path.read_text()) for path in sorted((golden_root() / "vectors").glob("*.json"))}
FLAGS = [(op, flag) for op, document in DOCUMENTS.items() for flag in document["flags"]]
KNOWN = every_mutant()


def wrong(op, known):
    """List (flag, row) of the vectors that some mistakes made."""
    rows = [row for row in DOCUMENTS[op]["vectors"] if row["result"] != "must"]
    return [pytest.param(flag, row, id=f"{row['id']}-{flag}") for row in rows for flag in row["flags"] if flag in known]


@pytest.mark.parametrize(("op", "flag"), FLAGS)
def test_a_flag_is_a_mistake_of_the_catalogue_or_written_in_capitals(op, flag):
    assert flag in KNOWN or re.fullmatch("([A-Z][a-z0-9]*)+", flag)


def test_most_flags_are_mistakes_of_the_catalogue():
    assert len({flag for _, flag in FLAGS if flag in KNOWN}) > 55
    assert {flag for _, flag in FLAGS if flag not in KNOWN} == {
        *("MissingBias", "RmsInsteadOfLayerNorm", "LinearTransposed", "FullyMaskedRow", "BlackEdges", "PortraitSwap"),
        *("MaskIgnored", "MaskAfter", "SoftmaxOverflow", "Truncated", "TopKTieCut"),
        *("TopPBeforeTopK", "TemperatureAfter", "TopPExclusive", "NotDividedAgain"),
    }


@pytest.mark.parametrize(("flag", "row"), wrong("visibility", KNOWN))
def test_the_mistake_makes_the_golden_mask(flag, row):
    run = next(one.run for one in VISIBILITY_MUTANTS if one.name == flag)
    prompt, start, window = np.array(row["inputs"]["prompt"]), row["inputs"]["start"], row["inputs"]["window"] or None
    first = np.array([np.argmax(prompt == which) if which >= 0 else (prompt < 0).sum() for which in prompt])
    layout = Layout(np.zeros(len(prompt) - start, bool), first[start:], start, window, "two_sided")
    real = prompt[start:] >= 0
    np.testing.assert_array_equal(run(layout)[real], np.array(row["expected"], bool)[real])


@pytest.mark.parametrize(("flag", "row"), wrong("quantise", KNOWN))
def test_the_mistake_makes_the_golden_codes_or_values(flag, row):
    weight = np.array(row["inputs"]["weight"], np.float32)
    codes, values = KNOWN[flag].run(weight, True)
    if flag != "q4_0_nibbles_in_pairs":  # of a reader: the golden's writer had the same order
        np.testing.assert_array_equal(codes, row["expected"])
    assert values.shape == weight.shape


@pytest.mark.parametrize(("flag", "row"), wrong("switching_float", KNOWN))
def test_the_mistake_makes_the_golden_values(flag, row):
    _, values = KNOWN[flag].run(np.array(row["inputs"]["weight"], np.float32), bool(row["inputs"]["scaled"]))
    np.testing.assert_array_equal(values, row["expected"])


@pytest.mark.parametrize(("flag", "row"), wrong("geglu", KNOWN))
def test_the_mistake_makes_the_golden_activation(flag, row):
    class At(dict):
        ops = SimpleNamespace(round=lambda x: x, geglu=geglu, gelu=gelu_tanh)

    at = At({f"ffn.{name}": np.array(x) for name, x in row["inputs"].items()})
    value = tap_mutants()[flag].rules[LAYER + "ffn.act"](at)
    np.testing.assert_allclose(value, row["expected"], rtol=1e-12, atol=1e-15)
