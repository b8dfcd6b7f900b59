"""`ref.record` of servers: rows that take turns, padding, slots, streams kept as two, adapters."""

import json

import numpy as np
import pytest
from support.dumps_on_disk import MODEL
from support.lora import save_adapter
from support.serving import chain, ids_of, shown

import ref
from ref import compare
from ref.dump.open import open_dump
from ref.record import Recorder

A, B, C, D = ids_of(6, 1), ids_of(3, 2), ids_of(5, 3), ids_of(1, 4)
ABOUT = {"weights": "tiny", "config": MODEL["config"]}


def put(rec, taps):
    for name, value in taps.items():
        rec(name, value)


def said(folder):
    return json.loads((folder / "dump.json").read_text())


def test_rows_that_take_turns(tmp_path):
    _, a = chain([(A, None), (C, None)])
    _, b = chain([(B, None), (D, None)])
    with Recorder(tmp_path / "dump", A, row=0, **ABOUT) as rec:
        put(rec, shown(a[0]))
        for ids, row, taps in ((B, 1, b[0]), (C, 0, a[1]), (D, 1, b[1])):
            rec.next_pass(ids, row=row)
            put(rec, shown(taps))
    content = said(tmp_path / "dump")
    assert content["format_version"] == 2
    assert [(one["row"], one["cached"]) for one in content["passes"]] == [(0, 0), (1, 0), (0, 6), (1, 3)]
    assert compare(tmp_path / "dump")["verdict"] == "match"


def padded(x, tokens):
    """Put values behind the last token, which are anything."""
    return np.concatenate([x, np.full((1, 3, *x.shape[2:]), 7, x.dtype)], axis=1) if tokens else x


def test_right_pads_and_what_comes_after_them(tmp_path):
    _, taps = chain([(A, None), (C, None)])
    names = [f"text.layer.0.{name}" for name in ("in", "attn.q", "attn.k", "attn.mix", "out")]
    with Recorder(tmp_path / "dump", [*A, 0, 0, 0], positions=[*range(6), -1, -1, -1], **ABOUT) as rec:
        put(rec, {name: padded(taps[0][name], True) for name in names})
        rec.next_pass(C)
        put(rec, {name: taps[1][name] for name in names})
        rec.next_pass(D, kept=[[0, 9, 0], [11, 14, 6]])
    content = said(tmp_path / "dump")
    assert (content["format_version"], [one["cached"] for one in content["passes"]]) == (2, [0, 9, 12])
    assert content["passes"][1]["positions"] == [6, 7, 8, 9, 10]
    assert content["passes"][2]["positions"] == [9]
    assert open_dump(tmp_path / "dump").passes[2].cached == 9
    assert compare(tmp_path / "dump")["verdict"] == "match"


def test_slots(tmp_path):
    _, (taps,) = chain([(A, None)])
    slots = np.array([4, 3, 9, 0, 1, 2])
    keys = np.zeros((1, 12, 6, 10), np.float32)
    keys[..., slots] = taps["text.layer.0.attn.probs"]
    with Recorder(tmp_path / "dump", A, slots=slots, cache_slots=10, **ABOUT) as rec:
        rec("text.layer.0.in", taps["text.layer.0.in"])
        rec("text.layer.0.attn.probs", keys)
    [one] = open_dump(tmp_path / "dump").passes
    np.testing.assert_array_equal(one.tensors["text.layer.0.attn.probs"].load(), taps["text.layer.0.attn.probs"])
    assert compare(tmp_path / "dump")["verdict"] == "match"


def test_a_stream_that_is_kept_as_two(tmp_path):
    _, (taps,) = chain([(A, None)])
    x, residual = taps["text.layer.0.mid"] - taps["text.layer.0.in"], taps["text.layer.0.in"]
    with Recorder(tmp_path / "dump", A, **ABOUT) as rec:
        rec("text.layer.0.mid", x, plus=residual)
        with pytest.raises(ValueError, match=r"value text.layer.0.mid.plus: wanted one in a pass") as error:
            rec("text.layer.0.mid.plus", x)
        assert len(str(error.value).splitlines()) == 1
        for plus in (x[:, :2], x.astype(np.float16)):
            with pytest.raises(
                ValueError, match=r"plus of text.layer.0.in: wanted floats as float32 \[1, 6, 36\], got"
            ):
                rec("text.layer.0.in", residual, plus=plus)
        rec("text.layer.0.in", residual)
    [one] = open_dump(tmp_path / "dump").passes
    np.testing.assert_allclose(one.tensors["text.layer.0.mid"].load(), taps["text.layer.0.mid"], rtol=1e-6)


@pytest.mark.parametrize("merged", [False, True])
def test_an_adapter(tmp_path, merged):
    save_adapter(tmp_path / "lora", ["q"])
    adapter = {"name": "lora", "merged": True} if merged else "lora"
    with Recorder(tmp_path / "dump", A, adapter=adapter, **ABOUT) as rec:
        rec("text.embed", ref.load("tiny").params.embedding[A] * np.float32(6), "T D")
    assert said(tmp_path / "dump")["model"]["adapter"] == {"name": "lora", "merged": merged}
    assert compare(tmp_path / "dump", adapter=tmp_path / "lora")["weights"]["adapter"]["merged"] is merged


def test_keys_that_a_row_has_not(tmp_path):
    rec = Recorder(tmp_path / "dump", A, left_pads=2, row=0)
    for how, line in [
        ({"row": 0, "cached": 0}, "cached: wanted 0, or the 6 keys that row 0 has, got 0"),
        ({"row": 5, "cached": 6}, "cached: wanted 0, or the 0 keys that row 5 has, got 6"),
        ({"left_pads": 1}, "left_pads: wanted 2, as the row began with, got 1"),
        ({"kept": [[0, 6, 0]]}, "kept: wanted a row without left pads, got 2 of them"),
        ({"row": "a"}, "row: wanted floats, integers or booleans, got str"),
    ]:
        with pytest.raises(ValueError, match="wanted") as error:
            rec.next_pass(B, **how)
        assert str(error.value).startswith(line)
    rec.abandon()
