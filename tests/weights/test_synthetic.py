"""Made-up weights: a function of name and seed, of the documented distribution, made when asked for."""

import hashlib
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tiny import TINY

from ref.config import SIGLIP, SIZES, VISION
from ref.model.params import layer_shapes, vision_layer_shapes, vision_shapes
from ref.ops.linear import widen
from ref.ops.rounding import round_bfloat16
from ref.weights.names import LAYER_NAMES, MATRICES, is_norm
from ref.weights.philox import SMALL
from ref.weights.resolve import load
from ref.weights.synthetic import synthetic_params, synthetic_rows, synthetic_tensor, synthetic_vision

MATRIX = {"spread": 0.1, "centre": 0.0, "bfloat16": True}
# self: guards against change only. Whoever has noted a seed gets the same model from every version.
DIGESTS = {
    True: "c221f654d164e41f6fe346a9dc62ea66d8c82ee0e303076d1f2337abc7bfce4a",
    False: "09da19b65edba4a50537ebec843b390e2c56d2aaa2ec81e6ea06e68484abb6f4",
}


def digest(array) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


@pytest.mark.parametrize("bfloat16", DIGESTS)
def test_the_bytes_of_a_seed_stay_what_they_are(bfloat16):
    layer = synthetic_params(TINY, 7, bfloat16=bfloat16).layers[3]
    assert digest(layer.q) == DIGESTS[bfloat16]


@given(st.text(max_size=20), st.integers(-(2**70), 2**70), st.integers(1, 40))
def test_name_and_seed_decide_every_bit(name, seed, size):
    first = synthetic_tensor(name, (size, 3), seed, **MATRIX)
    np.testing.assert_array_equal(synthetic_tensor(name, (size, 3), seed, **MATRIX), first)
    if size > 4:
        for other in (synthetic_tensor(name + "x", (size, 3), seed, **MATRIX),
                      synthetic_tensor(name, (size, 3), seed + 1, **MATRIX)):  # fmt: skip
            assert not np.array_equal(other, first)


def test_no_two_tensors_of_a_model_are_alike():
    params = synthetic_params(TINY, 0)
    matrices = [getattr(layer, field).tobytes() for layer in params.layers for field in LAYER_NAMES]
    assert len(set(matrices)) == len(matrices)


def by_the_formula(name, shape, seed, *, spread, centre, bfloat16):
    """The formula of `synthetic_tensor`, with NumPy's own generator from its first draw on."""
    key = np.frombuffer(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:16], "<u8")
    draws = np.random.Generator(np.random.Philox(key=key)).integers(0, 65_536, shape, dtype=np.uint16)
    values = centre + np.float32(spread * 3**0.5) * (draws.astype(np.float32) / np.float32(32_768) - 1)
    return round_bfloat16(values) if bfloat16 else values


SETTINGS = st.fixed_dictionaries(
    {"spread": st.sampled_from([0.4, 36**-0.5]), "centre": st.sampled_from([0.0, 0.25]), "bfloat16": st.booleans()}
)


@given(st.tuples(st.integers(1, 9), st.integers(1, 40)), st.integers(0, 9), SETTINGS)
def test_values_are_those_of_the_formula(shape, seed, settings):
    made = synthetic_tensor("a", shape, seed, **settings)
    wanted = by_the_formula("a", shape, seed, **settings)
    assert made.dtype == wanted.dtype
    np.testing.assert_array_equal(made, wanted)


@pytest.mark.parametrize("bfloat16", [True, False])
def test_values_of_a_large_tensor_are_those_of_the_formula(bfloat16):
    settings = MATRIX | {"bfloat16": bfloat16}
    shape = (1000, 16 * 33)
    assert shape[0] * shape[1] > 16 * SMALL  # the kernel's
    np.testing.assert_array_equal(
        synthetic_tensor("a", shape, 1, **settings), by_the_formula("a", shape, 1, **settings)
    )


@st.composite
def selections(draw):
    """(shape, rows): a slice with or without a step, any integers in range, or a mask."""
    count = draw(st.integers(1, 12))
    end = st.none() | st.integers(-15, 15)
    pieces = st.builds(slice, end, end, st.none() | st.integers(-3, 3).filter(bool))
    indices = st.lists(st.integers(-count, count - 1), max_size=9).map(lambda some: np.array(some, np.int64))
    masks = st.lists(st.booleans(), min_size=count, max_size=count).map(np.array)
    return (count, draw(st.integers(1, 37))), draw(pieces | indices | masks)


@given(selections(), SETTINGS)
def test_rows_on_demand_are_those_of_the_whole_tensor(selection, settings):
    shape, rows = selection
    lazy = synthetic_rows("a", shape, 3, **settings)
    got, wanted = lazy.take_rows(rows), synthetic_tensor("a", shape, 3, **settings)[rows]
    assert (lazy.shape, got.shape, got.dtype) == (shape, wanted.shape, wanted.dtype)
    np.testing.assert_array_equal(got, wanted)


def test_a_row_that_does_not_exist_is_an_error():
    with pytest.raises(IndexError):
        synthetic_rows("a", (5, 3), 0, **MATRIX).take_rows(np.array([5]))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("spread", "centre"), [(0.4, 0.25), (640**-0.5, 0.0)])
