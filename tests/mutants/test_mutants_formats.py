"""Mistakes in number formats: each is caught by a golden, none by what is right, and each is named."""

import numpy as np
import pytest

from ref.errors import BadInput
from ref.mutants.formats import FORMAT_MUTANTS, RULES, format_mistakes
from ref.ops.blocks import decode
from ref.quant.encode import encode
from ref.testing.catches.formats import format_goldens, kills

GOLDENS = format_goldens()
MUTANTS = [(kind, mutant) for kind, mutants in FORMAT_MUTANTS.items() for mutant in mutants]
EVERY = pytest.mark.parametrize(("kind", "mutant"), MUTANTS, ids=[mutant.name for _, mutant in MUTANTS])


def test_every_mutant_is_caught_by_a_golden():
    assert not [name for name, caught in kills().items() if not caught]


@pytest.mark.parametrize("name", GOLDENS)
def test_the_rule_without_a_mistake_is_right(name):
    one = GOLDENS[name]
    codes, values = RULES[one.kind](one.weight, one.scaled)
    np.testing.assert_array_equal(values, one.values)
    assert one.codes is None or np.array_equal(codes, one.codes)
    if one.scaled:
        blocks = encode(one.weight, one.kind)
        np.testing.assert_array_equal(codes, blocks.data)
        np.testing.assert_array_equal(values, decode(blocks))
    assert format_mistakes(one.kind, one.weight, codes, values, one.scaled) == []


@EVERY
def test_each_mistake_is_named_and_few_others_with_it(kind, mutant):
    best = []
    for one in GOLDENS.values():
        if one.kind == kind:
            codes, values = mutant.run(one.weight, one.scaled)
            if named := format_mistakes(kind, one.weight, codes, values, one.scaled):
                assert mutant in named
                best.append(len(named))
    assert min(best) == 1


@EVERY
def test_mutants_say_what_they_are(kind, mutant):
    assert mutant.name.startswith(kind.lower())
    assert mutant.what
    assert mutant.needs.words


def test_values_alone_or_codes_alone_may_be_known():
    one = GOLDENS["quantise-01"]
    codes, values = dict((m.name, m) for _, m in MUTANTS)["q4_0_nibbles_in_pairs"].run(one.weight, True)
    assert format_mistakes("Q4_0", one.weight, codes) == []  # the codes are right, reading them is not
    assert [m.name for m in format_mistakes("Q4_0", one.weight, values=values)] == ["q4_0_nibbles_in_pairs"]
    with pytest.raises(BadInput, match="wanted one of Q4_0, Q8_0, INT4, SFP8, got Q9"):
        format_mistakes("Q9", one.weight, codes)
