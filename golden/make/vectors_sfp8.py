"""Vectors of SFP8, gemma.cpp's switching floating point: codes, and values through it and back."""

import json
from pathlib import Path

import numpy as np
from vectors_form import flag, mistakes, vector

JAX_FILE = json.loads((Path(__file__).parent / "jax_quant.json").read_text())  # written by jax_quant.py
SFP_FILE = json.loads((Path(__file__).parent / "sfp8.json").read_text())  # written by gemma_cpp.py
GEMMA = f"google-deepmind/gemma {JAX_FILE['gemma']}"
GEMMA_CPP = f"gemma.cpp {SFP_FILE['gemma.cpp'][:7]}"
VALUES = {"atol": 0.0, "rtol": 0.0, "basis": "exact: float32"}
# pairs that gemma.cpp's own test has: input, output
PAIRS = [
    (0.46875, 0.46875), (0.484375, 0.5), (0.28125, 0.28125), (0.296875, 0.3125), (0.279296875, 0.28125),
    (0.265625, 0.25), (0.0068359375, 0.0068359375), (0.007568359375, 0.0078125), (1.0625, 1.0),
    (1.4901161193847656e-07, 1.4901161193847656e-07), (5.960464477539063e-08, 0.0), (0.9375, 0.9375),
    (1.1175870895385742e-07, 1.4901161193847656e-07), (0.96875, 1.0), (0.5625, 0.5625), (0.59375, 0.625),
    (0.55859375, 0.5625), (0.53125, 0.5), (0.00732421875, 0.0078125), (1.0, 1.0), (2.384185791015625e-07,) * 2,
    (1.1920928955078125e-07, 1.4901161193847656e-07), (8.940696716308594e-08, 0.0), (0.013841, 0.013671875),
]  # fmt: skip


def _sfp8_value(code, bias=0, switched=True):
    c = code & 0x7F
    if c == 0:
        return 0.0
    if c >= 64 or not switched:
        size = 2.0 ** ((c - 64) // 8 - 7 - bias) * (1 + (c - 64) % 8 / 8)
    else:
        size = 2.0 ** (c // 4 - 23) * (1 + c % 4 / 4)
    return -size if code & 0x80 else size


def sfp8_codes():
    codes = [[c for c in range(128)], [128 + c if c else 0 for c in range(128)]]
    truth = [[SFP_FILE["values"][code] for code in row] for row in codes]
    assert truth == [[_sfp8_value(code) for code in row] for row in codes]
    inputs = {"format": "SFP8", "codes": codes, "scale": [1.0, 1.0]}
    wrong = [
        ("sfp8_bias", "large codes halved", [[_sfp8_value(c, bias=int(c & 64 > 0)) for c in row] for row in codes]),
        (
            "sfp8_not_switched",
            "three bits of mantissa throughout",
            [[_sfp8_value(c, switched=False) for c in r] for r in codes],
        ),
    ]
    right = vector("SFP8: every code that is written", inputs, truth, source=GEMMA_CPP, tolerance=VALUES)
    return [right, *mistakes(inputs, truth, wrong, source=GEMMA_CPP, tolerance=VALUES)]


def switching_float():
    """Return vectors through SFP8 and back: values that are rounded to the nearest code."""
    x = np.array([[pair[0] for pair in PAIRS], [-pair[0] for pair in PAIRS]])
    truth = np.array([[pair[1] for pair in PAIRS], [-pair[1] for pair in PAIRS]])
    scaled = [
        vector(
            f"scaled to 1.875: {row['comment']}",
            {"weight": row["weight"], "scaled": 1},
            row["sfp8"],
            source=GEMMA,
            tolerance=VALUES,
        )
        for row in JAX_FILE["rows"][:3]
    ]  # of tiny values, in the last, gemma's float32 logarithms show
    rounded = [
        vector(
            row["comment"],
            {"weight": [row["x"]], "scaled": 0},
            [[SFP_FILE["values"][code] for code in row["codes"]]],
            source=GEMMA_CPP,
            tolerance=VALUES,
        )
        for row in SFP_FILE["rows"]
    ]
    inputs = {"weight": np.float32(x).astype(float).tolist(), "scaled": 0}
    away = truth.copy()
    away[:, [5, 8, 17]] = [[0.28125, 1.125, 0.5625], [-0.28125, -1.125, -0.5625]]
    tiny = [pair for pair in PAIRS if pair[0] < 2e-7]
    smallest = {"weight": [[float(np.float32(pair[0])) for pair in tiny]], "scaled": 0}
    kept, lost = [[pair[1] for pair in tiny]], [[pair[1] if pair[0] > 1.3e-7 else 0.0 for pair in tiny]]
    return {
        "description": "What SFP8 leaves of values: 3 bits of mantissa from 1.9375 * 2^-8 on, 2 below, half to even; "
        "under 1.875 * 2^-24 nothing, from there to 1.25 * 2^-23 that. Scaled: each row is multiplied by s = 1.875 / "
        "max first, and divided by it at the end, in float32.",
        "axes": {"weight": "O I", "expected": "O I"},
        "flags": {
            "sfp8_smallest_lost": flag(
                "wrong boundary", "2^-23 would be code 0; it becomes 1.25 * 2^-23.", "Tiny weights lost."
            ),
            "sfp8_half_away": flag("wrong rounding", "Half to even.", "One step at ties."),
        },
        "vectors": [
            vector(
                "the pairs of gemma.cpp's own test, with both signs",
                inputs,
                truth.tolist(),
                source=GEMMA_CPP,
                tolerance=VALUES,
            ),
            vector("its smallest", smallest, kept, source=GEMMA_CPP, tolerance=VALUES),
            *rounded,
            *scaled,
            *mistakes(
                inputs,
                truth.tolist(),
                [("sfp8_half_away", "halves away from zero", away.tolist())],
                source=GEMMA_CPP,
                tolerance=VALUES,
            ),
            *mistakes(
                smallest, kept, [("sfp8_smallest_lost", "2^-23 becomes 0", lost)], source=GEMMA_CPP, tolerance=VALUES
            ),
        ],
    }
