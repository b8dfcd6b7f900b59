"""docs/taps.md: its snippet for several ranks is run as it stands, on the toy model, and its dump judged."""

import re

import numpy as np
from support.recorded import ROOT

import ref
from ref.model.taps import Recorder
from ref.model.text import How
from ref.ops.linear import widen

IDS, RANKS = [2, 33, 5, 80, 7], 3
NAMES = ("attn.pre_norm", "attn.q", "attn.k", "attn.mix", "attn.out", "ffn.act")


def snippet():
    [code] = re.findall(r"<!-- ranks -->\n```python\n(.*?)^```", (ROOT / "docs/taps.md").read_text(), re.M | re.S)
    return code.replace("270m", "tiny")


def write(change=lambda rank, held: held):
    loaded, taps = ref.load("tiny"), Recorder("text.layer.0.*")
    ref.forward(loaded.params, [IDS], How(taps=taps, dtype=np.float32))
    x, q, k, mix, out, act = (taps.values[f"text.layer.0.{name}"][0].astype(np.float32) for name in NAMES)
    weight = widen(loaded.params.layers[0].attn_out).astype(np.float32)
    for rank in range(RANKS):
        N, K, F = ((rank * step, min(most, rank * step + step)) for step, most in ((4, 12), (1, 3), (15, 44)))
        n, m, f = slice(*N), slice(*K), slice(*F)
        mine = mix[:, n].reshape(len(IDS), -1)
        held = {"x": x, "q": q[:, n].reshape(len(IDS), -1), "k": k[:, m].reshape(len(IDS), -1), "mix": mine}
        held |= {"part": mine @ weight[:, 40 * rank : 40 * rank + 40].T, "out": out, "act": act[:, f]}
        exec(snippet(), {"ids": IDS, "rank": rank, "ranks": RANKS, "N": N, "K": K, "F": F} | change(rank, held))


def test_each_rank_writes_its_folder_and_the_judge_takes_all(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write()
    report = ref.compare("dump")
    assert (report["verdict"], report["compared"]["taps"], report["unaligned"]) == ("match", 6, [])


def test_the_rank_that_is_wrong_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(lambda rank, held: held | {"k": held["k"] * np.float32(1 + (rank == 1))})
    report = ref.compare("dump")
    assert report["first"]["tap"] == "text.layer.0.attn.k"
    [row] = [row for row in report["taps"] if row["verdict"] == "bug"]
    assert [one["rank"] for one in row["ranks"] if one["off"]] == [1]
