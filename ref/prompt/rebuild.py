"""The SentencePiece model: opened and checked, made again from a GGUF vocabulary, kept in a cache."""

import hashlib
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import sentencepiece
from sentencepiece import SentencePieceProcessor

from ref.config import BOS, END_OF_TURN, EOS, PAD, START_OF_TURN, UNK
from ref.errors import BadInput, wanted
from ref.untrusted import read_regular

# GGUF token types have the numbers of SentencePiece's piece types.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
_ROLES = {"pad": "<pad>", "eos": "<eos>", "bos": "<bos>", "unk": "<unk>"}
REQUIRED = {"<pad>": PAD, "<eos>": EOS, "<bos>": BOS, "<unk>": UNK}
REQUIRED |= {"<start_of_turn>": START_OF_TURN, "<end_of_turn>": END_OF_TURN}
REBUILD_VERSION = 1  # a cached model of another version is made anew; raise it when `rebuild_model` changes


def open_model(model: bytes, where: object) -> SentencePieceProcessor:
    """Open the bytes of a `tokenizer.model`, after checking that they are Gemma 3's.

    Args:
        model: the whole file.
        where: its name, for messages.

    Raises:
        BadInput: the bytes are empty, junk or cut short, the model changes white space or has no byte
            fallback, or a control token is missing or has another id (as in Gemma 2).
    """
    if not model:  # SentencePiece would open it as a vocabulary of 0
        raise wanted("tokenizer", where, "a SentencePiece model", "0 bytes")
    sentencepiece.set_min_log_level(2)  # else it says on stderr what it finds odd about a damaged file
    try:
        processor = SentencePieceProcessor(model_proto=model)
        # A file cut between two pieces still parses, but without its settings: then the pieces are others.
        pieces = processor.encode("\0 \0  \0 ", out_type=str)
        faithful = "".join(pieces) == "<0x00>▁<0x00>▁▁<0x00>▁"
    except (RuntimeError, UnicodeDecodeError) as error:  # pieces that are no UTF-8
        raise wanted("tokenizer", where, "a SentencePiece model", f"{len(model)} unreadable bytes") from error
    if not faithful:
        got = "one that changes white space or has no byte fallback (cut short, or not Gemma's)"
        raise wanted("tokenizer", where, "Gemma 3's SentencePiece model", got)
    for name, token in REQUIRED.items():
        found = processor.piece_to_id(name)
        if found != token:
            raise wanted(name, where, f"id {token}", _found(processor, name, found))
    return processor


def _found(processor: SentencePieceProcessor, name: str, token: int) -> str:
    try:
        return f"id {token}" if processor.id_to_piece(token) == name else "no such piece"
    except (IndexError, UnicodeDecodeError):  # a damaged model may say any id
        return f"id {token}, which is no piece"


def rebuild_model(pieces: Sequence[bytes], scores: np.ndarray, types: np.ndarray) -> bytes:
    """Make the SentencePiece model of a GGUF file's vocabulary: BPE, byte fallback, text taken as it is.

    Args:
        pieces: [V] UTF-8 of each token, `tokenizer.ggml.tokens`.
        scores: [V] merge order, the highest first; `tokenizer.ggml.scores`.
        types: [V] 1 normal, 2 unknown, 3 control, 4 user, 5 unused, 6 byte; `tokenizer.ggml.token_type`.

    Returns:
        the bytes of a `tokenizer.model`; equal vocabularies give equal bytes.

    Raises:
        BadInput: lengths differ, a type is unknown, a score is not finite, or a piece is empty, not UTF-8 or
            there twice.

    Source:
        google/sentencepiece 0.2.3 `sentencepiece_model.proto`; ggml-org/llama.cpp `convert_hf_to_gguf.py`
        (`_create_vocab_sentencepiece`) for what GGUF changes.

    Differs:
        GGUF marks turn and reserved tokens as control, which SentencePiece never finds in text: all but pad,
        eos, bos and unk become user-defined here. Its user-defined runs of spaces become U+2581 again.
    """
    where = "GGUF vocabulary"
    _check(pieces, scores, types, where)
    names = _names(pieces, types, where)
    from sentencepiece import sentencepiece_model_pb2 as proto  # here: only a rebuild needs protobuf

    model = proto.ModelProto()  # type: ignore[reportAttributeAccessIssue]
    add = model.pieces.add
    for name, score, kind in zip(names, scores.tolist(), _kinds(names, types), strict=True):
        add(piece=name, score=score, type=kind)
    trainer, normalizer = model.trainer_spec, model.normalizer_spec
    trainer.model_type = proto.TrainerSpec.BPE  # type: ignore[reportAttributeAccessIssue]
    trainer.vocab_size = len(names)
    trainer.byte_fallback = True
    for role, name in _ROLES.items():
        setattr(trainer, f"{role}_piece", name)
        setattr(trainer, f"{role}_id", names.index(name) if name in names else -1)
    normalizer.name = "identity"
    normalizer.add_dummy_prefix = False
    normalizer.remove_extra_whitespaces = False
    normalizer.escape_whitespaces = True
    return model.SerializeToString()


