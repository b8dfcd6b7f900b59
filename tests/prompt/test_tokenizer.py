"""Tokenizer: refusals, control strings, streaming on a tiny model; the real one against tokenizer.json."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer, sentencepiece_model_pb2

from ref.errors import BadInput
from ref.prompt import rebuild
from ref.prompt.rebuild import cached_model, rebuild_model
from ref.prompt.tokenizer import Tokenizer, check_text
from ref.weights.gguf import open_gguf
from ref.weights.package import package_file

TOKENS = Path(__file__).parents[2] / "golden/tokens"
GOLDEN = json.loads((TOKENS / "ids.json").read_text(encoding="utf-8"))
TABLE = json.loads((TOKENS / "table.json").read_text(encoding="utf-8"))["cases"]
NAMES = ["<mask>", "[multimodal]", *(f"<unused{i}>" for i in range(99)), "<start_of_turn>", "<end_of_turn>"]
TEXT = [
    "the cat sat on the mat",
    "a naïve café",
    "日本語 テスト",
    "one two  three",
    "hello world hello word",
] * 20


def train(names=NAMES, **options) -> bytes:
    given = {"vocab_size": 4 + len(names) + 256 + 90, "byte_fallback": True, "add_dummy_prefix": False}
    given |= {"remove_extra_whitespaces": False, "normalization_rule_name": "identity", "model_type": "bpe"}
    given |= {"pad_id": 0, "eos_id": 1, "bos_id": 2, "unk_id": 3, "pad_piece": "<pad>", "eos_piece": "<eos>"}
    given |= {"bos_piece": "<bos>", "unk_piece": "<unk>", "user_defined_symbols": names, "minloglevel": 2}
    out = io.BytesIO()
    SentencePieceTrainer.train(sentence_iterator=iter(TEXT), model_writer=out, **(given | options))
    return out.getvalue()


@pytest.fixture(scope="module")
def model():
    return train()


@pytest.fixture(scope="module")
def tiny(model):
    return Tokenizer(model)


@pytest.fixture(scope="module")
def vocabulary():
    return open_gguf(package_file()).vocabulary()


@pytest.fixture(scope="module")
def real(vocabulary):
    return Tokenizer(rebuild_model(*vocabulary))


def refused(match):
    """Expect one line of BadInput."""
    return pytest.raises(BadInput, match=r"\A[^\n]*" + match + r"[^\n]*\Z")


def only_pieces(model: bytes) -> bytes:
    """Cut the file where its pieces end: it still parses, but its settings are gone."""
    whole = sentencepiece_model_pb2.ModelProto.FromString(model)
    return sentencepiece_model_pb2.ModelProto(pieces=whole.pieces).SerializeToString()


@pytest.mark.parametrize(
    "damage", [lambda m: b"", lambda m: b"junk", lambda m: m[:1000], lambda m: m[:-3], only_pieces]
)
def test_model_damaged(model, damage):
    with refused("here.model: tokenizer: wanted"):
        Tokenizer(damage(model), "here.model")


def test_model_of_another_kind():
    with refused("<start_of_turn>: wanted id 105, got no such piece"):
        Tokenizer(train(NAMES[:-2]))
    with refused("<start_of_turn>: wanted id 105, got id 106"):
        Tokenizer(train([*NAMES[:10], "<gemma2>", *NAMES[10:]]))
    with refused("<pad>: wanted id 0, got id 1"):
        Tokenizer(train(pad_id=1, eos_id=0))
    with refused("white space"):
        Tokenizer(train(add_dummy_prefix=True))
    with refused("white space"):
        Tokenizer(train(byte_fallback=False, vocab_size=200))


def test_from_file(model, tmp_path):
    path = tmp_path / "tokenizer.model"
    with refused("tokenizer.model: file: wanted a readable"):
        Tokenizer.from_file(path)
    path.write_bytes(model)
    assert Tokenizer.from_file(path).encode("the") == Tokenizer(model).encode("the")


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


def vocabulary_of(model: bytes):
    """Return what a GGUF file would hold of this model."""
    pieces = sentencepiece_model_pb2.ModelProto.FromString(model).pieces
    names = [p.piece.encode() if p.type != 4 else p.piece.replace("\u2581", " ").encode() for p in pieces]
    types = np.array([3 if p.type == 2 or p.piece in NAMES else p.type for p in pieces], np.int32)
    return names, np.array([p.score for p in pieces], np.float32), types


def test_rebuilt_model_encodes_the_same():
    model = train([*NAMES, "\u2581\u2581", "\u2581\u2581\u2581"])
    ours, theirs = Tokenizer(rebuild_model(*vocabulary_of(model))), Tokenizer(model)
    for text in [*TEXT[:5], "a   b    <unused7>\0<start_of_turn>user\n", " x  ", "<unk>"]:
        assert ours.encode(text) == theirs.encode(text)


@pytest.mark.parametrize(
    ("column", "value", "match"),
    [
        (0, b"\xff", "piece: wanted UTF-8"),
        (0, b"", "piece of token 9: wanted some text"),
        (0, b"<pad>", "piece '<pad>': wanted once, got 2 times"),
        (1, np.nan, "score of token 9: wanted a finite number"),
        (2, 7, "type of token 9: wanted 1 to 6, got 7"),
    ],
)
def test_rebuild_refuses(model, column, value, match):
    columns = vocabulary_of(model)
    columns[column][9] = value
    with refused(match):
        rebuild_model(*columns)


def test_rebuild_refuses_lengths(model):
    pieces, scores, types = vocabulary_of(model)
    with refused("scores: wanted shape"):
        rebuild_model(pieces, scores[1:], types)
    with refused("pieces: wanted at least one"):
        rebuild_model([], scores[:0], types[:0])


def test_cache(tmp_path, monkeypatch):
    built = []

    def get(folder=tmp_path / "new" / "folder"):
        return cached_model("v-1", lambda: built.append(1) or b"model", folder), len(built)

    assert [get(), get()] == [(b"model", 1), (b"model", 1)]
    folder = tmp_path / "new" / "folder"
    assert sorted(path.name for path in folder.iterdir()) == ["tokenizer-v-1.model", "tokenizer-v-1.sha256"]
    (folder / "tokenizer-v-1.model").write_bytes(b"mode")
    assert [get(), get()] == [(b"model", 2), (b"model", 2)]
    monkeypatch.setattr(rebuild, "REBUILD_VERSION", 0)
    assert get() == (b"model", 3)
    (tmp_path / "file").touch()
    assert get(tmp_path / "file") == (b"model", 4)  # cannot be a folder: no error
    with refused("cache key"):
        cached_model("../x", lambda: b"", tmp_path)


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
