"""Makers of small GGUF and safetensors files, sound and broken, byte by byte."""

import json
import struct

STRING, ARRAY, U32, F32, I32, BOOL = 8, 9, 4, 6, 5, 7


def text(value):
    value = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(value)) + value


def pair(key, kind, payload):
    return text(key) + struct.pack("<I", kind) + payload


def number(key, value):
    return pair(key, U32, struct.pack("<I", value))


def array(key, kind, count, payload):
    return pair(key, ARRAY, struct.pack("<IQ", kind, count) + payload)


def tensor(name, sizes=(8,), kind=0, offset=0, rank=None):
    rank = len(sizes) if rank is None else rank
    return text(name) + struct.pack(f"<I{len(sizes)}QIQ", rank, *sizes, kind, offset)


VOCABULARY = (
    array("tokenizer.ggml.tokens", STRING, 3, text("<pad>") + text("▁a") + text(b"\xff\xfe")),
    array("tokenizer.ggml.scores", F32, 3, struct.pack("<3f", -1000, -1.5, 0)),
    array("tokenizer.ggml.token_type", I32, 3, struct.pack("<3i", 3, 1, 6)),
)
PAIRS = (
    pair("general.architecture", STRING, text("gemma3")),
    pair("general.sound", BOOL, b"\x01"),
    array("general.tags", STRING, 2, text("a") + text("b")),
    *VOCABULARY,
)
TENSORS = (tensor("a", (4, 2)), tensor("b", (32, 3), 8, 32))  # F32, then Q8_0
DATA = bytes(range(32)) + bytes(range(102))


def gguf_bytes(pairs=PAIRS, tensors=TENSORS, data=DATA, magic=b"GGUF", version=3, counts=None, alignment=32):
    tensor_count, pair_count = counts or (len(tensors), len(pairs))
    head = magic + struct.pack("<IQQ", version, tensor_count, pair_count) + b"".join(pairs) + b"".join(tensors)
    return head + bytes(-len(head) % alignment) + data


