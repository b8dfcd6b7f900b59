"""google-deepmind/gemma's own numbers: captured whole, and on the right axes."""

import json

import ml_dtypes
import numpy as np
import pytest
from support.captures import distance, passes_of, truth_of
from support.gemma_captures import IDS, Pair, needs_gemma, only_pass, plain, running

from ref.capture.common import aligned, key_ranges
from ref.capture.gemma import capture, capture_weights
from ref.capture.gemma.listen import Listener
from ref.config import SIZES
from ref.dump.write import axes_of, read_dump

TINY = SIZES["tiny"]
HEADS = {"K 3": TINY, "K 1": TINY._replace(kv_heads=1), "N = K": TINY._replace(query_heads=3)}


def assert_near(one, wanted, first=0, pads=0):
    """Assert that all taps are ours but for float32's rounding, where the queries and the keys are no pads."""
    assert set(one) == set(wanted)
    for tap, value in one.items():
        assert value.shape == wanted[tap].shape, tap
        axes, cut = axes_of(tap).split(), []
        for axis in axes:
            before = max(pads - first, 0) if axis == "T" else pads if axis == "S" and ".cache." not in tap else 0
            cut.append(slice(before, None))
        got, true = value[tuple(cut)], wanted[tap][tuple(cut)]
        if got.dtype == np.int64:
            np.testing.assert_array_equal(got, true, err_msg=tap)
        else:
            assert value.dtype == np.float32, tap
            assert distance(got, true) < 3e-6, tap


@pytest.mark.parametrize("first", ["q", "k"])
def test_a_rotation_is_known_by_the_norm_before_it(monkeypatch, first):
    listener, heard = Listener(None, ["*"]), {}
    monkeypatch.setattr(listener, "_sow", lambda module, tap, value: heard.update({tap: value}))
    listener.normed = {
        name: np.full((1, 3, 3, 2), number) for number, name in enumerate("qk")
    }  # as many tokens as heads
    listener.attention = [object()]
    rotate = listener._rotation(lambda x: x + 10)
    for name in (first, "k" if first == "q" else "q"):
        rotate(listener.normed[name])
    for name, value in listener.normed.items():
        np.testing.assert_array_equal(heard[f"attn.{name}_rope"], value + 10)


@needs_gemma
@pytest.mark.parametrize("steps", [0, 2])
@pytest.mark.parametrize("tokens", [1, TINY.kv_heads, TINY.head_dim, TINY.query_heads])
def test_lengths_that_coincide_change_no_axis(tmp_path, tiny, tokens, steps):
    capture(*tiny, [*IDS, 9][:tokens], tmp_path / "dump", steps=steps)
    for one, true in zip(passes_of(tmp_path / "dump"), truth_of(TINY, tmp_path / "dump"), strict=True):
        for tap, value in one.items():
            assert value.shape == true[tap].shape, tap
            if tap.endswith(("visible", "positions")):
                np.testing.assert_array_equal(value, true[tap], err_msg=tap)
            else:
                assert distance(value, true[tap]) < 1e-5, tap


@needs_gemma
@pytest.mark.parametrize("heads", HEADS)
def test_every_tap_of_a_prefill_and_cached_steps_stands_where_ours_does(tmp_path, parts, heads):
    model = running(parts, config=HEADS[heads])
    capture(*model, IDS, tmp_path / "dump", steps=2, config=HEADS[heads])
    passes = passes_of(tmp_path / "dump")
    for one, true in zip(passes, truth_of(HEADS[heads], tmp_path / "dump"), strict=True):
        assert_near(one, true)
    rows = [(one["ids"], one["positions"], one["cached"]) for one in read_dump(tmp_path / "dump")["passes"]]
    chosen = [int(one["text.logits"][0, -1].argmax()) for one in passes]
    assert rows == [(IDS, list(range(11)), 0), ([chosen[0]], [11], 11), ([chosen[1]], [12], 12)]


