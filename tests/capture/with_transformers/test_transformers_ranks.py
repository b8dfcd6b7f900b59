"""A model in slices on several ranks, by transformers' own plan, gives one whole dump."""

from importlib.util import find_spec

import pytest
from support.captures import passes_of
from support.on_ranks import run_on_ranks

import ref
from ref import compare
from ref.capture.transformers import build_from
from ref.config import TextConfig
from ref.dump.open import open_dump
from ref.dump.write import read_dump
from ref.model.taps import tap_names
from ref.weights.synthetic import synthetic_params

pytestmark = pytest.mark.witness
if find_spec("torch") and find_spec("transformers"):
    import torch

COUNT = 4
# heads of queries and keys, and channels that 4 ranks can share
CONFIG = TextConfig("custom", 64, 3, 8, 4, 16, 96, 16**-0.5, 16, 4096, vocabulary=300, global_every=3)


def loaded():
    params = synthetic_params(CONFIG, 0, bfloat16=True)
    params = params._replace(layers=list(params.layers))
    return ref.load("tiny")._replace(name="of several ranks", params=params, vision=None, files=())


@pytest.mark.skipif(not (find_spec("torch") and torch.distributed.is_gloo_available()), reason="needs gloo")
def test_ranks_give_one_dump_that_is_whole(tmp_path):
    run_on_ranks(COUNT, build_from(loaded(), "bfloat16"), "bfloat16", tmp_path)
    names = tap_names(CONFIG.layers, cached=True)
    assert [sorted(one) for one in passes_of(tmp_path / "clean")] == [
        sorted(set(names) - {f"text.layer.{i}.cache.positions" for i in range(CONFIG.layers)})
    ] * 3
    content = read_dump(tmp_path / "clean")
    assert (content["policy"]["ranks"], content["format_version"]) == (COUNT, 2)
    report = compare(tmp_path / "clean", loaded=loaded())
    assert (report["verdict"], report["first"]) == ("match", None)

    found = compare(tmp_path / "silu", loaded=loaded())
    assert found["first"]["tap"] == "text.layer.2.ffn.act"
    assert "ffn_silu" in [one["mutant"] for one in found["diagnosis"] if one["verdict"] == "named"]

    each = compare(tmp_path / "each", loaded=loaded())
    assert (each["verdict"], each["compared"], each["unaligned"]) == ("match", report["compared"], [])
    assert not any("ranks" in row for row in each["taps"])
    parts = open_dump(tmp_path / "each").passes[1].tensors
    assert [one.words for one in parts["text.layer.2.attn.q"].parts] == ["N 0..1", "N 2..3", "N 4..5", "N 6..7"]
    assert [one.words for one in parts["text.layer.2.cache.k"].parts] == ["K 0..0", "K 1..1", "K 2..2", "K 3..3"]
    assert [one.words for one in parts["text.layer.2.ffn.act"].parts] == [
        f"F {24 * i}..{24 * i + 23}" for i in range(4)
    ]
    assert [one.kind for one in parts["text.layer.2.attn.out"].parts] == ["replica"] * 4
    assert compare(tmp_path / "each-silu", loaded=loaded())["first"] == found["first"]

    assert "ranks" not in read_dump(tmp_path / "fsdp")["policy"]  # whose weights are whole when they are used
    assert compare(tmp_path / "fsdp", loaded=loaded())["verdict"] == "match"

    for rank in range(COUNT):
        assert (tmp_path / f"there-{rank}").read_text() == "True"
        refused = (tmp_path / f"refused-{rank}").read_text()
        assert "output folder: wanted an empty or new one" in refused
        assert len(refused.splitlines()) == 1