# name -> (file, what its refusal must say)
BROKEN_GGUF = {
    "magic": (gguf_bytes(magic=b"GGML"), "magic: wanted GGUF"),
    "version": (gguf_bytes(version=99), "version: wanted 2 or 3.*got 99"),
    "version 1": (gguf_bytes(version=1), "version: .*got 1"),
    "big-endian": (gguf_bytes(version=3 << 24), "got a big-endian file"),
    "tensor count": (gguf_bytes(counts=(2**40, 1)), "number of tensors: wanted at most"),
    "pair count": (gguf_bytes(counts=(1, 2**40)), "number of metadata pairs: wanted at most"),
    "key length": (
        gguf_bytes([struct.pack("<Q", 2**60) + b"key"]),
        "bytes in metadata key 0.*got 1152921504606846976",
    ),
    "key not UTF-8": (gguf_bytes([pair(b"\xff", U32, bytes(4))]), "metadata key 0: wanted UTF-8"),
    "value type": (gguf_bytes([pair("k", 13, bytes(8))]), "type of metadata 'k': wanted 0 to 12, got 13"),
    "string value": (gguf_bytes([pair("k", STRING, struct.pack("<Q", 2**62))]), "bytes in metadata 'k'"),
    "string value not UTF-8": (gguf_bytes([pair("k", STRING, text(b"\xc3"))]), "metadata 'k': wanted UTF-8"),
    "boolean": (gguf_bytes([pair("k", BOOL, b"\x02")]), "metadata 'k': wanted a boolean, 0 or 1, got 2"),
    "element type": (gguf_bytes([array("k", 77, 1, bytes(8))]), "element type of metadata 'k'.*got 77"),
    "nested array": (gguf_bytes([array("k", ARRAY, 1, bytes(32))]), "element type of metadata 'k'.*got 9"),
    "array length": (gguf_bytes([array("k", F32, 2**50, bytes(8))]), "number of elements of metadata 'k'"),
    "long strings": (
        gguf_bytes([array("tokenizer.k", STRING, 2, text("a") + struct.pack("<Q", 2**63))]),
        "'tokenizer.k'",
    ),
    "key twice": (
        gguf_bytes([number("k", 1), number("k", 1)]),
        "metadata key 1: wanted a key not used before, got 'k'",
    ),
    "newline in a key": (gguf_bytes([pair("a\nb", BOOL, b"\x07")]), r"metadata 'a\\nb'"),
    "alignment 0": (gguf_bytes([number("general.alignment", 0)]), "general.alignment: .*got 0"),
    "alignment 3": (gguf_bytes([number("general.alignment", 3)]), "general.alignment: .*got 3"),
    "alignment 24": (gguf_bytes([number("general.alignment", 24)]), "general.alignment: .*got 24"),
    "alignment 2^31": (
        gguf_bytes([number("general.alignment", 2**31)]),
        "general.alignment: .*got 2147483648",
    ),
    "alignment text": (gguf_bytes([pair("general.alignment", STRING, text("32"))]), "general.alignment"),
    "alignment true": (
        gguf_bytes([pair("general.alignment", BOOL, b"\x01")]),
        "general.alignment: .*got True",
    ),
    "name length": (gguf_bytes(tensors=[struct.pack("<Q", 2**60) + bytes(40)]), "bytes in name of tensor 0"),
    "name twice": (gguf_bytes(tensors=[tensor("a"), tensor("a", offset=32)]), "name of tensor 1.*got 'a'"),
    "no dimension": (gguf_bytes(tensors=[tensor("a", ())]), "dimensions of tensor 'a': wanted 1 to 4, got 0"),
    "dimensions": (gguf_bytes(tensors=[tensor("a", (1, 1, 1, 1, 1))]), "dimensions of tensor 'a'.*got 5"),
    "dimensions 2^32-1": (gguf_bytes(tensors=[tensor("a", rank=2**32 - 1)]), "dimensions of tensor 'a'"),
    "size 0": (gguf_bytes(tensors=[tensor("a", (0,))]), "shape of tensor 'a'"),
    "size 2^62": (gguf_bytes(tensors=[tensor("a", (2**62,))]), "tensor 'a': wanted data within"),
    "product": (gguf_bytes(tensors=[tensor("a", (2**33, 2**33))]), "tensor 'a': wanted data within"),
    "tensor type": (gguf_bytes(tensors=[tensor("a", kind=999)]), "type of tensor 'a'.*got 999"),
    "row length": (
        gguf_bytes(tensors=[tensor("a", (33,), 8)]),
        "row length of tensor 'a': wanted a multiple of 32.*33",
    ),
    "misaligned": (
        gguf_bytes(tensors=[tensor("a", offset=8)]),
        "offset of tensor 'a': wanted a multiple of 32, got 8",
    ),
    "beyond the file": (gguf_bytes(tensors=[tensor("a", offset=2**63)]), "tensor 'a': wanted data within"),
    "overlap": (
        gguf_bytes(tensors=[tensor("a", (16,)), tensor("b", offset=32)]),
        "tensor 'b': .*overlapping none",
    ),
    "same place": (gguf_bytes(tensors=[tensor("a"), tensor("b")]), "overlapping none"),
    "empty": (b"", "wanted content, got 0 bytes"),
    "magic only": (b"GGUF", "version: wanted 4 bytes from offset 4 on, got a file that ends at 4"),
}


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def safetensors_bytes(header, data=bytes(8), length=None):
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(head) if length is None else length) + head + data


