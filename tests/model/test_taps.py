"""Taps of a TINY run: each once, in order, of the registered axes; equal for both ops; listening is free."""

import numpy as np
import pytest
from support import naive
from support.tiny import BOTH, TINY, assert_close, logits, params, random_ids

from ref.model.cache import empty_cache
from ref.model.tap_rows import LAYER_TAPS, TEXT_TAPS
from ref.model.taps import Recorder, row_of, tap_group, tap_names
from ref.model.text import How, forward
from ref.ops import DEFINITION, KERNEL

OPS = pytest.mark.parametrize("ops", BOTH.values(), ids=BOTH)


def recorded(ids, ops=KERNEL, cached=False, first=None, patterns=("*",)):
    taps = Recorder(*patterns)
    cache = empty_cache(TINY, np.zeros(len(ids)), 50, np.float64) if cached else None
    forward(params(), ids, How(ops=ops, dtype=np.float64, taps=taps), cache, first)
    return taps.values


def test_definition_and_kernel_agree_at_every_tap():
    ids, pads = random_ids(0, 2, 19), np.array([0, 4])
    definition, kernel = (recorded(ids, ops, first=pads) for ops in (DEFINITION, KERNEL))
    real = np.arange(19) >= pads[:, None]  # what a padded row holds is nobody's promise
    for name in definition:
        by_token = np.swapaxes(definition[name], 1, 2) if "N T" in axes(name) else definition[name]
        other = np.swapaxes(kernel[name], 1, 2) if "N T" in axes(name) else kernel[name]
        assert_close(other[real], by_token[real])


@OPS
@pytest.mark.parametrize("cached", [False, True])
def test_every_registered_tap_is_reported_once_in_order_and_nothing_else(ops, cached):
    # a second report of a name is an AssertionError of the Recorder
    assert list(recorded(random_ids(1, 2, 6), ops, cached)) == tap_names(TINY.layers, cached)


def axes(name):
    row = TEXT_TAPS.get(name) or LAYER_TAPS[name.split(".", 3)[3]]
    return row.axes


@pytest.mark.parametrize("cached", [False, True])
def test_taps_have_the_axes_of_their_registry_row(cached):
    c = TINY
    values = recorded(random_ids(1, 2, 19), cached=cached)
    for name, value in values.items():
        is_ring = cached and ".cache." in name and not c.is_global(int(name.split(".")[2]))
        S = c.window if is_ring else 19
        lengths = {"B": 2, "T": 19, "S": S, "D": c.width, "N": c.query_heads, "K": c.kv_heads,
                   "H": c.head_dim, "F": c.ffn_width, "V": c.vocabulary, "2": 2}  # fmt: skip
        assert value.shape == tuple(lengths[axis] for axis in axes(name).split()), name


def test_what_a_row_says_of_its_values():
    names = tap_names(1, cached=True, vision_layers=1)
    rows = {name: row_of(name) for name in names}
    layer = "text.layer.0."
    ring = [layer + f"cache.{name}" for name in ("k", "v", "positions")]
    pairs = [part + f"layer.0.attn.{name}" for part in ("vision.", "text.") for name in ("scores", "probs")]
    assert [name for name in names if rows[name].integers] == [ring[2], layer + "attn.visible"]
    assert [name for name in names if rows[name].is_visibility] == [layer + "attn.visible"]
    assert [name for name in names if rows[name].is_ring] == ring
    assert [name for name in names if rows[name].is_pairwise] == pairs
    moved = {"vision.layer.0.in", layer + "in", layer + "attn.visible", *ring}
    assert {name for name in names if rows[name].exact} == moved
    assert {name: row.key_axis for name, row in rows.items() if row.key_axis is not None} == {
        **dict.fromkeys(ring, 1),
        **dict.fromkeys(pairs[2:], 3),
    }
    for name, row in rows.items():
        if name != "vision.pixels":
            assert row.axes.split()[row.token_axis] in ("T", "P", "M", "S"), name


def test_a_name_that_is_not_registered_has_a_row_that_says_nothing():
    row = row_of("text.layer.0.attn.rope")
    assert (row.exact, row.integers, row.is_pairwise, row.is_ring, row.is_visibility) == (False,) * 5
    assert (row.token_axis, row.key_axis) == (1, None)


def test_groups_of_taps_drop_the_layer_number():
    assert tap_group("text.layer.12.attn.q_rope") == "text.layer.*.attn.q_rope"
    assert tap_group("text.logits") == "text.logits"


