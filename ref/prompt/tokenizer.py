"""Text to ids and back: SentencePiece, plus the strings that `tokenizer.json` matches verbatim."""

import codecs
import re
from collections.abc import Iterable
from operator import index
from pathlib import Path
from typing import Literal

from ref.config import BOS, EXTRA_ROWS, SOFT_TOKEN, UNK, VOCABULARY
from ref.errors import wanted
from ref.prompt.rebuild import REQUIRED, open_model
from ref.untrusted import read_regular

MOST_BYTES = 2**28  # of a tokenizer.model; Gemma 3's has 4.7 million
Control = Literal["split", "forbid"]

_SOFT = "<image_soft_token>"
# The tokens that tokenizer.json flags as special.
_NAMES = [*REQUIRED, "<start_of_image>", "<end_of_image>", _SOFT]
# SentencePiece never finds these names in text. Runs of U+2581 it finds after spaces have become U+2581 too,
# whereas tokenizer.json matches them before, in the text as written.
_SPLIT = re.compile(r"(<pad>|<eos>|<bos>|<unk>|<image_soft_token>|\u2581{2,31})")
# All that means something to a model or a runtime; some runtimes use reserved `<unusedN>` as tool markers.
_FORBIDDEN = re.compile("|".join([*_NAMES, "<mask>", r"\[multimodal\]", r"<unused\d+>"]))
_SURROGATE = re.compile("[\ud800-\udfff]")


def find_control(text: str) -> tuple[int, str] | None:
    """Find the first string that would become a control token: (character position from 0, the string)."""
    found = _FORBIDDEN.search(text)
    return None if found is None else (found.start(), found.group())


def check_text(text: str, where: object) -> str:
    """Return a person's text unchanged, or refuse it where it cannot be meant: U+0000 or a lone surrogate.

    Args:
        text: what came from a command line or a file.
        where: the flag or file, for the message.

    Raises:
        BadInput: U+0000 or a lone surrogate, with its character position from 0.

    Differs:
        `Tokenizer.encode` takes U+0000, because the official tokenizer does (token 238, `<0x00>`).
    """
    if "\0" in text:
        raise wanted("text", where, "no NUL character", f"U+0000 at character {text.index(chr(0))}")
    return _check_unicode(text, where)


