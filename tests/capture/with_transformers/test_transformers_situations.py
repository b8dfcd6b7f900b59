"""Serving situations that transformers can make: clean ones match; a mistake of each kind is found."""

import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from support.transformers_captures import IDS, SEEING, text_only

import ref
from ref import compare
from ref.capture.transformers import Turn, build_from, capture, capture_turns
from ref.dump.open import open_dump
from ref.errors import BadInput

pytestmark = pytest.mark.witness
if find_spec("torch") and find_spec("transformers"):
    import torch

SHORT = IDS[:4]  # within the window of 5, so that a local layer's cache can be cut
CHUNKS = [Turn(IDS[:4]), Turn(IDS[4:7]), Turn(IDS[7:])]
PREFIX = [Turn(IDS[:6], heard=False), Turn(IDS[6:])]
REJECTED = [Turn(SHORT[:2]), Turn([9, 11]), Turn([13, 14, 15], keep=3), Turn([16])]


def judged(folder):
    return compare(folder, loaded=ref.load("tiny"))


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("turns", [CHUNKS, PREFIX, REJECTED], ids=["chunks", "prefix", "rejected"])
def test_turns_match(tmp_path, turns, attention):
    folder = capture_turns(text_only(attention=attention), turns, tmp_path / "dump", weights="tiny")
    report = judged(folder)
    assert report["verdict"] == "match", report["first"]
    passes = open_dump(folder).passes
    assert [bool(one.tensors) for one in passes] == [one.heard for one in turns]


