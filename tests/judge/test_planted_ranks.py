"""Mistakes planted into a model of transformers that lies on several ranks: caught, placed, the rank named."""

from importlib.util import find_spec

import pytest
from support.on_ranks import PLANTED, run_on_ranks

import ref
from ref import compare
from ref.capture.transformers import build_from
from ref.config import TextConfig
from ref.report.text import render_text
from ref.weights.synthetic import synthetic_params

pytestmark = pytest.mark.witness
if find_spec("torch") and find_spec("transformers"):
    import torch

AT = "text.layer.1."


def loaded(kv_heads):
    config = TextConfig("custom", 64, 3, 8, kv_heads, 16, 96, 16**-0.5, 16, 4096, vocabulary=300, global_every=3)
    params = synthetic_params(config, 0, bfloat16=True)
    params = params._replace(layers=list(params.layers))
    return ref.load("tiny")._replace(name="of several ranks", params=params, vision=None, files=())


def planted(folder, count, kv_heads, dtype, *more):
    run_on_ranks(count, build_from(loaded(kv_heads), dtype), dtype, folder, PLANTED, more)
    return folder


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two ranks in bfloat16, each with two of four key heads."""
    return planted(tmp_path_factory.mktemp("two"), 2, 4, "bfloat16")


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    """Four ranks in float32, which share one key head."""
    return planted(tmp_path_factory.mktemp("four"), 4, 1, "float32")


needs_gloo = pytest.mark.skipif(
    not (find_spec("torch") and torch.distributed.is_gloo_available()), reason="needs gloo"
)  # fmt: skip

# plant -> mistake, tap, what is said of the ranks: of two, of four
FOUND = {
    "wrong_half": ("slice_of_another_rank", "attn.q", "on rank 1 heads 0..3 in the place of heads 4..7",
                   "on rank 3 heads 0..1 in the place of heads 6..7"),
    "half_a_head": ("slice_of_another_rank", "attn.q", "on rank 0 channels 8..71 in the place of heads 0..3",
                    "on rank 0 channels 8..39 in the place of heads 0..1"),
    "twice": ("sum_reduced_twice", "attn.out", "reduced twice: it is 2 times as large",
              "reduced twice: it is 4 times as large"),
    "left_out": ("rank_left_out", "ffn.out", "lacks the part of rank 1", "lacks the part of rank 3"),
    "not_reduced": ("sum_not_reduced", "ffn.out", "over 2 ranks is not reduced", "over 4 ranks is not reduced"),
    "pre_norm": ("gain_of_rank", "attn.pre_norm", "on rank 1 pre_attn_norm has another gain", "8 of 64 channels"),
    "post_norm": ("gain_of_rank", "attn.post_norm", "on rank 1 post_attn_norm has another gain", "8 of 64 channels"),
    "first_is_wrong": ("gain_of_rank", "ffn.pre_norm", "on rank 0 pre_ffn_norm has another gain", "channels are 0"),
}  # fmt: skip


@needs_gloo
@pytest.mark.parametrize("ranks", ["two", "four"])
def test_a_correct_model_on_several_ranks_matches(ranks, request):
    kv_heads = {"two": 4, "four": 1}[ranks]
    report = compare(request.getfixturevalue(ranks) / "clean", loaded=loaded(kv_heads))
    assert (report["verdict"], report["first"], report["unaligned"]) == ("match", None, [])
    assert report["compared"]["taps"] == 54
    assert max(row["local_ratio"] for row in report["taps"]) < 1.5
    assert not any("ranks" in row for row in report["taps"])  # every replica has the same bits


@needs_gloo
@pytest.mark.parametrize("ranks", ["two", "four"])
@pytest.mark.parametrize("name", FOUND)
def test_a_mistake_of_a_rank_is_found_placed_and_named(ranks, name, request):
    mutant, tap, *said = FOUND[name]
    report = compare(request.getfixturevalue(ranks) / name, loaded=loaded({"two": 4, "four": 1}[ranks]))
    assert report["first"]["tap"] == AT + tap
    assert [row["tap"] for row in report["taps"] if row["verdict"] == "bug"] == [AT + tap]
    [cause] = report["causes"]
    assert (cause["mutant"], cause["verdict"]) == (mutant, "named")
    assert said[ranks == "four"] in " ".join(render_text(report).split())
    [row] = [row for row in report["taps"] if row["tap"] == AT + tap]
    apart = any(one["apart"] for one in row["ranks"])
    assert report["proof"]["verdict"] == ("unknown" if apart else "explained")


@needs_gloo
def test_key_heads_that_ranks_share_wrongly_are_named(tmp_path):
    planted(tmp_path, 4, 2, "bfloat16", "clean", "wrong_key_head")
    assert compare(tmp_path / "clean", loaded=loaded(2))["verdict"] == "match"
    report = compare(tmp_path / "wrong_key_head", loaded=loaded(2))
    assert [row["tap"] for row in report["taps"] if row["verdict"] == "bug"] == [AT + "attn.k", AT + "attn.v"]
    assert {cause["mutant"] for cause in report["causes"]} == {"slice_of_another_rank"}
    assert "on rank 1 head 1 in the place of head 0" in report["causes"][0]["what"]
    assert "on rank 2 head 0 in the place of head 1" in report["causes"][0]["what"]
