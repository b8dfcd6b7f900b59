"""Cases of the bench of the field on `tiny` in float32, of different families: each exact; other bases match."""

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from bench.field_cases.all_cases import CASES, TWINS
from bench.field_cases.run import run_case, run_twin
from bench.field_cases.subject import subject

pytestmark = pytest.mark.witness


@pytest.mark.parametrize(
    "name",
    [
        "all_late",
        "embedding_scale",
        "k_norm_is_q_norm",
        "last_chunk_missing",
        "norm_offset",
        "out_heads_in_another_order",
        "scale_of_one_layer",
        "trained_rows_unscaled",
        "weights_int4_per_block",
        "window_of_one_layer",
    ],
)
def test_a_case_is_caught_placed_and_named_with_its_numbers(name):
    line = run_case(subject("tiny", "float32"), CASES[name], 0)
    assert {word: line[word] for word in ("caught", "placed", "named", "exact")} == dict.fromkeys(
        ("caught", "placed", "named", "exact"), True
    ), f"wanted {line['wanted']}, got {line['got']}"
    assert line["others"] == []


@pytest.mark.parametrize("name", ["ffn_channels", "interleaved_in_some_layers", "v_folded"])
def test_a_correct_port_in_another_basis_matches(name):
    line = run_twin(subject("tiny", "float32"), TWINS[name], 0)
    assert line["matched"], line["got"]
    assert line["told"]
