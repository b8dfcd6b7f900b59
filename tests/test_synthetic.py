"""Made-up weights: a function of name and seed, of the documented distribution, made when asked for."""

import hashlib
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import TINY

from ref.config import SIZES
from ref.model.params import layer_shapes
from ref.ops.linear import widen
from ref.ops.rounding import round_bfloat16
from ref.weights import synthetic
from ref.weights.names import LAYER_NAMES, is_norm
from ref.weights.resolve import load
from ref.weights.synthetic import synthetic_params, synthetic_tensor

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


def test_chunks_do_not_show(monkeypatch):
    whole = synthetic_tensor("a", (5, 21), 0, **MATRIX)
    monkeypatch.setattr(synthetic, "CHUNK", 16)
    np.testing.assert_array_equal(synthetic_tensor("a", (5, 21), 0, **MATRIX), whole)


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


def test_270m_has_its_shapes_and_layers_are_made_only_when_asked_for():
    c = SIZES["270m"]
    tracemalloc.start()
    loaded = load("synthetic:270m:5")
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 1.1 * 2 * c.vocabulary * c.width  # the embedding in bfloat16, and nothing like the layers
    assert loaded.params.embedding.shape == (262_144, 640)
    layer = loaded.params.layers[17]
    assert {field: weight.shape for field, weight in layer._asdict().items()} == layer_shapes(c)
    assert layer.gate.dtype == np.uint16
    np.testing.assert_array_equal(loaded.params.layers[17].gate, layer.gate)
    assert (loaded.report.used, loaded.instruction_tuned) == (13 * 18 + 2, False)