@needs_gemma
@pytest.mark.parametrize("steps", [0, 2])
def test_pads_on_the_left_are_no_keys_and_have_no_position(tmp_path, tiny: Pair, steps):
    capture(*tiny, [0, 0, 0, *IDS[:8]], tmp_path / "dump", steps=steps, config=TINY)
    content, passes = read_dump(tmp_path / "dump"), passes_of(tmp_path / "dump")
    for row, one, true in zip(content["passes"], passes, truth_of(TINY, tmp_path / "dump", 3), strict=True):
        assert row["left_pads"] == 3
        assert row["positions"] == [max(-1, j - 3) for j in range(row["cached"], row["cached"] + len(row["ids"]))]
        # a local layer's first ring may begin with pads, whose keys nobody defines; here it does not
        assert_near(
            {tap: value for tap, value in one.items() if not global_cache(tap)},
            {tap: value for tap, value in true.items() if not global_cache(tap)},
            row["cached"],
            3,
        )
        for tap in filter(global_cache, one):
            rows = slice(0 if tap.endswith("positions") else 3, None)
            np.testing.assert_allclose(one[tap][:, rows], true[tap][:, rows], rtol=1e-4, atol=1e-5)


def global_cache(tap):
    return tap.startswith("text.layer.5.cache.")


@needs_gemma
def test_the_dump_says_what_was_run(tmp_path):
    capture_weights(
        "tiny", [IDS, IDS[:3]], tmp_path / "dump", dtype="bfloat16", attention="eager", taps=["text.logits"]
    )
    content = read_dump(tmp_path / "dump")
    assert content["producer"] == {"name": "gemma", "version": "3.3.0 (jax 0.9.0)"}
    assert content["names"] == "ref"
    assert content["model"]["config"] == json.loads(json.dumps(TINY._asdict()))
    assert content["model"]["weights"] == {"name": "tiny", "dtype": "bfloat16", "sha256": None}
    words = dict.fromkeys(("compute_dtype", "matmul_activations", "kv_dtype"), "bfloat16")
    assert content["policy"] == words | {"rope_angle": "float32", "attention_impl": "eager"}
    assert [one["ids"] for one in content["passes"]] == [IDS, IDS[:3]]
    assert [list(one["tensors"]) for one in content["passes"]] == [["text.logits"]] * 2
    assert {one["text.logits"].dtype for one in passes_of(tmp_path / "dump")} == {np.dtype(ml_dtypes.bfloat16)}


@needs_gemma
@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "op by op"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_listening_changes_no_bit(tmp_path, parts, dtype, compiled):
    model = running(parts, dtype, TINY._replace(layers=2))
    if compiled:
        logits = plain(parts, model)
    else:
        with parts.jax.disable_jit():
            logits = plain(parts, model)
    value = only_pass(model, tmp_path / "dump", compiled=compiled)["text.logits"]
    assert (value.dtype, value.tobytes()) == (logits.dtype, logits.tobytes())


# What a mask lets be seen, and which keys ours has


def test_masks_become_ranges_where_they_are():
    seen = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]], bool)
    got = key_ranges(seen)
    assert (got.dtype, got.tolist()) == (np.int64, [[[0, 1], [0, 2], [1, 3], [0, 0]]])
    seen[2] = [1, 0, 1, 0]
    np.testing.assert_array_equal(key_ranges(seen), seen[None])


@pytest.mark.parametrize(
    ("layer", "before", "stop", "kept"), [(0, 0, 7, range(7)), (0, 7, 8, range(3, 8)), (5, 7, 8, range(8))]
)
def test_scores_are_cut_to_the_keys_that_ours_has(layer, before, stop, kept):
    scores = np.broadcast_to(np.arange(9), (1, 12, stop - before, 9))
    got = aligned(f"text.layer.{layer}.attn.scores", scores, TINY, before, stop)
    assert got[0, 0, 0].tolist() == list(kept)


@pytest.mark.parametrize(("layer", "stop", "kept"), [(0, 3, range(3)), (0, 8, range(3, 8)), (5, 8, range(8))])
def test_a_ring_holds_the_newest_keys(layer, stop, kept):
    positions = np.arange(9)[None]
    assert aligned(f"text.layer.{layer}.cache.positions", positions, TINY, 0, stop).tolist() == [list(kept)]
    q = np.zeros((1, 3, 12, 10))
    assert aligned(f"text.layer.{layer}.attn.q", q, TINY, 0, stop) is q