TWICE = b'{"a": %s, "a": %s}' % (json.dumps(entry()).encode(), json.dumps(entry()).encode())
BROKEN_SAFETENSORS = {
    "empty": (b"", "wanted content, got 0 bytes"),
    "seven bytes": (bytes(7), "header length: wanted 8 bytes"),
    "length beyond file": (safetensors_bytes({}, b"", 99), "header length: wanted at most 2, got 99"),
    "length 2^63": (safetensors_bytes({}, b"", 2**63), "header length"),
    "no header": (safetensors_bytes(b"", b""), "header: wanted a JSON object"),
    "not UTF-8": (safetensors_bytes(b'{"\xff": 1}'), "header: wanted JSON in UTF-8"),
    "not JSON": (safetensors_bytes(b"{a: 1}"), "header: wanted JSON"),
    "list": (safetensors_bytes(b"[]"), "header: wanted a JSON object"),
    "leading space": (safetensors_bytes(b" {}"), "header: wanted a JSON object"),
    "deep": (safetensors_bytes(b'{"a":' + b"[" * 200_000), "header: wanted JSON"),
    "integer of 5000 digits": (safetensors_bytes(b'{"a":' + b"9" * 5000 + b"}"), "header: wanted JSON"),
    "name twice": (safetensors_bytes(TWICE), "every key once, got 'a' twice"),
    "field twice": (safetensors_bytes(b'{"a": {"dtype": "F32", "dtype": "F16"}}'), "got 'dtype' twice"),
    "entry": (safetensors_bytes({"a": 3}), "tensor 'a': wanted an object"),
    "field missing": (
        safetensors_bytes({"a": {"dtype": "F32", "shape": [2]}}),
        "tensor 'a': wanted an object",
    ),
    "field unknown": (safetensors_bytes({"a": entry() | {"x": 1}}), "tensor 'a': wanted an object"),
    "dtype": (safetensors_bytes({"a": entry("F4")}), "dtype of tensor 'a': wanted F64 F32.*got 'F4'"),
    "dtype list": (safetensors_bytes({"a": entry([])}), "dtype of tensor 'a'"),
    "negative": (safetensors_bytes({"a": entry(shape=(-1, -2))}), "shape of tensor 'a'"),
    "float": (safetensors_bytes({"a": entry(shape=(2.0,))}), "shape of tensor 'a'"),
    "bool": (safetensors_bytes({"a": entry(shape=(2, True))}), "shape of tensor 'a'"),
    "NaN": (
        safetensors_bytes(b'{"a": {"dtype": "F32", "shape": [NaN], "data_offsets": [0, 8]}}'),
        "header: wanted finite numbers, got NaN",
    ),
    "shape object": (safetensors_bytes({"a": entry() | {"shape": {}}}), "shape of tensor 'a'"),
    "product": (
        safetensors_bytes({"a": entry(shape=(2**33, 2**33))}),
        "shape of tensor 'a': wanted a product",
    ),
    "empty product": (
        safetensors_bytes({"a": entry(shape=(0, 2**62), offsets=(0, 0))}),
        "shape of tensor 'a'",
    ),
    "axes": (safetensors_bytes({"a": entry(shape=[1] * 40)}), "shape of tensor 'a': .*at most 32"),
    "reversed": (safetensors_bytes({"a": entry(offsets=(8, 0))}), "data_offsets of tensor 'a'"),
    "three offsets": (safetensors_bytes({"a": entry(offsets=(0, 8, 8))}), "data_offsets of tensor 'a'"),
    "offsets true": (safetensors_bytes({"a": entry("U8", (1,), (0, True))}), "data_offsets of tensor 'a'"),
    "size": (
        safetensors_bytes({"a": entry(offsets=(0, 7))}),
        r"data_offsets of tensor 'a': wanted \[begin, begin \+ 8\]",
    ),
    "hole": (
        safetensors_bytes({"a": entry(offsets=(4, 12))}, bytes(12)),
        "begin of tensor 'a': wanted 0, no hole",
    ),
    "overlap": (
        safetensors_bytes({"a": entry(), "b": entry(offsets=(4, 12))}, bytes(12)),
        "begin of tensor 'b'",
    ),
    "empty tensor inside": (
        safetensors_bytes({"a": entry(), "b": entry(shape=(0,), offsets=(4, 4))}),
        "begin of tensor",
    ),
    "trailing bytes": (safetensors_bytes({"a": entry()}, bytes(9)), "data: wanted 8 bytes.*got 9"),
    "truncated": (safetensors_bytes({"a": entry()}, bytes(7)), "data: wanted 8 bytes.*got 7"),
    "metadata": (
        safetensors_bytes({"__metadata__": {"a": 1}}, b""),
        "__metadata__: wanted an object of strings",
    ),
    "metadata list": (safetensors_bytes({"__metadata__": []}, b""), "__metadata__"),
    "newline in a name": (safetensors_bytes({"a\nb": 3}), r"tensor 'a\\nb'"),
}
