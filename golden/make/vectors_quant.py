"""Vectors of the formats of few bits: codes that weights become, and values that codes stand for."""

from importlib.metadata import version

import gguf
import numpy as np
from vectors_form import flag, mistakes, vector
from vectors_sfp8 import GEMMA, GEMMA_CPP, JAX_FILE, SFP_FILE, VALUES, sfp8_codes

GGUF = f"gguf {version('gguf')}"
LEGEND = {"Q": "bytes of a row"}
SOURCES = {
    GGUF: {"kind": "witness", "version": version("gguf"), "link": "https://github.com/ggml-org/llama.cpp"},
    GEMMA: {
        "kind": "witness",
        "version": f"{JAX_FILE['gemma']}, jax {JAX_FILE['jax']}",
        "link": "https://github.com/google-deepmind/gemma",
    },
    GEMMA_CPP: {
        "kind": "witness",
        "version": f"commit {SFP_FILE['gemma.cpp'][:7]}, the scalar functions of `compression/sfp_test.cc`",
        "link": "https://github.com/google/gemma.cpp",
    },
}
CODES = {"atol": 0.0, "rtol": 0.0, "basis": "exact: codes"}


def _weights():
    return [(row["comment"], np.array(row["weight"], np.float32)) for row in JAX_FILE["rows"]]


def _gguf_codes(weight, kind):
    return gguf.quants.quantize(weight, gguf.GGMLQuantizationType[kind])


def _packed(codes):
    """Put the codes of columns 2 j and 2 j + 1 into the low and high half of byte j."""
    codes = np.array(codes) + 8
    return codes[:, 0::2] | codes[:, 1::2] << 4


def _q4_0_wrong(weight, change):
    """Quantise by a loop that is easy to read, with one thing changed."""
    out = []
    for block in weight.reshape(-1, 32):
        most = block[np.abs(block).argmax()]
        d = np.float32((abs(most) if change == "q4_0_magnitude" else most) / np.float32(-8))
        inverse = np.float32(0) if d == 0 else np.float32(1) / d
        turned = block * inverse + np.float32(8 if change == "Truncated" else 8.5)
        q = np.clip(np.trunc(turned), 0, 15).astype(np.uint8)
        pairs = q[0::2] | q[1::2] << 4 if change == "q4_0_nibbles_in_pairs" else q[:16] | q[16:] << 4
        out.append(np.concatenate([np.array([d], "<f2").view(np.uint8), pairs]))
    return np.stack(out).reshape(len(weight), -1)


def _int4_wrong(weight, change):
    bound, axis = (8 if change == "int4_of_8" else 7), (0 if change == "int4_wrong_axis" else 1)
    x = weight * (np.float32(bound) * (np.float32(1) / np.abs(weight).max(axis=axis, keepdims=True)))
    turned = np.copysign(np.floor(np.abs(x) + 0.5), x) if change == "int4_half_away" else np.rint(x)
    return _packed(np.clip(turned, -8, 7).astype(int))


def _wrong_codes(kind, weight, truth, quantise_wrongly, changes, source):
    """Vectors of (flag, comment): a quantiser that without a change is right, with one of them."""
    assert quantise_wrongly(weight, "").tolist() == truth
    rows = [(change, comment, quantise_wrongly(weight, change).tolist()) for change, comment in changes]
    return mistakes({"format": kind, "weight": weight.tolist()}, truth, rows, source=source, tolerance=CODES)


