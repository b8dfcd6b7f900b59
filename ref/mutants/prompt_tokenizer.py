"""Mistakes in the tokenizer: white space, digits, normalisation, control tokens, bytes."""

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from sentencepiece import SentencePieceProcessor

from ref.mutants.base import RuleMutant
from ref.mutants.needs import Needs
from ref.mutants.prompt_parts import Ids, changed
from ref.prompt.tokenizer import _SPLIT, Tokenizer


def alone(tokenizer: Tokenizer) -> SentencePieceProcessor:
    """Return the SentencePiece model itself, which knows nothing of control tokens."""
    return tokenizer._model


def by_parts(encode_part: Callable[[Tokenizer, str], Ids]) -> Callable[[Tokenizer, str], Ids]:
    """Encode what stands between control tokens otherwise."""

    def split(tokenizer: Tokenizer, text: str) -> Ids:
        ids: Ids = []
        for at, part in enumerate(_SPLIT.split(text)):  # every second part is a control token
            ids += tokenizer.encode(part, bos=False) if at % 2 else encode_part(tokenizer, part)
        return ids

    return split


def cut_at(pattern: str) -> Callable[[Tokenizer, str], Ids]:
    """Encode the text in pieces, so that no token reaches over their borders."""
    border = re.compile(pattern)
    return by_parts(lambda tokenizer, part: [i for piece in border.split(part) for i in alone(tokenizer).encode(piece)])


def grouped_digits(tokenizer: Tokenizer, part: str) -> Ids:
    """Take up to three digits as one piece; this vocabulary has none such."""
    model = alone(tokenizer)
    pieces = re.split("([0-9]{2,3})", part)
    return [i for at, piece in enumerate(pieces) for i in ([model.unk_id()] if at % 2 else model.encode(piece))]


@lru_cache(maxsize=4)
def _remade(tokenizer: Tokenizer, change: Callable[[Any], None]) -> SentencePieceProcessor:
    """Make the same SentencePiece model with something changed."""
    from sentencepiece import sentencepiece_model_pb2 as proto  # here: only this needs protobuf

    model = proto.ModelProto.FromString(alone(tokenizer).serialized_model_proto())  # type: ignore[reportAttributeAccessIssue]
    change(model)
    return SentencePieceProcessor(model_proto=model.SerializeToString())


NORMAL, BYTE = 1, 6  # SentencePiece's types of pieces


def turns_normal(model: Any) -> None:
    """Make pieces of their characters of the two tokens of turns."""
    for piece in model.pieces[105:107]:
        piece.type = NORMAL


def no_bytes(model: Any) -> None:
    """Take bytes away: a character without a piece becomes <unk>."""
    model.trainer_spec.byte_fallback = False
    for piece in model.pieces:
        if piece.type == BYTE:
            piece.type = NORMAL


def by_model(change: Callable[[Any], None]) -> Callable[[Tokenizer, str], Ids]:
    """Encode with a model in which something is changed."""
    return by_parts(lambda tokenizer, part: _remade(tokenizer, change).encode(part))


def bos_as_characters(tokenizer: Tokenizer, text: str) -> Ids:
    """Read <bos> as characters."""
    first, *rest = _SPLIT.split(text, maxsplit=1)
    return alone(tokenizer).encode("<bos>" + first) + tokenizer.encode("".join(rest), bos=False)


def spaces_after_control(text: str) -> str:
    """Put a space before the text and after every control token."""
    names = "<(?:start|end)_of_(?:turn|image)>|<bos>|<eos>|<pad>|<unk>|<image_soft_token>"
    return re.sub(rf"(^|{names})(?!{names})(?=.)", r"\1 ", text, flags=re.DOTALL)


TOKENIZER_MUTANTS: list[RuleMutant] = [
    RuleMutant(
        name="prompt_dummy_prefix",
        what="a space is put before the text: SentencePiece's add_dummy_prefix",
        needs=Needs(note="any prompt but the empty text"),
        run=changed(text=lambda text: text and " " + text),
    ),
    RuleMutant(
        name="prompt_spaces_after_control",
        what="a space is put before the text and after every control token",
        needs=Needs(note="any prompt but the empty text"),
        run=changed(text=spaces_after_control),
    ),
    RuleMutant(
        name="prompt_spaces_collapsed",
        what="runs of spaces become one, and those around the text go",
        needs=Needs(note="two spaces in a row, or one at an end of the text"),
        run=changed(text=lambda text: re.sub(" +", " ", text).strip(" ")),
    ),
    RuleMutant(
        name="prompt_space_runs_split",
        what="a run of spaces is a token for each",
        needs=Needs(note="two spaces in a row"),
        run=changed(split=cut_at("(?<= )(?= )")),
    ),
    RuleMutant(
        name="prompt_newline_runs_split",
        what="a run of newlines is a token for each",
        needs=Needs(note="two newlines in a row, as around any image"),
        run=changed(split=cut_at("(?<=\n)(?=\n)")),
    ),
    RuleMutant(
        name="prompt_digits_grouped",
        what="digits in a row are one piece, which the vocabulary does not have: <unk>",
        needs=Needs(note="two ASCII digits in a row"),
        run=changed(split=by_parts(grouped_digits)),
    ),
    RuleMutant(
        name="prompt_digits_all_split",
        what="every digit is a piece by itself, also where the vocabulary has pairs",
        needs=Needs(note="two digits of one such piece, as in Bengali"),
        run=changed(split=cut_at(r"(?<=\d)(?=\d)")),
    ),
    RuleMutant(
        name="prompt_nfkc",
        what="the text is normalised by NFKC: a ligature becomes two letters",
        needs=Needs(note="a character that NFKC changes"),
        run=changed(text=lambda text: unicodedata.normalize("NFKC", text)),
    ),
    RuleMutant(
        name="prompt_nfc",
        what="the text is normalised by NFC: e and an accent become one letter",
        needs=Needs(note="a character that NFC changes"),
        run=changed(text=lambda text: unicodedata.normalize("NFC", text)),
    ),
    RuleMutant(
        name="prompt_no_byte_fallback",
        what="a character that the vocabulary does not have is <unk> instead of its bytes",
        needs=Needs(note="a character without a piece, as U+0007 or U+00A0"),
        run=changed(split=by_model(no_bytes)),
    ),
    RuleMutant(
        name="prompt_sentencepiece_alone",
        what="<bos>, <eos>, <pad>, <unk> and soft tokens are characters in the text",
        needs=Needs(note="one of these names, or a space beside a run of U+2581"),
        run=changed(split=lambda tokenizer, text: alone(tokenizer).encode(text)),
    ),
]
