"""Tokenizer: control strings, streaming on a tiny model; the real one against tokenizer.json."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor
from support.tiny_tokenizer import NAMES, refused

from ref.errors import BadInput
from ref.prompt.rebuild import rebuild_model
from ref.prompt.tokenizer import Tokenizer, check_text
from ref.weights.gguf import open_gguf
from ref.weights.package import package_file

TOKENS = Path(__file__).parents[2] / "golden/tokens"
GOLDEN = json.loads((TOKENS / "ids.json").read_text(encoding="utf-8"))
TABLE = json.loads((TOKENS / "table.json").read_text(encoding="utf-8"))["cases"]


@pytest.fixture(scope="module")
def tiny(model):
    return Tokenizer(model)


@pytest.fixture(scope="module")
def vocabulary():
    return open_gguf(package_file()).vocabulary()


@pytest.fixture(scope="module")
def real(vocabulary):
    return Tokenizer(rebuild_model(*vocabulary))


def test_control_strings(tiny):
    assert tiny.encode("") == [2]
    assert tiny.encode("<eos><pad><unk><bos>", bos=False) == [1, 0, 3, 2]
    assert tiny.encode("<start_of_turn>\u2581<image_soft_token>", bos=False)[::2] == [105, tiny.vocabulary]
    for name in (
        *NAMES,
        "<pad>",
        "<eos>",
        "<bos>",
        "<unk>",
        "<start_of_image>",
        "<end_of_image>",
        "<image_soft_token>",
    ):
        with refused("no control string, got .* at character 3"):
            tiny.encode(f"an {name}", control="forbid")
    text = "a <b> <unused> <start_of_turn <Bos>"
    assert tiny.encode(text, control="forbid") == tiny.encode(text)
    with refused("split or forbid"):
        tiny.encode("a", control="no")  # pyright: ignore[reportArgumentType]


def test_bad_text(tiny):
    with refused(r"encode: text: wanted Unicode text, got lone surrogate U\+D800 at character 1"):
        tiny.encode("a\ud800b")
    with refused(r"--prompt: text: wanted Unicode text, got lone surrogate U\+DFFF at character 0"):
        check_text("\udfff", "--prompt")
    with refused(r"--prompt: text: wanted no NUL character, got U\+0000 at character 2"):
        check_text("ab\0", "--prompt")
    assert check_text("ab😀\n", "--prompt") == "ab😀\n"
    assert tiny.pieces(tiny.encode("a\0", bos=False)) == ["a", "<0x00>"]


def test_bad_ids(tiny):
    for bad in (-1, tiny.vocabulary + 1, 10**9):
        for function in (tiny.decode, tiny.pieces):
            with refused(f"token id: wanted 0 <= id < {tiny.vocabulary}, got {bad}"):
                function([2, bad])


def test_decode_names(tiny):
    ids = np.array([2, 105, *tiny.encode("the", bos=False), 6, 106, tiny.vocabulary])
    assert tiny.decode(ids) == "<bos><start_of_turn>the<unused0><end_of_turn><image_soft_token>"
    assert tiny.decode(ids, skip_control=True) == "the<unused0>"


def test_stream_holds_back_half_characters(tiny):
    euro = [tiny.encode("\0", bos=False)[0] + byte for byte in "€".encode()]
    stream = tiny.stream()
    assert [stream.push(token) for token in euro] == ["", "", "€"]
    assert [stream.push(token) for token in euro[:2]] + [stream.flush()] == ["", "", "\ufffd\ufffd"]
    assert stream.push(euro[0]) + stream.push(tiny.encode("a")[1]) == "\ufffda"


TEXTS = st.text().filter(lambda text: "\u2581" not in text)


@given(TEXTS, st.booleans())
def test_round_trip(tiny, text, bos):
    assert tiny.decode(tiny.encode(text, bos=bos)) == "<bos>" * bos + text


@given(st.lists(st.integers(0, 452) | st.integers(107, 362), max_size=12))
def test_stream_equals_decode_and_sentencepiece(tiny, model, ids):
    stream = tiny.stream()
    assert "".join(map(stream.push, ids)) + stream.flush() == tiny.decode(ids)
    text = [token for token in ids if token > 3]
    assert tiny.decode(text) == SentencePieceProcessor(model_proto=model).decode(text)


@pytest.mark.weights
def test_golden_ids(real):
    assert len(GOLDEN["cases"]) > 4000
    wrong = [case["text"] for case in GOLDEN["cases"] if real.encode(case["text"], bos=False) != case["ids"]]
    assert wrong == []
    wrong = [case for case in GOLDEN["differs"] if real.encode(case["text"], bos=False) != case["tokenizers"]]
    assert wrong == []  # SentencePiece alone would fail each of these


@pytest.mark.weights
def test_golden_differs_are_those_of_sentencepiece_alone(vocabulary):
    alone = SentencePieceProcessor(model_proto=rebuild_model(*vocabulary))
    for case in GOLDEN["differs"]:
        assert case["why"] in GOLDEN["why"]
        assert alone.encode(case["text"]) == case["sentencepiece"] != case["tokenizers"]


@pytest.mark.weights
def test_golden_texts_come_back(real):
    for case in GOLDEN["cases"]:
        assert real.decode(case["ids"]) == case["text"].replace("\u2581", " ")


@pytest.mark.weights
@pytest.mark.parametrize("case", TABLE, ids=[ascii(case["text"]) for case in TABLE])
def test_traps(real, case):
    assert real.encode(case["text"]) == [2, *case["ids"]]
    assert real.vocabulary == 262_144


def test_pieces_that_are_no_utf8_are_refused_in_one_line(model, tiny):
    cat = tiny.encode("cat", bos=False)
    broken = Tokenizer(model.replace("▁cat".encode(), b"\xff\xfe\xffcat"))
    with pytest.raises(BadInput, match=r"piece of token \d+: wanted UTF-8"):
        broken.decode(range(broken.vocabulary))
    assert len(cat) > 0
    for name in (b"<pad>", b"<0x00>", b"<start_of_turn>"):
        with pytest.raises(BadInput) as error:
            Tokenizer(model.replace(name, b"\xff" * len(name))).pieces(range(broken.vocabulary))
        assert len(str(error.value).splitlines()) == 1


@pytest.mark.weights
@given(TEXTS)
def test_real_round_trip(real, text):
    assert real.decode(real.encode(text, bos=False)) == text


@pytest.mark.weights
def test_one_long_word(real):
    assert len(real.encode("a" * 1_000_000, bos=False)) == 125_000


@pytest.mark.weights
def test_rows_of_multimodal_checkpoints_beyond_the_soft_token_are_named_by_number(real):
    assert real.pieces([262_144, 262_145, 262_207]) == ["<image_soft_token>", "<row262145>", "<row262207>"]
    assert real.decode([9259, 262_145, 1902]) == "Hello<row262145> world"
    assert real.decode([9259, 262_145, 1902], skip_control=True) == "Hello world"
    with refused("token id: wanted 0 <= id < 262144, got 262208"):
        real.pieces([262_208])