class Tokenizer:
    """Gemma 3's tokenizer over a SentencePiece model: 262,144 pieces, byte fallback, spaces as U+2581.

    Args:
        model: the bytes of a `tokenizer.model`, or of one made by `ref.prompt.rebuild.rebuild_model`.
        where: the file it came from, for messages.

    Raises:
        BadInput: as `ref.prompt.rebuild.open_model`: no SentencePiece model, or not Gemma 3's.

    Source:
        google/sentencepiece 0.2.3; Hugging Face's `tokenizer.json` of Gemma 3 (golden/tokens/ids.json).

    Differs:
        SentencePiece by itself reads `<bos>` in text as ordinary pieces, and a run of U+2581 together with
        spaces beside it. Here both go as in `tokenizer.json`; golden/tokens/ids.json lists such texts under
        `differs` with both answers. No other difference is known.
    """

    def __init__(self, model: bytes, where: object = "tokenizer.model"):
        self._model = open_model(model, where)
        self._ids = {name: self._model.piece_to_id(name) for name in _NAMES}
        if self._ids[_SOFT] == UNK:  # not in the model, as in every released one: the id after its last, 262144
            self._ids[_SOFT] = self.vocabulary
        self._special = frozenset(self._ids.values())

    @classmethod
    def from_file(cls, path: str | Path) -> "Tokenizer":
        """Read a `tokenizer.model` file.

        Raises:
            BadInput: the file cannot be read, or its content is refused.
        """
        return cls(read_regular(Path(path), most=MOST_BYTES), path)

    @property
    def vocabulary(self) -> int:
        """The number of pieces; ids of text lie below it."""
        return self._model.vocab_size()

    @property
    def model(self) -> bytes:
        """The SentencePiece model's bytes."""
        return self._model.serialized_model_proto()

    def encode(self, text: str, *, bos: bool = True, control: Control = "split") -> list[int]:
        """Encode text to ids.

        Args:
            text: any Unicode text; the empty text has no ids.
            bos: put `<bos>` (2) first. Text that itself begins with `<bos>` then has two, as officially.
            control: what control strings in the text become. "split": the tokens they name, as in
                `tokenizer.json`. "forbid": they are refused; for text of somebody you do not trust.

        Returns:
            ids below `vocabulary`, and 262144 for `<image_soft_token>`.

        Raises:
            BadInput: a lone surrogate, or under "forbid" a control string, with its position from 0.
        """
        _check_unicode(text, "encode")
        if control not in ("split", "forbid"):
            raise wanted("control", "encode", "split or forbid", control)
        if control == "forbid" and (found := find_control(text)):
            raise wanted("text", "encode", "no control string", f"{found[1]} at character {found[0]}")
        ids = [BOS] if bos else []
        for part in _SPLIT.split(text):
            ids.extend([self._ids[part]] if part in self._ids else self._model.encode(part))
        return ids

    def decode(self, ids: Iterable[int], *, skip_control: bool = False) -> str:
        """Decode ids to text. Control tokens appear by name, bytes that are no UTF-8 as one U+FFFD each.

        Args:
            ids: as `encode` gives them.
            skip_control: leave out pad, eos, bos, unk and the turn and image tokens.

        Raises:
            BadInput: an id outside the vocabulary.

        Differs:
            262145 to 262207, rows that transformers' multimodal checkpoints have and no tokenizer, are control tokens
            named by their number; `tokenizer.json` decodes them to nothing. U+2581 comes back as a space: both have
            one piece. SentencePiece decodes bos, eos and pad to nothing, and unk to " ⁇ ". `tokenizer.json` turns a
            whole run of byte tokens into U+FFFD when any of it is invalid; here, as in SentencePiece, its valid
            characters stay.
        """
        stream = self.stream(skip_control=skip_control)
        return "".join(map(stream.push, ids)) + stream.flush()

    def stream(self, *, skip_control: bool = False) -> "TextStream":
        """Begin to decode ids that arrive one by one; `skip_control` as in `decode`."""
        return TextStream(self, skip_control)

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """Name each id as the vocabulary spells it: `▁the`, `<0x0A>`. BadInput for an id outside."""
        return [self._piece(index(token)) for token in ids]

    def bytes_of(self, token: int, *, skip_control: bool = False) -> bytes:
        """Return the UTF-8 of one token; a byte token is one byte of it. BadInput for an id outside."""
        piece = self._piece(index(token))
        if token in self._special or token > SOFT_TOKEN:
            return b"" if skip_control else piece.encode()
        if self._model.is_byte(index(token)):
            return bytes([int(piece[3:5], 16)])  # "<0x0A>"
        return piece.replace("\u2581", " ").encode()

    def _piece(self, token: int) -> str:
        if token == self._ids[_SOFT]:
            return _SOFT
        if self.vocabulary == VOCABULARY and SOFT_TOKEN < token < VOCABULARY + EXTRA_ROWS:
            return f"<row{token}>"
        if not 0 <= token < self.vocabulary:
            raise wanted("token id", "decode", f"0 <= id < {self.vocabulary}", token)
        try:
            return self._model.id_to_piece(token)
        except UnicodeDecodeError as error:  # seen when it is asked for: to look at all would slow every start
            raise wanted(f"piece of token {token}", "tokenizer", "UTF-8", error) from None


class TextStream:
    """Decode ids that arrive one by one into whole characters: byte tokens may split a character."""

    def __init__(self, tokenizer: Tokenizer, skip_control: bool):
        self._tokenizer, self._skip_control = tokenizer, skip_control
        # surrogateescape keeps each invalid byte apart, as SentencePiece does; "replace" would merge some.
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")

    def push(self, token: int) -> str:
        """Take the next id; return the text that is certain now, perhaps none."""
        data = self._tokenizer.bytes_of(token, skip_control=self._skip_control)
        return _SURROGATE.sub("\ufffd", self._decoder.decode(data))

    def flush(self) -> str:
        """Return what is held back at the end: a U+FFFD for each byte of an unfinished character."""
        return _SURROGATE.sub("\ufffd", self._decoder.decode(b"", final=True))


def _check_unicode(text: str, where: object) -> str:
    if found := _SURROGATE.search(text):
        got = f"lone surrogate U+{ord(found.group()):04X} at character {found.start()}"
        raise wanted("text", where, "Unicode text", got)
    return text