@OPS
@pytest.mark.parametrize("pattern", ["*", "*.attn.scores", "*.attn.probs", "text.layer.2.attn.*", "*.out"])
def test_listening_changes_nothing(ops, pattern):
    ids, pads = random_ids(2, 2, 19), np.array([3, 0])
    tapped = logits(ids, ops, taps=Recorder(pattern), first=pads)
    assert_close(tapped[:, 3:], logits(ids, ops, first=pads)[:, 3:])


LAYERS = [(0, 1e4, 1, 5), (4, 1e4, 1, 5), (5, 1e6, 8, None), (6, 1e4, 1, 5)]  # layer, base, factor, window
PADS, TOKENS = 2, 19


def attention_by_oracles(at, p, base, factor, window):
    """What each tap of attention must be, made by scalar oracles of the tap before it."""

    def turned(x):
        real = zip(x[PADS:], range(TOKENS - PADS), strict=True)
        return [[naive.rotate(head, position, base, factor) for head in token] for token, position in real]

    seen = naive.visibility([None] * PADS + [0] * (TOKENS - PADS), window)
    mixed = naive.attention(at["attn.q_rope"], at["attn.k_rope"], at["attn.v"], seen, 15**-0.5)
    yield "attn.pre_norm", normed(at["in"], p["pre_attn_norm"])
    for name in "qkv":
        yield f"attn.{name}", projected(at["attn.pre_norm"], p[name])
    yield "attn.q_norm", normed(at["attn.q"], p["q_norm"])
    yield "attn.k_norm", normed(at["attn.k"], p["k_norm"])
    yield "attn.q_rope", turned(at["attn.q_norm"])
    yield "attn.k_rope", turned(at["attn.k_norm"])
    yield "attn.mix", mixed[PADS:]
    yield "attn.out", projected(at["attn.mix"], p["attn_out"])
    yield "attn.post_norm", normed(at["attn.out"], p["post_attn_norm"])
    yield "mid", (at["in"] + at["attn.post_norm"])[PADS:]


def feed_forward_by_oracles(at, p):
    gates = zip(at["ffn.gate"][PADS:], at["ffn.up"][PADS:], strict=True)
    yield "ffn.pre_norm", normed(at["mid"], p["pre_ffn_norm"])
    yield "ffn.gate", projected(at["ffn.pre_norm"], p["gate"])
    yield "ffn.up", projected(at["ffn.pre_norm"], p["up"])
    yield "ffn.act", [naive.geglu(gate, up) for gate, up in gates]
    yield "ffn.out", projected(at["ffn.act"], p["down"])
    yield "ffn.post_norm", normed(at["ffn.out"], p["post_ffn_norm"])
    yield "out", (at["mid"] + at["ffn.post_norm"])[PADS:]


def normed(x, gain):
    return [naive.rms_norm(row, gain, 1e-6) for row in x[PADS:].reshape(-1, len(gain))]


def projected(x, weight):
    return naive.linear(x[PADS:].reshape(TOKENS - PADS, -1), weight)


@pytest.mark.parametrize(("layer", "base", "factor", "window"), LAYERS)
def test_every_tap_of_a_layer_is_what_scalar_oracles_make_of_the_tap_before(layer, base, factor, window):
    values, prefix = recorded(random_ids(3, 1, TOKENS), first=np.array([PADS])), f"text.layer.{layer}."
    at = {name.removeprefix(prefix): x[0] for name, x in values.items() if name.startswith(prefix)}
    p = {name: np.asarray(x, np.float64) for name, x in params().layers[layer]._asdict().items()}
    wanted = dict([*attention_by_oracles(at, p, base, factor, window), *feed_forward_by_oracles(at, p)])
    assert set(at) - set(wanted) == {"in", "attn.visible", "attn.scores", "attn.probs"}
    for name, value in wanted.items():
        assert_close(at[name][PADS:], np.reshape(value, at[name][PADS:].shape))


@pytest.mark.parametrize("ops", [DEFINITION, KERNEL])
def test_what_is_kept_without_a_copy_is_what_was_reported(ops):
    weights = params()
    copied, kept = Recorder(keep=lambda _, value: np.array(value)), Recorder()
    for heard in (copied, kept):
        cache = empty_cache(weights.config, np.zeros(1), 12, np.float32)
        for ids in ([5, 6, 7, 8, 9], [4]):  # in place, where anything is: the cache
            heard.values.clear()
            _, cache = forward(weights, [ids], How(ops, taps=heard), cache)
    assert copied.values.keys() == kept.values.keys()
    for name, value in kept.values.items():
        assert not value.flags.writeable
        np.testing.assert_array_equal(value, copied.values[name])
