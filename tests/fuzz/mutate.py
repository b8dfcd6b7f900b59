"""Damage: to JSON by its structure, to bytes by what formats are made of; all drawn from one random source."""

import copy
import json
import math
import struct
from random import Random
from typing import Any

INTEGERS = [0, 1, -1, 2, 3, 7, 255, 256, 2**15, 2**16, 2**31 - 1, 2**31, 2**32, 2**40, 2**53, 2**60, 2**62, 2**63 - 1]
INTEGERS += [2**63, 2**64, 2**70, -(2**31), -(2**63), 10**30, 10**400]
FLOATS = [0.0, 1.0, 2.0, -0.0, 0.5, 1e-300, 1e300, 1e308, -1.0, 3.0, 16.0]
TEXTS = ["\x1b[31mred", "\x9b31m", "", " ", "a", "\0", "\n", "../x", "/etc/passwd", "..", ".", "C:\\x", "x" * 300]
TEXTS += ["x" * 5000, "\u202e", "\ufffd", "<script>", "'\"&<>", "text.embed", "B T D", "((", "B T (N H", "B " * 200]
TEXTS += ["1 1 1", "2", "é", "float32", "bfloat16", "float64", "int64", "bool", "transformers", "%s%n{}", "{i}"]
TEXTS += ["text.layer.99999.in", "text.layer.-1.in", "text.layer.٣.in", "text.layer.1e3.in", "pass0000.safetensors"]
LENGTHS = [0, 1, 7, 1000, 2**31, 2**32 - 1, 2**62, 2**63, 2**64 - 1]


def junk(r: Random, depth: int = 0) -> Any:
    """Draw any JSON value."""
    kind = r.randrange(9)
    if kind < 2:
        return [None, r.random() < 0.5][kind]
    if kind < 6:
        return r.choice([INTEGERS, FLOATS, TEXTS, TEXTS][kind - 2])
    if depth == 3 or kind == 8:
        return r.randrange(-5, 200)
    some = [junk(r, depth + 1) for _ in range(r.randrange(4))]
    return some if kind == 6 else {r.choice(TEXTS): one for one in some}


def near(r: Random, value: Any) -> Any:
    """Draw a value like another: off by one, of another type, longer, without a part."""
    if isinstance(value, bool) or value is None:
        return r.choice([not value, junk(r)])
    if isinstance(value, int):
        small = abs(value) < 2**60
        return r.choice([value + 1, value - 1, value * 2, -value, float(value) if small else 0.0, str(value)[:40],
                         r.choice(INTEGERS), bool(value), [value]])  # fmt: skip
    if isinstance(value, float):
        return r.choice([-value, value * 2, 0.0, int(value) if math.isfinite(value) else 0, r.choice(FLOATS)])
    if isinstance(value, str):
        return r.choice([value + "x", value.upper(), value[:-1], value[::-1], " " + value, value.replace(" ", "  "),
                         value + "\n", value + "\0", value[:100] * 50, r.choice(TEXTS)])  # fmt: skip
    return _near_list(r, value) if isinstance(value, list) else _near_object(r, value)


def _near_list(r: Random, value: list) -> list:
    kind = r.randrange(5)
    if kind == 0 or not value:
        return value[:-1]
    if kind == 1:
        return value + value
    if kind == 2:
        return [*value, junk(r)]
    if kind == 3:
        return r.sample(value, len(value))
    place = r.randrange(len(value))
    return [*value[:place], junk(r), *value[place + 1 :]]


def _near_object(r: Random, value: dict) -> dict:
    out, kind, keys = dict(value), r.randrange(3), list(value)
    if kind == 0 and keys:
        out.pop(r.choice(keys))
    elif kind == 1 or len(keys) < 2:
        out[r.choice(TEXTS)] = junk(r)
    else:
        a, b = r.sample(keys, 2)
        out[a], out[b] = out[b], out[a]
    return out


def mutate_json(r: Random, value: Any) -> Any:
    """Draw one to three changes somewhere in a value."""
    value = copy.deepcopy(value)
    for _ in range(r.choice([1, 1, 1, 2, 3])):
        places = [place for place in _places(value) if place]
        if not places:
            return junk(r)
        *path, last = r.choice(places)
        parent = value
        for step in path:
            parent = parent[step]
        if isinstance(parent, dict) and r.random() < 0.1:
            parent.pop(last)
        else:
            parent[last] = junk(r) if r.random() < 0.2 else near(r, parent[last])
    return value


def _places(value: Any, path: tuple = ()):
    yield path
    if isinstance(value, dict):
        for key in value:
            yield from _places(value[key], (*path, key))
    elif isinstance(value, list):
        for i in range(min(len(value), 6)):
            yield from _places(value[i], (*path, i))


def json_bytes(r: Random, value: Any) -> bytes:
    """Write JSON, now and then with what the format or its parsers know besides."""
    text, kind = json.dumps(value), r.random()
    if kind < 0.01:
        text = text.replace("0", r.choice(["NaN", "-Infinity", "1e999", "9" * 5000, "0" * 20]), 1)
    elif kind < 0.02:
        text = r.choice(["[", '{"a":']) * r.choice([10, 1000, 20_000]) + text
    elif kind < 0.03:
        text = text.replace('"', '"ids": [1], "ids": [1], "', 1)
    elif kind < 0.04:
        text = "\ufeff" + text
    return text.encode("utf-8", "surrogatepass")


def mutate_bytes(r: Random, data: bytes, first: int | None = None) -> bytes:
    """Draw changes of bytes, of numbers of eight bytes, and cuts.

    Args:
        r: random source.
        data: what is changed.
        first: bytes from the start in which changes lie; None is all.
    """
    out = bytearray(data)
    for _ in range(r.choice([1, 1, 2, 4, 16])):
        out = out or bytearray(1)
        kind, place = r.randrange(8), r.randrange(min(len(out), first or len(out)))
        if kind < 3:
            out[place] = r.randrange(256)
        elif kind == 3:
            out[place] ^= 1 << r.randrange(8)
        elif kind == 4:
            del out[place : place + r.choice([1, 2, 8, 100])]
        elif kind == 5:
            out[place:place] = r.randbytes(r.choice([1, 4, 8]))
        elif kind == 6:
            out[place : place + 8] = struct.pack("<Q", r.choice(LENGTHS))
        else:
            out = out[:place] if r.random() < 0.5 else out + out[place:]
    return bytes(out)
