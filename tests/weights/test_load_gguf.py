"""GGUF files as the `gguf` package writes them are the same model, norms with their 1 taken off again."""

import numpy as np
import pytest
from support.checkpoints import SMALL, save_gguf, tensors_of
from support.tiny import BOTH

from ref.errors import BadInput
from ref.model.text import How, forward
from ref.ops.blocks import Blocks
from ref.ops.linear import widen
from ref.weights.names import is_norm
from ref.weights.resolve import load
from ref.weights.synthetic import synthetic_params

IDS = [[2, 7, 96, 0, 45, 45, 31, 8, 60, 11]]


def logits(params, dtype=np.float64, ops=BOTH["kernel"]):
    return forward(params, IDS, How(ops=ops, dtype=dtype))[0]


@pytest.fixture(scope="module")
def small():
    return synthetic_params(SMALL, 5, bfloat16=False)


def test_a_float32_gguf_file_is_the_same_model(tmp_path, small):
    save_gguf(tmp_path / "small.gguf", small)
    loaded = load(str(tmp_path / "small.gguf"))
    assert loaded.params.config == SMALL
    assert loaded.report == (93, 93, ())
    for (field, layer, got), (_, _, was) in zip(tensors_of(loaded.params), tensors_of(small), strict=True):
        one = np.float32(1) if is_norm(field) else np.float32(0)
        # 1 + w was rounded to float32 by whoever wrote the file; taking 1 off again rounds nothing
        wanted = (was + one).astype(np.float64) - one
        np.testing.assert_array_equal(got, wanted, err_msg=f"{field} {layer}")
    exact = synthetic_params(SMALL, 5, bfloat16=True)  # 1 + w of a bfloat16 gain is a float32
    save_gguf(tmp_path / "exact.gguf", exact)
    np.testing.assert_array_equal(logits(load(str(tmp_path / "exact.gguf")).params), logits(exact))


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0"])
@pytest.mark.parametrize("ops", BOTH)
def test_gguf_types_mean_what_the_gguf_package_says(tmp_path, small, kind, ops):
    from gguf import GGMLQuantizationType, dequantize, quantize

    quantisation = GGMLQuantizationType[kind]
    save_gguf(tmp_path / "small.gguf", small, kind)
    loaded = load(str(tmp_path / "small.gguf")).params
    assert isinstance(loaded.layers[0].gate, Blocks) == (kind == "Q8_0")

    def through(field, weight):
        if is_norm(field):
            return (weight + np.float32(1)).astype(np.float64) - 1
        return np.asarray(dequantize(quantize(weight, quantisation), quantisation), np.float32)

    layers = [type(p)(**{f: through(f, w) for f, w in p._asdict().items()}) for p in small.layers]
    wanted = small._replace(
        embedding=through("embedding", small.embedding), layers=layers, final_norm=loaded.final_norm
    )
    for (field, layer, got), (_, _, was) in zip(tensors_of(loaded), tensors_of(wanted), strict=True):
        np.testing.assert_array_equal(widen(got).astype(was.dtype), was, err_msg=f"{field} {layer}")
    got, same = (logits(p, ops=BOTH[ops]) for p in (loaded, wanted))
    assert np.linalg.norm(got - same) <= 1e-12 * np.linalg.norm(same)


def test_gains_whose_sum_with_1_float32_cannot_hold_come_back_exactly(tmp_path):
    # 1 + w near 0: down to 2^-30 float64 holds w of every float32; below, the last bits go
    stored = np.array([2.0**-30, -(2.0**-50), 1e-9, -1.0, 0.25, 1.2345e-9] * 4, np.float32)

    def change(tensors):
        tensors["blk.1.attn_q_norm.weight"] = stored
        tensors["blk.1.attn_k_norm.weight"] = np.float32(1) + np.linspace(-0.9, 1, 24, dtype=np.float32)

    save_gguf(tmp_path / "small.gguf", synthetic_params(SMALL, 0, bfloat16=True), change=change)
    layer = load(str(tmp_path / "small.gguf")).params.layers[1]
    assert layer.q_norm.dtype == np.float64  # w = 2^-30 - 1 has no float32
    np.testing.assert_array_equal(layer.q_norm + 1, stored)
    assert layer.k_norm.dtype == np.float32


def test_quantised_norms_stay_vectors(tmp_path, small):
    from gguf import GGMLQuantizationType, GGUFReader, quantize

    gain = np.linspace(-1, 3, 64, dtype=np.float32)
    save_gguf(tmp_path / "small.gguf", small, change=lambda t: t.update({"output_norm.weight": gain}))
    path = tmp_path / "small.gguf"
    tensor = next(t for t in GGUFReader(path).tensors if t.name == "output_norm.weight")
    data = bytearray(path.read_bytes())
    blocks = quantize(gain, GGMLQuantizationType.Q8_0).tobytes()
    data[tensor.data_offset : tensor.data_offset + len(blocks)] = blocks
    place = bytes(data).index(b"output_norm.weight") + len(b"output_norm.weight") + 4 + 8
    data[place : place + 4] = (8).to_bytes(4, "little")
    path.write_bytes(data)
    norm = load(str(path)).params.final_norm
    assert norm.shape == (64,)
    np.testing.assert_allclose(norm + 1, gain, atol=0.02)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.pop("token_embd.weight"), "tensor token_embd.weight: wanted an embedding, got none among 92"),
        (lambda t: t.pop("blk.3.ffn_gate.weight"), "tensor blk.3.ffn_gate.weight: wanted shape .* no such tensor"),
        (lambda t: t.update({"blk.0.more.weight": t["token_embd.weight"]}), "1 unknown, first blk.0.more.weight"),
        (
            lambda t: t.update({"blk.0.attn_q.weight": np.zeros((64, 96), np.float32)}),
            r"blk.0.attn_q.weight: wanted shape \[96, 64\], got \[64, 96\] \(transposed\?\)",
        ),
        (
            lambda t: t.update({"blk.0.attn_q.weight": np.zeros((96, 64), np.int32)}),
            "type of tensor blk.0.attn_q.weight: wanted .*, got I32",
        ),
    ],
    ids=["embedding", "missing", "unknown", "transposed", "integers"],
)
def test_gguf_tensors_that_do_not_fit_are_refused_by_name(tmp_path, small, change, says):
    save_gguf(tmp_path / "small.gguf", small, change=change)
    with pytest.raises(BadInput, match=says):
        load(str(tmp_path / "small.gguf"))
