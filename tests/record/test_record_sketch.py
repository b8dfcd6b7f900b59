"""Sketches: the places are those of a published hash in each stretch, norms and digests those of plain NumPy."""

import hashlib

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ref.dump.write import read_dump
from ref.model.tap_rows import LAYER_TAPS
from ref.record import Recorder, Sketch, fnv1a, sketch_of, sketch_places, splitmix64, token_axis

DOCS = (  # of docs/small-dumps.md
    (("text.embed", 0, 1, 640), Sketch(4, 0), [103, 186, 386, 566]),
    (("text.layer.5.attn.probs", 3, 5, 24), Sketch(8, 7), [2, 20, 24, 39, 48, 67, 79, 95, 96, 110]),
)


def test_the_hashes_are_the_published_ones():
    assert [fnv1a(text) for text in ("", "a", "foobar")] == [
        0xCBF29CE484222325,
        0xAF63DC4C8601EC8C,
        0x85944171F73967E8,
    ]
    # of Vigna's splitmix64.c that begins with 1234567
    assert splitmix64(1234567, 3).tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@pytest.mark.parametrize(("of", "sketch", "places"), DOCS)
def test_the_vectors_of_the_docs(of, sketch, places):
    assert sketch_places(sketch, *of).tolist() == places


@given(st.integers(1, 40), st.integers(1, 300), st.integers(1, 200), st.integers(0, 3), st.text(max_size=5))
def test_every_token_has_as_many_places_one_in_each_stretch(tokens, rest, values, seed, name):
    each = -(-values // tokens)
    if each >= rest:
        return
    places = sketch_places(Sketch(values, seed), name, 2, tokens, rest)
    assert np.array_equal(np.bincount(places // rest, minlength=tokens), np.full(tokens, each))
    state = fnv1a(f"{name}|2|{seed}")
    for i, place in enumerate(places.tolist()):  # the definition, in integers that do not wrap by themselves
        start, stop = (at * tokens * rest // (tokens * each) for at in (i, i + 1))
        z = (state + (i + 1) * 0x9E3779B97F4A7C15) % 2**64
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
        assert place == start + (z ^ z >> 31) % (stop - start)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, ml_dtypes.bfloat16])
def test_values_norms_and_digest_are_those_of_the_whole(dtype):
    value = np.random.default_rng(0).standard_normal((1, 3, 11, 50)).astype(dtype)  # [B, N, T, S]
    bits, kind = (value.view(np.uint16), "bfloat16") if dtype is ml_dtypes.bfloat16 else (value, value.dtype.name)
    parts, said = sketch_of(Sketch(40), "x", 1, bits, kind, 2)
    kept = {name: array for name, array, _ in parts}
    rows = np.moveaxis(value, 2, 0).reshape(11, -1)
    places = sketch_places(Sketch(40), "x", 1, 11, rows.shape[1])
    assert np.array_equal(kept["x"], rows.reshape(-1)[places].view(bits.dtype))
    np.testing.assert_allclose(kept["x.norms"], np.linalg.norm(rows.astype(np.float64), axis=1), rtol=6e-8)
    assert said == {
        "axis": 2,
        "sha256": hashlib.sha256(value.tobytes()).hexdigest(),
        "nonfinite": 0,
        "first": None,
    }


def test_a_sum_is_sketched_as_one():
    x, y = np.random.default_rng(0).standard_normal((2, 1, 6, 50)).astype(np.float32)
    parts, said = sketch_of(Sketch(12), "x", 0, x, "float32", 1, y)
    (_, values, kind), (_, norms, _) = parts
    both = x[0].astype(np.float64) + y[0]
    assert kind == "float64"
    assert np.array_equal(values, both.reshape(-1)[sketch_places(Sketch(12), "x", 0, 6, 50)])
    np.testing.assert_allclose(norms, np.linalg.norm(both, axis=1), rtol=6e-8)
    assert said["sha256"] == hashlib.sha256(x.tobytes() + y.tobytes()).hexdigest()


def test_values_that_are_not_finite_are_counted_and_the_first_is_said():
    value = np.ones((1, 6, 50), np.float32)
    value[0, 4, [7, 9]], value[0, 5, 0] = np.nan, np.inf
    parts, said = sketch_of(Sketch(12), "x", 0, value, "float32", 1)
    assert (said["nonfinite"], said["first"]) == (3, 4 * 50 + 7)
    norms = parts[1][1]
    assert np.isfinite(norms[:4]).all()
    assert not np.isfinite(norms[4:]).any()


def test_what_has_no_more_values_than_would_be_kept_is_kept_whole():
    assert sketch_of(Sketch(12), "x", 0, np.ones((1, 6, 2)), "float64", 1) == ([], {})
    assert sketch_of(Sketch(12), "x", 0, np.ones((1, 6, 3)), "float64", 1)[1]
    assert sketch_of(Sketch(12), "x", 0, np.ones((0, 3)), "float64", 0) == ([], {})


@pytest.mark.parametrize(
    ("layout", "shape", "tokens", "axis"),
    [
        ("B N T H", (1, 2, 5, 3), 5, 2),
        ("T (N H)", (5, 6), 5, 0),
        ("(B T) D", (5, 6), 5, 0),
        ("(N T) H", (10, 3), 5, None),
        ("B S K H", (1, 7, 2, 3), 5, 1),
        ("B P D", (2, 9, 3), 5, 1),
        ("B C Y X", (1, 3, 8, 8), 5, None),
        ("", (1, 5, 6), 5, 1),
        ("", (1, 4, 6), 5, None),
        ("", (1, 1, 6), 1, None),
    ],
)
def test_the_axis_of_tokens_is_read_off_the_layout_or_their_number(layout, shape, tokens, axis):
    assert token_axis(layout, shape, tokens) == axis


def test_a_recorder_writes_a_small_dump(tmp_path):
    x = np.random.default_rng(0).standard_normal((3, 400)).astype(np.float32)
    with Recorder(tmp_path / "dump", [2, 5, 7], sketch=Sketch(90, 4)) as rec:
        rec("text.embed", x, "T D")
        rec("text.layer.0.attn.visible", np.array([[0, 1], [0, 2], [0, 3]]), "T 2")
    content = read_dump(tmp_path / "dump")
    assert (content["format_version"], content["sketch"]) == (2, {"values": 90, "seed": 4})
    assert content["passes"][0]["sketch"] == 0
    tensors = content["passes"][0]["tensors"]
    assert tensors["text.embed"]["shape"] == [3, 400]
    assert tensors["text.embed"]["sketch"]["axis"] == 0
    assert "sketch" not in tensors["text.layer.0.attn.visible"]


def test_a_run_of_27b_takes_20_megabytes(tmp_path):
    """512 tokens in float32: a layer is written, its bytes are counted as often as there are layers."""
    tokens = 512
    lengths = {"B": 1, "T": tokens, "S": tokens, "D": 5376, "N": 32, "K": 16, "H": 128, "F": 21504, "2": 2}
    rows = {name: row for name, row in LAYER_TAPS.items() if not name.startswith("cache.")}
    with Recorder(tmp_path / "dump", list(range(tokens)), sketch=True) as rec:
        for name, row in rows.items():
            shape = [lengths[letter] for letter in row.axes.split()]
            rec(f"text.layer.10.{name}", np.zeros(shape, np.int32 if row.integers else np.float32), row.axes)
    size = sum(file.stat().st_size for file in (tmp_path / "dump").iterdir())
    header = len(rows) * 2 * 120 - 2**16  # room for it is left once a file
    assert 15e6 < 62 * (size + header) + 3 * 15_000 < 20e6
