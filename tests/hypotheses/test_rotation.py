"""The rotation: positions, base, factor and formats, of queries and keys apart."""

import numpy as np
import pytest
from support.caused import GLOBAL, LOCAL, only_cause, report_of, rotated, rounded, table_of, values_of

from ref.emulate.text_rules import LAYER

Q, K = LAYER + "attn.q_rope", LAYER + "attn.k_rope"


def turned(**numbers):
    """Rotate queries and keys with other numbers."""
    return {
        Q: lambda at: rotated(at["attn.q_norm"], table_of(at, **numbers)),
        K: lambda at: rotated(at["attn.k_norm"], table_of(at, **numbers)),
    }


def shifted(tap, by):
    source = "attn.q_norm" if tap == Q else "attn.k_norm"
    return {tap: lambda at: rotated(at[source], table_of(at, positions=at.one_pass.positions + by))}


@pytest.mark.parametrize(("tap", "by"), [(Q, 6), (K, 4), (Q, -3)])
def test_positions_of_queries_or_keys_are_off_by_a_number(tap, by):
    cause = only_cause(report_of(shifted(tap, by), LOCAL))
    assert (cause["mutant"], values_of(cause)) == ("positions_shifted", {"n": by})
    assert cause["taps"] == [tap.replace("*", str(LOCAL))]


def test_positions_that_restart_for_some_tokens():
    def restarted(at):
        places = np.where(at.one_pass.positions < 11, at.one_pass.positions, at.one_pass.positions - 9)
        return rotated(at["attn.q_norm"], table_of(at, positions=places))

    cause = only_cause(report_of({Q: restarted}, LOCAL))
    assert cause["mutant"] == "positions_of_tokens"
    assert values_of(cause)["values"] == [*range(11), *range(2, 10)]
    assert cause["parameters"][0]["words"] == "0..10 right, 11..18 9 too small"


@pytest.mark.parametrize(
    ("name", "layer", "value", "wanted", "words"),
    [
        ("base", LOCAL, 5e5, 1e4, "5e5"),
        ("base", LOCAL, 31_000.0, 1e4, ""),
        ("factor", GLOBAL, 4.0, 8.0, "4"),
        ("factor", LOCAL, 1.7, 1.0, ""),
    ],
)
def test_base_and_factor(name, layer, value, wanted, words):
    cause = only_cause(report_of(turned(**{name: value}), layer))
    assert (cause["mutant"], cause["layers"]) == (f"rotary_{name}", [layer])
    assert len(cause["taps"]) == 2
    (one,) = cause["parameters"]
    assert one["value"] == pytest.approx(value, rel=2e-3)
    assert (one["wanted"], one["words"]) == (wanted, words)


def test_frequencies_that_are_rounded():
    def rule(at, source):
        base, factor = at.config.rope(at.layer)
        frequencies = rounded(base ** (-np.arange(5) / 5) / factor).astype(np.float64)
        angles = at.one_pass.positions[..., None] * frequencies
        return rotated(at[source], (np.cos(angles)[:, :, None], np.sin(angles)[:, :, None]))

    rules = {Q: lambda at: rule(at, "attn.q_norm"), K: lambda at: rule(at, "attn.k_norm")}
    cause = only_cause(report_of(rules, LOCAL))
    assert (cause["mutant"], values_of(cause)) == ("rotary_frequencies_rounded", {"format": "bfloat16"})


def test_a_table_that_is_rounded():
    def rule(at):
        return rotated(at["attn.q_norm"], tuple(rounded(x).astype(np.float64) for x in table_of(at)))

    cause = only_cause(report_of({Q: rule}, LOCAL))
    assert (cause["mutant"], values_of(cause)) == ("rotary_table_rounded", {"format": "bfloat16"})
