"""Caches other than the growing one: static ones match without their empty slots; mistakes in them are named."""

from importlib.util import find_spec

import numpy as np
import pytest
from support.captures import passes_of
from support.transformers_captures import IDS, SEEING, text_only
from support.transformers_direct import CACHE

import ref
from ref import compare
from ref.capture.transformers import Turn, build_model, capture, capture_turns
from ref.errors import BadInput

pytestmark = pytest.mark.witness
if find_spec("torch") and find_spec("transformers"):
    import torch
    import transformers
    from transformers.cache_utils import StaticLayer, StaticSlidingWindowLayer

PADDED = [0, 0, *IDS[2:]]


def judged(folder):
    return compare(folder, loaded=ref.load("tiny"))


def of_length(model, length):
    return transformers.StaticCache(config=model.config, max_cache_len=length)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize(
    ("ids", "more"),
    [
        (IDS, {"steps": 3}),  # longer than the window
        (IDS[:3], {"steps": 5}),  # a local layer's slots fill up on the way
        (IDS, {}),
        ([IDS, PADDED], {"steps": 4, "left_pads": [0, 2]}),
        ([IDS[:4], [*IDS[:2], 0, 0]], {"steps": 1, "right_pads": [0, 2]}),
    ],
    ids=["long", "short", "one pass", "left pads", "right pads"],
)
def test_static_caches_match(tmp_path, ids, more, attention):
    model = text_only(attention=attention)
    assert judged(capture(model, ids, tmp_path / "a", cache="static", weights="tiny", **more))["verdict"] == "match"
    own = of_length(model, 40)
    assert judged(capture(model, ids, tmp_path / "b", cache=own, weights="tiny", **more))["verdict"] == "match"


@pytest.mark.parametrize("cache", ["dynamic", "static"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_rows_with_images_match(tmp_path, pixels, attention, cache):
    rows, more = [SEEING, [0, 0, 0, *[97] * 4, *IDS[:6]], [*IDS, 1, 2]], {"left_pads": [0, 3, 0], "steps": 2}
    model = build_model("tiny", attention=attention)
    folder = capture(model, rows, tmp_path / "dump", pixel_values=pixels, cache=cache, weights="tiny", **more)
    assert judged(folder)["verdict"] == "match"


def test_a_static_cache_gives_what_a_growing_one_gives(tmp_path):
    model = text_only()
    static = passes_of(capture(model, IDS, tmp_path / "static", cache=of_length(model, 40), steps=2))
    grown = passes_of(capture(model, IDS, tmp_path / "grown", steps=2))
    for one, other in zip(static, grown, strict=True):
        assert one.keys() == other.keys()
        for tap, value in other.items():
            np.testing.assert_allclose(one[tap], value, rtol=1e-4, atol=1e-5, err_msg=tap)


@pytest.mark.parametrize("cuts", [(4, 7), (7, 10), (1, 2, 3)])
def test_chunks_in_a_static_cache_match(tmp_path, cuts):
    turns = [Turn(IDS[start:stop]) for start, stop in zip((0, *cuts), (*cuts, None), strict=True)]
    folder = capture_turns(text_only(), turns, tmp_path / "dump", cache="static", weights="tiny")
    assert judged(folder)["verdict"] == "match"


def overwritten(update):
    """A global layer's step is written over the newest key."""

    def late(self, *some, **named):
        if self.is_initialized and type(self) is StaticLayer:
            self.cumulative_length.sub_(1)
        return update(self, *some, **named)

    return late


def not_rolled(update):
    """A full local layer does not make room for a step."""

    def stuck(self, keys, values, *some, **named):
        if not self.is_initialized or self.cumulative_length_int < self.max_cache_len:
            return update(self, keys, values, *some, **named)
        self.cumulative_length_int += 1
        self.keys[:, :, -1:], self.values[:, :, -1:] = keys, values
        return self.keys, self.values

    return stuck


@pytest.mark.parametrize(
    ("kind", "plant", "layer"), [("StaticLayer", overwritten, 5), ("StaticSlidingWindowLayer", not_rolled, 0)]
)
def test_a_key_in_the_wrong_slot_is_named(tmp_path, monkeypatch, kind, plant, layer):
    owner = {"StaticLayer": StaticLayer, "StaticSlidingWindowLayer": StaticSlidingWindowLayer}[kind]
    monkeypatch.setattr(owner, "update", plant(owner.update))
    report = judged(capture(text_only(), IDS, tmp_path / "dump", cache="static", steps=3, weights="tiny"))
    assert report["first"] == {"tap": f"text.layer.{layer}.cache.k", "layer": layer, "pass": 1}
    assert (report["causes"][0]["mutant"], report["causes"][0]["verdict"]) == ("cache_stale_of", "named")


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_empty_slots_that_a_step_sees_are_counted(tmp_path, attention):
    model = text_only(attention=attention)

    def unmasked(_module, args, kwargs):
        one = kwargs["hidden_states"].shape[1] == 1
        return args, kwargs | ({"attention_mask": None} if one else {})

    model.model.layers[5].self_attn.register_forward_pre_hook(unmasked, with_kwargs=True)
    folder = capture(model, IDS, tmp_path / "dump", cache=of_length(model, 40), steps=1, weights="tiny")
    report = judged(folder)
    assert (report["first"]["layer"], report["first"]["pass"]) == (5, 1)
    [cause] = report["causes"]
    assert (cause["mutant"], cause["verdict"]) == ("empty_keys_seen", "named")
    assert [(one["name"], one["value"]) for one in cause["parameters"]] == [("n", 40 - len(IDS) - 1)]


@pytest.mark.parametrize(
    ("cache", "line"),
    [
        (
            "ring",
            "cache: wanted dynamic, offloaded, static, offloaded_static, or an empty cache of transformers, got ring",
        ),
        (3, "or an empty cache of transformers, got int"),
        ("offloaded", "cache: wanted a model on an accelerator, for offloaded, got one on the CPU"),
    ],
)
def test_what_is_no_cache(tmp_path, cache, line):
    with pytest.raises(BadInput) as error:
        capture(text_only(), IDS, tmp_path / "dump", cache=cache, weights="tiny")
    assert line in str(error.value)
    assert not (tmp_path / "dump").exists()


def test_a_cache_that_holds_keys_or_is_too_short(tmp_path):
    model = text_only()
    with pytest.raises(BadInput, match="cache: wanted a cache of 13 keys or more, got 12"):
        capture(model, IDS, tmp_path / "dump", cache=of_length(model, 12), steps=2)
    with pytest.raises(BadInput, match="cache: wanted a cache of 13 keys or more, got 12"):
        capture_turns(model, [Turn(IDS), Turn([3, 4])], tmp_path / "dump", cache=of_length(model, 12))
    used = transformers.DynamicCache(config=model.config)
    with torch.no_grad():
        model(torch.tensor([IDS]), **{CACHE: used}, use_cache=True)
    with pytest.raises(BadInput, match="cache: wanted an empty cache, got one of 11 keys"):
        capture(model, IDS, tmp_path / "dump", cache=used)
    assert not (tmp_path / "dump").exists()


def test_the_cache_is_its_owners_again(tmp_path):
    model = text_only()
    own = of_length(model, 40)
    capture(model, IDS, tmp_path / "dump", cache=own, steps=1)
    assert "update" not in vars(own)
    assert int(own.get_seq_length()) == len(IDS) + 1
