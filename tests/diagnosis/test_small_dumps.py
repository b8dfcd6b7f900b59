"""Mistakes with parameters on dumps that are too small to fit them: said, not tried; and none of them may fail."""

import numpy as np
import pytest
from support.judged import as_dump, cached_passes, captured, dumped

import ref
from ref import compare
from ref.config import SIZES
from ref.diagnosis import diagnose
from ref.dump.open import open_dump
from ref.dump.trace import trace
from ref.hypotheses.hypothesis import Family
from ref.model.multimodal import Images, soft_token_id
from ref.model.text import How
from ref.testing.broken import broken_taps
from ref.weights.synthetic import synthetic_params

RNG = np.random.default_rng(0)
CHANGES = {
    "noise": lambda x: x + 0.3 * np.std(x) * RNG.standard_normal(x.shape).astype(x.dtype),
    "constant": lambda x: np.ones_like(x),
    "rolled": lambda x: np.roll(x, 1, axis=-1),
    "huge": lambda x: x * np.float32(1e30),
}
EVERY = pytest.mark.parametrize("change", CHANGES)


def model(**changed):
    """Return the toy with other sizes."""
    params = synthetic_params(SIZES["tiny"]._replace(**changed), 0, bfloat16=False)
    return ref.load("tiny")._replace(params=params, vision=None)


def wrong(arrays, change):
    """Change every value that is a float."""
    return {tap: CHANGES[change](x) if x.dtype.kind == "f" else x for tap, x in arrays.items()}


def tried_in(dump, loaded=None):
    """Judge a dump; return why families were not tried."""
    report = compare(dump, loaded=loaded or ref.load("tiny"))
    assert report["verdict"] == "bug"
    why = {row["family"]: row["why"] for row in report["tried"]["not_tried"]}
    assert not [text for text in why.values() if text.startswith(diagnose.FAILED)]
    assert not set(why) & set(report["tried"]["families"])
    return why


@EVERY
def test_one_token(change):
    why = tried_in(dumped(wrong(captured(tokens=1), change)))
    assert why["tokens late or early"] == "needs at least 6 tokens, got 1"
    assert why["factors of channels"] == "needs at least 8 tokens, got 1"
    assert why["parts of a tap"] == "needs at least 2 tokens, got 1"


@EVERY
def test_one_cached_token_after_one(change):
    passes = cached_passes([1, 1])
    taps = [wrong(one, change) for one in passes.taps]
    why = tried_in(as_dump(passes._replace(taps=taps), [list(one) for one in taps]))
    assert why["factors of channels"] == "needs at least 8 tokens, got 1"


@EVERY
@pytest.mark.parametrize("pads", [3, 8])
def test_padding_is_no_token(change, pads):
    dump = dumped(wrong(captured(tokens=9), change))
    positions = np.maximum(np.arange(9) - pads, -1)
    dump = dump._replace(passes=[dump.passes[0]._replace(left_pads=pads, positions=positions)])
    assert tried_in(dump)["factors of channels"] == f"needs at least 8 tokens, got {9 - pads}"


@EVERY
@pytest.mark.parametrize(
    "sizes",
    [
        {"layers": 2, "global_every": 2, "query_heads": 1, "kv_heads": 1},
        {"layers": 1, "query_heads": 1, "kv_heads": 1},
        {"layers": 2, "width": 1, "ffn_width": 1, "head_dim": 2, "query_heads": 1, "kv_heads": 1},
    ],
    ids=["one head", "one layer", "widths of one"],
)
def test_sizes_of_one(change, sizes):
    loaded = model(**sizes)
    for count in (1, 9):
        arrays = dict(broken_taps(loaded, [20 + i for i in range(count)], {}, "float32"))
        dump = dumped(wrong(arrays, change))._replace(config=loaded.params.config._asdict())
        tried_in(dump, loaded)


@EVERY
def test_an_image_alone(change, tmp_path):
    loaded = ref.load("tiny")
    assert loaded.vision
    vision = loaded.vision.config
    pixels = RNG.uniform(-1, 1, (1, vision.channels, vision.image, vision.image)).astype(np.float32)
    soft = [soft_token_id(loaded.params.config)] * vision.soft_tokens
    trace(loaded, [[2, *soft]], tmp_path / "d", How(), ["*"], 0, Images(loaded.vision, pixels))
    dump = open_dump(tmp_path / "d")
    tensors = {
        tap: one._replace(read=lambda one=one: changed(one.load(), change))
        for tap, one in dump.passes[0].tensors.items()
    }
    why = tried_in(dump._replace(passes=[dump.passes[0]._replace(tensors=tensors)]))
    one_row = "needs at least 2 rows of a batch, got 1"
    assert why.get("rows of the batch", one_row) == one_row  # not looked for where a scale explains it


def changed(x, change):
    """Change a float; leave integers."""
    return CHANGES[change](x) if x.dtype.kind == "f" else x


def test_weights_that_lack_the_tensor_are_said():
    loaded = model(layers=1, query_heads=2, kv_heads=1, width=10, ffn_width=12, head_dim=4)
    arrays = dict(broken_taps(loaded, list(range(20, 29)), {}, "float32"))
    noisy = CHANGES["noise"]
    for tap in ("text.layer.0.attn.q", "text.layer.0.attn.out"):
        dump = dumped(arrays | {tap: noisy(arrays[tap])})._replace(config=loaded.params.config._asdict())
        why = tried_in(dump, loaded)
        assert why["weights of another tensor"] == "needs another tensor of this shape, which the weights lack"


def test_what_is_not_finite_on_padding_hides_nothing():
    arrays = captured(tokens=9)
    tap = "text.layer.0.attn.q"
    value = arrays[tap] * np.float32(1.5)
    value[:, 0] = np.nan
    dump = dumped(arrays | {tap: value})
    positions = np.maximum(np.arange(9) - 3, -1)
    dump = dump._replace(passes=[dump.passes[0]._replace(left_pads=3, positions=positions)])
    report = compare(dump, loaded=ref.load("tiny"))
    assert "values_scaled" in [one["mutant"] for one in report["causes"] if one["first"]["tap"] == tap]


def test_values_beyond_the_format_are_said():
    arrays = captured(tokens=9)
    tap = "text.layer.0.attn.q"
    value = arrays[tap] * np.float32(3)
    value[0, 2, 0, 0] = np.inf
    report = compare(dumped(arrays | {tap: value}), loaded=ref.load("tiny"))
    assert report["verdict"] == "bug"
    assert report["tried"]["not_tried"] == []  # not finite where it should be: that is the finding
    assert report["taps"]


def test_a_family_that_fails_costs_neither_verdict_nor_the_others(monkeypatch):
    def fails(clue):
        yield from ()
        raise ValueError("an array\nof a \x1b shape")

    others = diagnose.families_at
    monkeypatch.setattr(diagnose, "families_at", lambda group: [Family("a broken one", None, fails), *others(group)])
    arrays, tap = captured(tokens=9), "text.layer.0.attn.q"
    report = compare(dumped(arrays | {tap: arrays[tap] * np.float32(1.5)}), loaded=ref.load("tiny"))
    [cause] = [one for one in report["causes"] if one["first"]["tap"] == tap]
    assert cause["mutant"] == "values_scaled"
    why = {row["family"]: row["why"] for row in report["tried"]["not_tried"]}
    assert why["a broken one"] == r"it failed on this input: an array of a \x1b shape"
    assert "a broken one" not in report["tried"]["families"]