def test_turns_give_what_one_pass_gives(tmp_path):
    model = text_only()
    whole = open_dump(capture(model, IDS, tmp_path / "whole", weights="tiny")).passes[0]
    parts = open_dump(capture_turns(model, CHUNKS, tmp_path / "parts", weights="tiny")).passes
    logits = np.concatenate([one.tensors["text.logits"].load() for one in parts], axis=1)
    np.testing.assert_allclose(logits, whole.tensors["text.logits"].load(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_right_pads_match(tmp_path, attention):
    rows = [IDS, [*IDS[:-3], 0, 0, 0]]
    folder = capture(text_only(attention=attention), rows, tmp_path / "dump", right_pads=[0, 3], weights="tiny")
    report = judged(folder)
    assert report["verdict"] == "match", report["first"]
    assert open_dump(folder).passes[1].ids.tolist() == IDS[:-3]


def test_right_pads_in_a_cache_count_in_the_window_of_transformers(tmp_path):
    """Its window is cut by places in the cache: behind right pads a local layer sees fewer tokens than it should."""
    rows = [IDS, [*IDS[:-3], 0, 0, 0]]
    folder = capture(text_only(), rows, tmp_path / "dump", right_pads=[0, 3], steps=2, weights="tiny")
    report = judged(folder)
    bugs = {one["tap"]: one for one in report["taps"] if one["verdict"] == "bug" and one["pass"] in (4, 5)}
    assert report["first"] == {"tap": "text.layer.0.attn.visible", "layer": 0, "pass": 4}
    assert "text.layer.5.attn.visible" not in bugs
    assert all(one["verdict"] == "match" for one in report["taps"] if one["pass"] < 4)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_packed_prompts_match(tmp_path, attention):
    folder = capture(text_only(attention=attention), IDS, tmp_path / "dump", packed=[4, 7], weights="tiny")
    report = judged(folder)
    assert report["verdict"] == "match", report["first"]
    assert open_dump(folder).passes[0].positions.tolist() == [*range(4), *range(7)]


def test_a_second_turn_with_an_image(tmp_path):
    """transformers makes it causal (it says so of itself nowhere); the dump is one of a bug, named."""
    loaded = ref.load("tiny")
    model, images = build_from(loaded, "float32", "eager"), loaded.vision.config
    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(rng.uniform(-1, 1, (1, 3, images.image, images.image)).astype(np.float32))
    turns = [Turn(SEEING[:7], pixels), Turn(SEEING[7:], pixels)]
    report = judged(capture_turns(model, turns, tmp_path / "dump", weights="tiny"))
    first = report["causes"][0]
    assert report["verdict"] == "bug"
    assert first["first"]["pass"] == 1
    assert first["first"]["tap"].endswith("attn.visible")
    causal = [Turn(SEEING[:7], pixels), Turn(IDS)]
    assert judged(capture_turns(model, causal, tmp_path / "text", weights="tiny"))["verdict"] == "match"


def test_a_chunk_that_begins_at_position_0_again(tmp_path):
    model = text_only()
    rotary = model.model.rotary_emb
    own = rotary.forward
    rotary.forward = lambda x, position_ids, *more, **named: own(x, position_ids - position_ids[:, :1], *more, **named)
    report = judged(capture_turns(model, CHUNKS, tmp_path / "dump", weights="tiny"))
    assert report["causes"][0]["mutant"] in ("rope_positions_restart", "positions_shifted", "cached_positions_restart")
    assert report["causes"][0]["verdict"] == "named"


def test_tokens_that_are_rejected_and_still_seen(tmp_path, monkeypatch):
    """The owner's cache is told to drop one token and drops none: positions go on behind it, too."""
    import transformers

    monkeypatch.setattr(transformers.cache_utils.DynamicLayer, "crop", lambda self, count: None)
    turns = [Turn(SHORT[:2]), Turn([9, 11]), Turn([13], keep=3)]
    report = judged(capture_turns(text_only(attention="sdpa"), turns, tmp_path / "dump", weights="tiny"))
    found = {one["mutant"]: one for one in report["causes"]}
    assert found["cache_dropped_seen"]["verdict"] == "named"


def shift(model, first, stop, turn):
    """Return what drops keys `first` to `stop` of a cache, and turns those behind them by `turn` of the way back."""

    def edit(cache):
        for kind, layer in zip(model.config.layer_types, cache.layers, strict=True):
            frequency = getattr(model.model.rotary_emb, f"{kind}_inv_freq").double()
            angle = (-turn * (stop - first) * frequency).repeat(2)
            moved = layer.keys[:, :, stop:].double()
            low, high = moved.chunk(2, -1)
            moved = moved * angle.cos() + torch.cat([-high, low], -1) * angle.sin()
            layer.keys = torch.cat([layer.keys[:, :, :first], moved.to(layer.keys.dtype)], 2)
            layer.values = torch.cat([layer.values[:, :, :first], layer.values[:, :, stop:]], 2)
            if hasattr(layer, "cumulative_length"):
                layer.cumulative_length -= stop - first

    return edit


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize(("turn", "named"), [(1, None), (0, "cache_keys_turned"), (-1, "cache_keys_turned")])
def test_a_context_shift(tmp_path, attention, turn, named):
    """transformers has none: its owner edits the cache, rightly or not."""
    model = text_only(attention=attention)
    turns = [Turn(IDS), Turn([3, 4], kept=[[0, 2, 0], [4, 11, 2]], edit=shift(model, 2, 4, turn)), Turn([7])]
    report = judged(capture_turns(model, turns, tmp_path / "dump", weights="tiny"))
    assert report["verdict"] == ("bug" if named else "match"), report["first"]
    if named:
        assert report["first"]["tap"] == "text.layer.0.cache.k"
        assert (report["causes"][0]["mutant"], report["causes"][0]["verdict"]) == (named, "named")


def test_right_pads_that_are_seen(tmp_path):
    model = text_only()
    own = model.forward

    def unmasked(*some, attention_mask=None, **named):
        return own(*some, attention_mask=None if attention_mask is None else torch.ones_like(attention_mask), **named)

    model.forward = unmasked
    report = judged(
        capture(model, [IDS, [*IDS[:-3], 0, 0, 0]], tmp_path / "dump", right_pads=[0, 3], steps=2, weights="tiny")
    )
    assert report["verdict"] == "bug"
    assert report["first"]["pass"] == 4


def test_packed_prompts_that_see_each_other(tmp_path):
    model = text_only()
    own = model.forward
    ones = torch.ones(1, len(IDS), dtype=torch.long)
    model.forward = lambda *some, **named: own(*some, **({"attention_mask": ones} | named))
    report = judged(capture(model, IDS, tmp_path / "dump", packed=[4, 7], weights="tiny"))
    assert report["causes"][0]["mutant"].startswith("packed")
    assert report["causes"][0]["verdict"] == "named"


@pytest.mark.parametrize(
    ("how", "line"),
    [
        ({"right_pads": [3]}, "capture: right_pads: wanted 2 numbers"),
        ({"right_pads": [0, 11]}, "capture: right_pads: wanted 2 numbers from 0 to 10"),
        ({"right_pads": [0, 1], "left_pads": [0, 1]}, "left_pads, right_pads or packed"),
        ({"packed": [11]}, "capture: packed: wanted lengths of the prompts of one row"),
    ],
)
def test_what_cannot_be_of_rows(tmp_path, how, line):
    with pytest.raises(BadInput) as error:
        capture(text_only(), [IDS, IDS], tmp_path / "dump", **how)
    assert line in str(error.value)


@pytest.mark.parametrize(
    ("turns", "line"),
    [
        ([], "capture: turns: wanted at least one"),
        ([Turn(IDS), Turn([3], keep=12)], "capture: keep of turn 1: wanted 0 to 11, the keys that are there, got 12"),
        ([Turn([IDS, IDS])], "capture: ids of turn 0: wanted one row, got 2 rows"),
        ([Turn(IDS), Turn([3], kept=[[0, 12, 0]])], "kept of turn 1: wanted [start, stop, position] of the 11 keys"),
        ([Turn(IDS), Turn([3], kept=[[0, 2, 0]], keep=2)], "and no keep beside it"),
        ([Turn(IDS), Turn([3], kept=[[0, 2, 0]])], "edit of turn 1: wanted a function that drops and turns the keys"),
        (
            [Turn(IDS), Turn([3], kept=[[0, 2, 0]], edit=lambda cache: None)],
            "edit of turn 1: wanted an edit that leaves the 2 keys of kept, got 11 keys afterwards",
        ),
    ],
)
def test_what_cannot_be_of_turns(tmp_path, turns, line):
    with pytest.raises(BadInput) as error:
        capture_turns(text_only(), turns, tmp_path / "dump", weights="tiny")
    assert line in str(error.value)
    assert not (tmp_path / "dump").exists()


def test_a_cache_that_has_let_go_of_what_a_cut_needs(tmp_path, monkeypatch):
    """As of versions that cannot keep it."""
    import transformers

    monkeypatch.delattr(transformers.Cache, "activate_past_recording")
    with pytest.raises(BadInput, match=r"keep of turn 1: wanted a cut that the cache.s layers allow"):
        capture_turns(text_only(), [Turn(IDS), Turn([3], keep=3)], tmp_path / "dump", weights="tiny")


def test_the_page_on_taps_shows_a_conversation_that_runs(tmp_path, monkeypatch):
    page = (Path(ref.__file__).parents[1] / "docs/taps.md").read_text()
    [snippet] = re.findall(r"<!-- turns -->\n```python\n(.*?)^```", page, re.M | re.S)
    monkeypatch.chdir(tmp_path)
    exec(snippet.replace('"270m"', '"tiny"'), {"model": text_only(), "prefix": IDS[:3], "chunk": IDS[3:6],
                                               "draft": [9, 10], "better": [11]})  # fmt: skip
    assert judged(tmp_path / "dump")["verdict"] == "match"
