"""Dumps that were made on a GPU match: float32 in one chain of sums, TF32 declared and not, bfloat16."""

import pytest
from bench.field.gpu import KEPT, subject_of
from bench.field.subjects import weights

from ref import compare

DECLARED = {
    "1b-pair-3-float32-eager": "float32",
    "1b-pair-3-float32-tf32-eager": "tf32",
    "1b-pair-3-bfloat16-eager": "transformers-bfloat16",
    "4b-pair-3-float32-eager": "float32",
}


@pytest.mark.parametrize("name", DECLARED)
def test_captures_of_a_gpu_match(name):
    report = compare(KEPT / name, loaded=weights(subject_of(name)))
    assert report["verdict"] == "match", report["first"]
    assert report["policy"]["judged_as"] == DECLARED[name]
    assert report["arithmetic"] is None
    assert report["policy"]["torch"]["device"].startswith("cuda")


def test_jax_takes_tf32_and_says_so_nowhere():
    name = "jax-1b-pair-3-float32-default"
    report = compare(KEPT / name, loaded=weights(subject_of(name)))
    assert report["verdict"] == "match"
    assert report["arithmetic"]["what"] == "products took TF32 operands, or float16's"
    assert abs(report["arithmetic"]["coefficient"] - 1) < 1e-3
