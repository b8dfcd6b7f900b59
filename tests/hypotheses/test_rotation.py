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
        ("rotary_base", LOCAL, 5e5, 1e4, "5e5"),
        ("rotary_base", LOCAL, 31_000.0, 1e4, ""),
        ("rotary_factor", GLOBAL, 4.0, 8.0, "4"),
        ("rotary_factor", LOCAL, 1.7, 1.0, ""),
    ],
)
def test_base_and_factor(name, layer, value, wanted, words):
    cause = only_cause(report_of(turned(**{name.removeprefix("rotary_"): value}), layer))
    assert (cause["mutant"], cause["layers"]) == (name, [layer])
    assert len(cause["taps"]) == 2
    (one,) = cause["parameters"]
    assert one["value"] == pytest.approx(value, rel=2e-3)
    assert (one["wanted"], one["words"]) == (wanted, words)


@pytest.mark.parametrize(
    ("layer", "base", "factor", "wanted"),
    [
        (LOCAL, 31_000.0, 4.0, (1e4, 1.0)),  # on few positions the factor 4.01 alone explains all but a thousandth
        (LOCAL, 5e5, 8.0, (1e4, 1.0)),
        (GLOBAL, 1e4, 4.0, (1e6, 8.0)),
        (GLOBAL, 5e5, 16.0, (1e6, 8.0)),
    ],
)
def test_base_and_factor_that_are_both_wrong(layer, base, factor, wanted):
    cause = only_cause(report_of(turned(base=base, factor=factor), layer))
    assert (cause["mutant"], cause["layers"], len(cause["taps"])) == ("rotary_base", [layer], 2)
    assert values_of(cause) == {"base": pytest.approx(base, rel=1e-6), "factor": factor}
    assert tuple(one["wanted"] for one in cause["parameters"]) == wanted


def by_angles(made):
    """Rotate queries and keys by angles made of positions and frequencies."""

    def rule(at, source):
        base, factor = at.config.rope(at.layer)
        angles = made(at.one_pass.positions[..., None], base ** (-np.arange(5) / 5) / factor)
        return rotated(at[source], (np.cos(angles)[:, :, None], np.sin(angles)[:, :, None]))

    return {Q: lambda at: rule(at, "attn.q_norm"), K: lambda at: rule(at, "attn.k_norm")}


def test_frequencies_that_are_rounded():
    rules = by_angles(lambda positions, frequencies: positions * rounded(frequencies).astype(np.float64))
    cause = only_cause(report_of(rules, LOCAL))
    assert (cause["mutant"], values_of(cause)) == ("rotary_frequencies_rounded", {"format": "bfloat16"})


@pytest.mark.parametrize(("change", "kind"), [(rounded, "bfloat16"), (lambda x: x.astype(np.float16), "float16")])
def test_angles_that_are_rounded(change, kind):
    made = lambda positions, frequencies: (positions * frequencies).astype(np.float32)  # noqa: E731
    cause = only_cause(report_of(by_angles(lambda *each: change(made(*each)).astype(np.float64)), GLOBAL))
    assert (cause["mutant"], values_of(cause)) == ("rotary_angles_rounded", {"format": kind})
    assert (cause["layers"], len(cause["taps"])) == ([GLOBAL], 2)


def test_a_table_that_is_rounded():
    def rule(at):
        return rotated(at["attn.q_norm"], tuple(rounded(x).astype(np.float64) for x in table_of(at)))

    cause = only_cause(report_of({Q: rule}, LOCAL))
    assert (cause["mutant"], values_of(cause)) == ("rotary_table_rounded", {"format": "bfloat16"})
