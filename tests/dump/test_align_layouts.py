"""Layouts that a producer states, and rows of a batch: undone where they fit, refused with what would."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.aligned import CONFIG, IDS, LENGTHS, Q, T, opened, raw, refused
from support.tiny import params

from ref.dump.align import Raw, align
from ref.dump.layouts import layouts_that_fit, lengths_of
from ref.dump.open import arrays_as_dump
from ref.errors import BadInput
from ref.model.taps import Recorder, tap_row
from ref.model.text import How, forward
from ref.untrusted import quoted


@pytest.mark.parametrize(
    ("layout", "axes"),
    [
        ("B T N H", (0, 1, 2, 3)),
        ("B N T H", (0, 2, 1, 3)),
        ("H N T B", (3, 2, 1, 0)),
        ("T N H", (1, 2, 3)),
        ("H N T", (3, 2, 1)),
        ("b t n h", (0, 1, 2, 3)),
    ],
)
def test_a_layout_says_how_axes_lie(taps, layout, axes):
    q = taps[Q]
    laid = q.transpose(axes) if len(axes) == 4 else q[0].transpose([axis - 1 for axis in axes])
    values, _ = opened({f"{Q} [{layout}]": laid})
    np.testing.assert_array_equal(values[Q], q)


def test_merged_axes_are_split_and_groups_joined(taps):
    q = taps[Q]
    for layout, laid in {
        "B T (N H)": q.reshape(1, T, 120),
        "(N H) T": q.reshape(T, 120).T,
        "B (T N) H": q.reshape(1, T * 12, 10),
        "B T K G H": q.reshape(1, T, 3, 4, 10),
        "B K G T H": q.reshape(1, T, 3, 4, 10).transpose(0, 2, 3, 1, 4),
    }.items():
        np.testing.assert_array_equal(opened({f"{Q}[{layout}]": laid})[0][Q], q)


def test_visibility_and_vision_have_layouts_too():
    seen = np.tril(np.ones((T, T), bool))
    tap = "text.layer.3.attn.visible"
    np.testing.assert_array_equal(opened({tap: seen})[0][tap], seen[None])
    ranges = np.stack([np.zeros(T, np.int32), np.arange(1, T + 1, dtype=np.int32)], axis=1)
    value = opened({f"{tap} [2 T]": ranges.T})[0][tap]
    np.testing.assert_array_equal(value, ranges[None])
    assert value.dtype == np.int64
    probs = np.random.default_rng(1).random((2, 2, 64, 64), np.float32)
    tap = "vision.layer.0.attn.probs"
    np.testing.assert_array_equal(opened({f"{tap}[P P N B]": probs.transpose(2, 3, 1, 0)})[0][tap], probs)


@pytest.mark.parametrize(
    "layout",
    ["B T N", "B T N X", "B T N H H", "(B T N H", "B T (N (H))", "()", "B T N H; rm", "B T N+H", "B T K H", "2"],
)
def test_a_layout_of_other_axes_is_refused(layout):
    line = refused(Q, raw(1, T, 12, 10, layout=layout))
    assert f"layout of tensor {Q}: wanted the axes B T N H, merged ones in brackets, got {quoted(layout)}" in line


@pytest.mark.parametrize(
    ("tap", "shape", "fits"),
    [
        (Q, (1, 12, T, 10), "B N T H"),
        (Q, (10, 12, T), "H N T"),
        (Q, (1, T, 120), "B T (N H)"),
        (Q, (T, 120), "T (N H)"),
        ("text.layer.3.attn.k", (10, 3, T, 1), "H K T B"),
        ("text.layer.3.ffn.act", (44, T), "F T"),
        ("text.logits", (1, 97, T), "B V T"),
        ("text.layer.3.attn.probs", (1, T, 12, T), "B T N S or B S N T"),
    ],
)
def test_a_shape_that_fits_otherwise_is_refused_with_the_layout(tap, shape, fits):
    line = refused(tap, raw(*shape))
    assert f"shape of tensor {tap}: wanted " in line
    assert f"got {list(shape)}; fits as {fits}: say so" in line
    if " or " not in fits:
        [found] = align("ref", tap, raw(*shape, layout=fits), LENGTHS, "").values()
        assert len(found.shape) == len(tap_row(tap).axes.split())


def test_a_shape_that_fits_in_no_way_is_refused():
    assert refused(Q, raw(1, T, 12, 11)) == (
        f"dump: shape of tensor {Q}: wanted B T N H = [1, 8, 12, 10], got [1, 8, 12, 11]"
    )
    assert "got []" in refused(Q, raw())
    assert "wanted parts of" in refused("model.layers.3.self_attn.qkv_proj", raw(1, T, 181), "transformers")
    assert "wanted 1 B T K H" not in refused("layer_3.attn.kv_einsum", raw(3, 1, T, 3, 10), "gemma")
    assert "it is fused" in refused("layer_3.attn.kv_einsum", raw(2, 1, T, 3, 10, layout="B T K H"), "gemma")


@pytest.mark.parametrize(
    ("tap", "dtype", "want"),
    [
        (Q, "int64", "one of float16 bfloat16 float32 float64"),
        (Q, "bool", "one of float16 bfloat16 float32 float64"),
        ("text.layer.3.cache.positions", "float32", "an integer"),
        ("text.layer.3.cache.positions", "bool", "an integer"),
        ("text.layer.3.attn.visible", "float32", "an integer, or bool"),
    ],
)
def test_a_dtype_that_a_tap_cannot_have_is_refused(tap, dtype, want):
    assert f"dtype of tensor {tap}: wanted {want}" in refused(tap, raw(1, T, 12, 10, dtype=dtype))


def test_without_a_configuration_axes_are_not_split_by_guessing():
    lengths = lengths_of({}, 1, T, 0, None)
    [stored] = align("ref", Q, raw(1, T, 12, 10), lengths, "").values()
    assert stored.shape == (1, T, 12, 10)
    for name in ("model.layers.3.self_attn.q_proj", "model.layers.3.self_attn.qkv_proj"):
        with pytest.raises(BadInput, match=r"wanted known lengths H .*N to split it by: say whose weights these are"):
            align("transformers", name, raw(1, T, 120), lengths, "dump")
    assert align("transformers", "norm.input", raw(1, T, 36), lengths, "").startswith("which layer is the last")


@pytest.mark.parametrize("field", ["width", "head_dim", "vision.heads"])
@pytest.mark.parametrize("value", [0, -1, True, 2.0, "12", None, 2**62])
def test_a_configuration_of_impossible_sizes_is_refused(field, value):
    config = CONFIG | {field: value} if "." not in field else CONFIG | {"vision": {"heads": value}}
    with pytest.raises(BadInput, match=rf"model\.config\.{field}: wanted an integer > 0"):
        lengths_of(config, 1, T, 0, None)
    with pytest.raises(BadInput, match="vision: wanted an object"):
        lengths_of(CONFIG | {"vision": 3}, 1, T, 0, None)


@given(data=st.data())
def test_any_order_and_merging_of_axes_is_undone_by_its_layout(data):
    tap = data.draw(st.sampled_from([Q, "text.layer.0.attn.k_rope", "text.layer.0.attn.probs", "text.logits"]))
    axes = tap_row(tap).axes.split()
    sizes = {"B": 1, "T": T, "N": 12, "K": 3, "H": 10, "S": 7, "V": 97}
    value = np.arange(np.prod([sizes[a] for a in axes]), dtype=np.float32).reshape([sizes[a] for a in axes])
    order = data.draw(st.sampled_from(list(permutations(range(len(axes))))))
    laid, groups = value.transpose(order), [[axes[i]] for i in order]
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(axes) - 2))
        if "S" not in groups[at] + groups[at + 1]:  # a merged S has no known length
            groups[at : at + 2] = [groups[at] + groups[at + 1]]
            laid = laid.reshape([int(np.prod([sizes[a] for a in group])) for group in groups])
    layout = " ".join(group[0] if len(group) == 1 else f"({' '.join(group)})" for group in groups)
    given_raw = Raw("float32", laid.shape, lambda: laid, layout)
    [stored] = align("ref", tap, given_raw, LENGTHS, "").values()
    np.testing.assert_array_equal(stored.load(), value)
    if max(map(len, groups)) == 1:
        fits = layouts_that_fit(tap_row(tap).axes.lower(), laid.shape, LENGTHS.text, T)
        assert layout in fits or len(fits) == 2  # S 7 may be T's place and the reverse only where both fit


# batches


def test_rows_of_a_batch_are_passes(taps):
    rows = [IDS, IDS[::-1]]
    recorder = Recorder("*")
    forward(params(), rows, How(taps=recorder))
    dump = arrays_as_dump(recorder.values, rows, config=CONFIG)
    assert [one.ids.tolist() for one in dump.passes] == rows
    for number, one in enumerate(dump.passes):
        assert set(one.tensors) == set(recorder.values)
        for tap, stored in one.tensors.items():
            np.testing.assert_array_equal(stored.load(), recorder.values[tap][number : number + 1])
            assert stored.shape == recorder.values[tap][:1].shape
    with pytest.raises(BadInput, match=r"shape of tensor text\.embed: wanted B T D = \[1, 8, 36\], got \[2, 8, 36\]"):
        arrays_as_dump(recorder.values, IDS, config=CONFIG)
    with pytest.raises(BadInput, match="rows of equal length, got unequal ones"):
        arrays_as_dump(recorder.values, [IDS, IDS[:-1]], config=CONFIG)