def test_mean_and_deviation_are_as_documented(seed, spread, centre):
    values = synthetic_tensor("a", (500, 640), seed, spread=spread, centre=centre, bfloat16=False)
    assert values.dtype == np.float32
    assert abs(values.mean() - centre) < 5 * spread / values.size**0.5
    assert values.std() == pytest.approx(spread, rel=0.01)
    assert abs(values - centre).max() <= spread * 3**0.5 * 1.0001
    rounded = synthetic_tensor("a", (500, 640), seed, spread=spread, centre=centre, bfloat16=True)
    np.testing.assert_array_equal(rounded, round_bfloat16(values))


@pytest.mark.parametrize("bfloat16", [True, False])
def test_shapes_dtypes_and_scales_of_a_layer(bfloat16):
    params = synthetic_params(TINY, 0, bfloat16=bfloat16)
    for field, shape in layer_shapes(TINY).items():
        weight = getattr(params.layers[2], field)
        matrix = np.uint16 if bfloat16 else np.float32
        assert (weight.shape, weight.dtype) == (shape, np.float32 if is_norm(field) else matrix)
        if not is_norm(field):
            assert widen(weight).std() == pytest.approx(shape[-1] ** -0.5, rel=0.1)
        elif bfloat16:  # norms are held as floats but are bfloat16 numbers
            np.testing.assert_array_equal(widen(round_bfloat16(weight)), weight)
    assert params.embedding.shape == (97, 36)
    assert params.final_norm.shape == (36,)


@pytest.mark.parametrize("bfloat16", [True, False])
def test_shapes_dtypes_and_scales_of_a_vision_tower(bfloat16):
    v = VISION["tiny"]
    params = synthetic_vision(v, 36, 0, bfloat16)
    assert (params.config, params.text_width, len(params.layers)) == (v, 36, v.layers)
    arrays = params.layers[1]._asdict() | {field: getattr(params, field) for field in vision_shapes(v, 36)}
    for field, shape in (vision_layer_shapes(v) | vision_shapes(v, 36)).items():
        weight, matrix = arrays[field], field in MATRICES
        assert (weight.shape, weight.dtype) == (shape, np.uint16 if matrix and bfloat16 else np.float32)
        centre = 0.25 if field == "soft_norm" else float(is_norm(field))
        inputs = shape[0] if field == "projection" else shape[-1]
        spread = inputs**-0.5 if matrix else 0.4 if field == "soft_norm" else 0.3
        assert abs(widen(weight).mean() - centre) < 4 * spread / weight.size**0.5
        assert widen(weight).std() == pytest.approx(spread, rel=0.3)
        if bfloat16:  # every number is one of bfloat16
            np.testing.assert_array_equal(widen(round_bfloat16(widen(weight))), widen(weight))


def test_no_two_tensors_of_a_vision_tower_are_alike_and_another_seed_makes_others():
    def tensors(seed):
        params = synthetic_vision(VISION["tiny"], 36, seed)
        outside = [getattr(params, field) for field in vision_shapes(VISION["tiny"], 36)]
        return [weight.tobytes() for weight in outside + [w for layer in params.layers for w in layer]]

    assert len(set(tensors(0) + tensors(1))) == 2 * (7 + 16 * 2)


def test_270m_has_its_shapes_and_layers_are_made_only_when_asked_for():
    c = SIZES["270m"]
    tracemalloc.start()
    loaded = load("synthetic:270m:5")
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 2**20  # neither layers nor embedding
    assert loaded.params.embedding.shape == (262_144, 640)
    layer = loaded.params.layers[17]
    assert {field: weight.shape for field, weight in layer._asdict().items()} == layer_shapes(c)
    assert layer.gate.dtype == np.uint16
    np.testing.assert_array_equal(loaded.params.layers[17].gate, layer.gate)
    assert (loaded.report.used, loaded.instruction_tuned) == (13 * 18 + 2, False)


@pytest.mark.parametrize("size", ["4b", "27b"])
def test_large_sizes_have_their_shapes_and_nothing_is_made_by_loading(size):
    c = SIZES[size]
    tracemalloc.start()
    loaded = load(f"synthetic:{size}")
    assert loaded.vision
    held, _ = tracemalloc.get_traced_memory()
    assert held < 40 * 2**20  # positions, patch and projector of the tower
    tracemalloc.reset_peak()
    rows = loaded.params.embedding.take_rows(slice(262_140, 262_144))
    layer = loaded.vision.layers[26]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < held + 40 * 2**20
    assert (loaded.params.embedding.shape, rows.shape, rows.dtype) == ((262_144, c.width), (4, c.width), np.uint16)
    assert {field: weight.shape for field, weight in layer._asdict().items()} == vision_layer_shapes(SIGLIP)
    assert loaded.vision.text_width == c.width
    assert loaded.report.used == 13 * c.layers + 2 + 16 * 27 + 7


def test_a_walk_through_the_layers_shows_on_a_terminal_how_far_it_is(monkeypatch, capsys):
    shown = []

    def watched(layers, description, total, **how):
        shown.append((description, total, how["disable"]))
        return layers

    loaded = load("synthetic:4b-pair")
    monkeypatch.setattr("ref.weights.synthetic.tqdm", watched)
    assert len(list(loaded.params.layers)) == 2
    assert loaded.vision
    next(iter(loaded.vision.layers))
    assert shown == [("synthetic text layers", 2, None), ("synthetic vision layers", 27, None)]
    monkeypatch.undo()
    list(loaded.params.layers)
    assert capsys.readouterr().err == ""  # no terminal, no word