def quantise():
    """Return vectors from weights to codes."""
    vectors = []
    for comment, weight in _weights():
        for kind in ("Q4_0", "Q8_0"):
            inputs = {"format": kind, "weight": weight.tolist()}
            codes = _gguf_codes(weight, kind).tolist()
            vectors.append(vector(f"{kind}: {comment}", inputs, codes, source=GGUF, tolerance=CODES))
    for row in JAX_FILE["rows"]:
        inputs = {"format": "INT4", "weight": row["weight"]}
        codes = _packed(row["int4_codes"]).tolist()
        vectors.append(vector(f"INT4: {row['comment']}", inputs, codes, source=GEMMA, tolerance=CODES))
    weight = _weights()[1][1]
    truth = _gguf_codes(weight, "Q4_0").tolist()
    changes = [
        ("q4_0_nibbles_in_pairs", "neighbours share a byte"),
        ("q4_0_magnitude", "d of the largest magnitude without its sign"),
        ("Truncated", "cut off, not rounded"),
    ]
    vectors += _wrong_codes("Q4_0", weight, truth, _q4_0_wrong, changes, GGUF)
    truth = _packed(JAX_FILE["rows"][1]["int4_codes"]).tolist()
    changes = [
        ("int4_of_8", "8 / max, clipped at 7"),
        ("int4_wrong_axis", "a scale an input"),
        ("int4_half_away", "halves away from zero"),
    ]
    vectors += _wrong_codes("INT4", weight, truth, _int4_wrong, changes, GEMMA)
    return {
        "description": "Codes of a matrix, as bytes. Q4_0 and Q8_0: blocks of 32, a little-endian float16 scale first, "
        "then 16 bytes (value j in the low half of byte j, 16 + j in the high one) or 32 signed bytes. INT4: q = "
        "clip(round(x s), -8, 7) half to even, s = 7 / max of the row; byte j holds q + 8 of columns 2 j (low) and "
        "2 j + 1.",
        "axes": {"weight": "O I", "expected": "O Q"},
        "flags": {
            "q4_0_nibbles_in_pairs": flag("wrong layout", "Value 16 + j is the upper half of byte j.", "Noise."),
            "q4_0_magnitude": flag(
                "wrong sign", "d is the signed largest value over -8.", "Half of the blocks one step off."
            ),
            "Truncated": flag("wrong rounding", "8.5 is added before cutting off.", "Values drift by half a step."),
            "int4_of_8": flag("wrong constant", "7 / max.", "The largest values are clipped."),
            "int4_wrong_axis": flag("wrong axis", "A channel is an output.", "Codes of another scale."),
            "int4_half_away": flag("wrong rounding", "Half to even.", "One step at ties."),
        },
        "vectors": vectors,
    }


def _dequantised(codes, kind):
    return gguf.quants.dequantize(np.array(codes, np.uint8), gguf.GGMLQuantizationType[kind]).astype(float).tolist()


def dequantise():
    """Return vectors from codes to values."""
    vectors = []
    weight = _weights()[0][1]
    for kind in ("Q4_0", "Q8_0"):
        codes = _gguf_codes(weight, kind).tolist()
        inputs = {"format": kind, "codes": codes, "scale": [1.0] * len(codes)}
        truth = _dequantised(codes, kind)
        vectors.append(vector(kind, inputs, truth, source=GGUF, tolerance=VALUES))
        if kind == "Q4_0":
            blocks = np.array(truth).reshape(-1, 32)
            paired = np.stack([blocks[:, :16], blocks[:, 16:]], axis=2).reshape(weight.shape).tolist()
            d = np.array(codes, np.uint8).reshape(-1, 18)[:, :2].copy().view("<f2").astype(float)
            shifted = (blocks + 8 * d).reshape(weight.shape).tolist()
            rows = [("q4_0_nibbles_in_pairs", "low and high half are neighbours", paired),
                    ("q4_0_offset_missing", "d * q", shifted)]  # fmt: skip
            vectors += mistakes(inputs, truth, rows, source=GGUF, tolerance=VALUES)
    row = JAX_FILE["rows"][0]
    inputs = {"format": "INT4", "codes": _packed(row["int4_codes"]).tolist(), "scale": row["int4_scale"]}
    vectors.append(vector("INT4", inputs, row["int4"], source=GEMMA, tolerance=VALUES))
    vectors += sfp8_codes()
    return {
        "description": "Values of codes. Q4_0: d (q - 8); Q8_0: d q; INT4: (q - 8) / scale; SFP8: c the lower 7 bits, "
        "2^E (1 + m / 8) with c - 64 = 8 (E + 7) + m from 64 on, below 2^E (1 + m / 4) with c = 4 (E + 23) + m, 0 for "
        "0, bit 7 the sign; then / scale.",
        "axes": {"codes": "O Q", "scale": "O", "expected": "O I"},
        "flags": {
            "q4_0_nibbles_in_pairs": flag("wrong layout", "Value 16 + j is the upper half of byte j.", "Noise."),
            "q4_0_offset_missing": flag("missing step", "8 is taken off.", "All weights of one sign."),
            "sfp8_bias": flag("wrong constant", "Code 64 is 2^-7.", "Large weights halved."),
            "sfp8_not_switched": flag("missing step", "Two bits of mantissa below code 64.", "Small weights wrong."),
        },
        "vectors": vectors,
    }
