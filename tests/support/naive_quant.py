"""Formats of few bits by loops over single numbers, to read beside the encoders; nothing of `ref/` is imported.

float32 is `numpy.float32` scalars, since each step's rounding is part of the format.
"""

import math
import struct

import numpy as np

F = np.float32


def half(x):
    """Return the two bytes of a float16."""
    return list(struct.pack("<e", float(np.float16(x))))


def away(x):
    """Round half away from zero."""
    return int(math.copysign(math.floor(abs(float(x)) + 0.5), float(x)))


def block_of_4(block):
    """Return the 18 bytes of a Q4_0 block."""
    most = F(0)
    for x in map(F, block):
        if abs(x) > abs(most):
            most = x
    d = most / F(-8)
    inverse = F(1) / d if d else F(0)
    q = [min(15, int(F(x) * inverse + F(8.5))) for x in block]
    return half(d) + [q[j] + 16 * q[16 + j] for j in range(16)]


def block_of_8(block):
    """Return the 34 bytes of a Q8_0 block."""
    d = max(abs(F(x)) for x in block) / F(127)
    inverse = F(1) / d if d else F(0)
    return half(d) + [away(F(x) * inverse) % 256 for x in block]


def row_of_int4(row):
    """Return the bytes of a channel of int4."""
    scale = F(7) * (F(1) / max(abs(F(x)) for x in row))
    q = [int(max(-8, min(7, round(float(F(x) * scale))))) + 8 for x in row]
    return [q[j] + 16 * q[j + 1] for j in range(0, len(q), 2)]


def codes(weight, kind):
    """Quantise each row."""
    if kind == "INT4":
        return [row_of_int4(row) for row in weight]
    block = {"Q4_0": block_of_4, "Q8_0": block_of_8}[kind]
    return [[byte for i in range(0, len(row), 32) for byte in block(row[i : i + 32])] for row in weight]


def sfp8_value(code):
    """Return what a switching floating-point code stands for."""
    c = code % 128
    if c >= 64:
        size = (1 + c % 8 / 8) * 2.0 ** ((c - 64) // 8 - 7)
    else:
        size = (1 + c % 4 / 4) * 2.0 ** (c // 4 - 23) if c else 0.0
    return -size if code >= 128 else size


SFP8 = [sfp8_value(c) for c in range(128)]


def to_sfp8(x):
    """Return the nearest switching floating-point value; of two, the one with an even mantissa."""
    size = abs(float(x))
    if size < 1.875 * 2.0**-24:
        return 0.0
    near = min(abs(value - size) for value in SFP8[1:])
    best = [c for c in range(1, 128) if abs(SFP8[c] - size) == near]
    # the even code has the even mantissa; 2^-23, which would be code 0, is not there
    code = next((c for c in best if c % 2 == 0), best[0])
    return math.copysign(SFP8[code], float(x))


def through_sfp8(row, scaled):
    """Return a row after SFP8."""
    if not scaled:
        return [to_sfp8(x) for x in row]
    scale = F(1.875) / max(abs(F(x)) for x in row)
    return [float(F(to_sfp8(min(F(1.875), max(F(-1.875), F(x) * scale)))) / scale) for x in row]


def values(rows, kind, scale):
    """Read codes back."""
    out = []
    for row, s in zip(rows, scale, strict=True):
        if kind == "INT4":
            out.append([float(F(q - 8) / F(s)) for byte in row for q in (byte % 16, byte // 16)])
        elif kind == "SFP8":
            out.append([float(F(sfp8_value(code)) / F(s)) for code in row])
        else:
            out.append([x for i in range(0, len(row), _size(kind)) for x in _block(row[i : i + _size(kind)], kind)])
    return out


def _size(kind):
    return {"Q4_0": 18, "Q8_0": 34}[kind]


def _block(block, kind):
    d = F(struct.unpack("<e", bytes(block[:2]))[0])
    if kind == "Q8_0":
        return [float(d * F(q - 256 if q > 127 else q)) for q in block[2:]]
    return [float(d * F(q - 8)) for q in [*(b % 16 for b in block[2:]), *(b // 16 for b in block[2:])]]
