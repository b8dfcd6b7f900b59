"""A tokenizer's model: damaged ones are refused, and one is rebuilt from a vocabulary and kept."""

import numpy as np
import pytest
from sentencepiece import sentencepiece_model_pb2
from support.tiny_tokenizer import NAMES, TEXT, refused, train

from ref.prompt import rebuild
from ref.prompt.rebuild import cached_model, rebuild_model
from ref.prompt.tokenizer import Tokenizer


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