_CONTROL = re.compile(r"<(pad|eos|bos|unk|mask|unused\d+|start_of_turn|end_of_turn)>")


def gguf_vocabulary(model: bytes) -> tuple[list[bytes], np.ndarray, np.ndarray]:
    """Return a SentencePiece model's vocabulary as GGUF holds it: what `rebuild_model` is made from.

    Args:
        model: the bytes of a `tokenizer.model` of Gemma 3.

    Returns:
        pieces [V] UTF-8, scores [V] float32, types [V] int32.

    Source:
        ggml-org/llama.cpp `convert_hf_to_gguf.py` (`_create_vocab_sentencepiece`); the arrays of a released file.

    Differs:
        no known.
    """
    from sentencepiece import sentencepiece_model_pb2 as proto

    names, scores, types = [], [], []
    for piece in proto.ModelProto.FromString(model).pieces:  # type: ignore[reportAttributeAccessIssue]
        kind = CONTROL if _CONTROL.fullmatch(piece.piece) else piece.type
        name = piece.piece.replace("\u2581", " ") if kind == USER_DEFINED else piece.piece
        names.append(name.encode())
        types.append(kind)
        scores.append(-1000.0 if kind in (CONTROL, USER_DEFINED) else piece.score)
    return names, np.array(scores, np.float32), np.array(types, np.int32)


def cached_model(key: str, build: Callable[[], bytes], folder: Path) -> bytes:
    """Return the model kept in `folder` under this key, or build it and keep it.

    Two files are kept: `tokenizer-<key>.model`, and `tokenizer-<key>.sha256` with its version and digest. A
    model that does not match its digest is built again. That guards against damage, not against an attacker.

    Args:
        key: letters, digits, `.`, `_`, `-`; must change when the vocabulary does.
        build: makes the bytes, e.g. by `rebuild_model`; not called when the cache has them.
        folder: made if missing. If it cannot be read or written, the model is built each time, with no error.

    Raises:
        BadInput: the key is no file name.
    """
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,200}", key):
        raise wanted("cache key", "cached_model", "letters, digits, '.', '_' or '-'", repr(key))
    model_file, stamp_file = folder / f"tokenizer-{key}.model", folder / f"tokenizer-{key}.sha256"
    with suppress(BadInput):
        model = read_regular(model_file)
        if read_regular(stamp_file) == _stamp(model):
            return model
    model = build()
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        _write(model_file, model)
        _write(stamp_file, _stamp(model))
    return model


def _stamp(model: bytes) -> bytes:
    return f"{REBUILD_VERSION} {hashlib.sha256(model).hexdigest()}\n".encode()


def _write(path: Path, data: bytes) -> None:
    """Write under a temporary name and rename, so that another process never reads half a file."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name, delete=False) as file:
        temporary = Path(file.name)
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _check(pieces: Sequence[bytes], scores: np.ndarray, types: np.ndarray, where: str) -> None:
    V = len(pieces)
    if not V:
        raise wanted("pieces", where, "at least one", 0)
    for name, values in (("scores", scores), ("types", types)):
        if values.shape != (V,):
            raise wanted(name, where, f"shape ({V},), one per piece", values.shape)
    if not np.isfinite(scores).all():
        bad = int(np.argmin(np.isfinite(scores)))
        raise wanted(f"score of token {bad}", where, "a finite number", scores[bad])
    known = (types >= NORMAL) & (types <= BYTE)
    if not known.all():
        bad = int(np.argmin(known))
        raise wanted(f"type of token {bad}", where, "1 to 6", types[bad])


def _names(pieces: Sequence[bytes], types: np.ndarray, where: str) -> list[str]:
    try:
        names = [piece.decode() for piece in pieces]
    except UnicodeDecodeError as error:
        raise wanted("piece", where, "UTF-8", error.object[:40]) from error
    for token in np.flatnonzero(types == USER_DEFINED).tolist():
        names[token] = names[token].replace(" ", "\u2581")
    if len(set(names)) != len(names):
        name, count = Counter(names).most_common(1)[0]
        raise wanted(f"piece {name!r}", where, "once", f"{count} times")
    if "" in names:
        raise wanted(f"piece of token {names.index('')}", where, "some text", "an empty piece")
    return names


def _kinds(names: list[str], types: np.ndarray) -> list[int]:
    kinds = np.where(types == CONTROL, USER_DEFINED, types).tolist()
    for name in _ROLES.values():
        if name in names:
            kinds[names.index(name)] = UNKNOWN if name == "<unk>" else CONTROL
    return kinds
