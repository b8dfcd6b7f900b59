"""Mistakes in prompts: turns, white space, control tokens, images and their markers, and the tokenizer itself.

Each mutant is a small change to one description of how a prompt becomes ids, `_Parts`; the rules it departs from are
`ref.prompt.chat`, `ref.prompt.placeholders` and `ref.prompt.tokenizer`.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from sentencepiece import SentencePieceProcessor

from ref.config import BOS, START_OF_IMAGE
from ref.mutants.base import RuleMutant
from ref.mutants.needs import Needs
from ref.prompt.chat import MARKER, Message, encode_chat
from ref.prompt.placeholders import Layout, encode_chat_with_images, encode_with_images, with_markers
from ref.prompt.tokenizer import _SPLIT, Tokenizer

Ids = list[int]

SOFT = "<image_soft_token>"


class Prompt(NamedTuple):
    """What a prompt was made of. Control strings in it become tokens, as officially."""

    content: str | Sequence[Message]  # a text, or the messages of a chat
    crops: tuple[int, ...] = ()  # for each image the number of its crops; (): no images are put in
    layout: Layout = "transformers"
    soft_tokens: int = 256
    generation_prompt: bool = True  # of a chat: it ends with the opening of a model turn


def encode(tokenizer: Tokenizer, prompt: Prompt) -> Ids:
    """Encode a prompt by the rules themselves, with one `<bos>`.

    Args:
        tokenizer: Gemma 3's.
        prompt: a text, a chat, or either with images.

    Raises:
        BadInput: as `encode_chat` and `encode_with_images`.

    Source: `ref.prompt`.
    """
    content, crops = prompt.content, prompt.crops
    settings: dict[str, Any] = {"layout": prompt.layout, "soft_tokens": prompt.soft_tokens} if crops else {}
    if isinstance(content, str):
        return encode_with_images(tokenizer, content, crops, **settings) if crops else tokenizer.encode(content)
    settings |= {"generation_prompt": prompt.generation_prompt, "control": "split"}
    if crops:
        return encode_chat_with_images(tokenizer, content, crops, **settings)
    return encode_chat(tokenizer, content, **settings)


class _Parts(NamedTuple):
    """The rules, in parts that people get wrong one at a time."""

    opening: str = "<start_of_turn>{role}\n"
    closing: str = "<end_of_turn>\n"
    opened: str = "<start_of_turn>model\n"  # at the end, for the answer
    model: str = "model"
    system: Callable[[str], str] | None = "{}\n\n".format  # before the first turn's text; None: a turn of its own
    join: Callable[[list[str]], str] = "".join  # the items of a content
    trim: Callable[[str], str] = str.strip
    arrange: Callable[[str], str] = str  # the content of one turn, images as markers
    words: Callable[[int], str] = lambda crops: _words(crops, "Here is the original image ", _AND)
    image: str = f"\n\n{MARKER}{{soft}}<end_of_image>\n\n"
    more: int = 0  # soft tokens
    text: Callable[[str], str] = str  # the whole, before it is split
    split: Callable[[Tokenizer, str], Ids] = lambda tokenizer, text: tokenizer.encode(text, bos=False)
    front: tuple[int, ...] = (BOS,)


_AND = " and here are some crops to help you see better "


def _words(crops: int, before: str, between: str, space: str = " ") -> str:
    return f"{before}{MARKER}{between}{space.join([MARKER] * crops)}" if crops else MARKER


def _run(tokenizer: Tokenizer, prompt: Prompt, parts: _Parts) -> Ids:
    text = _written(prompt, parts)
    if prompt.crops:
        before, *after = text.split(MARKER)
        pairs = zip(prompt.crops, after, strict=True)
        text = before + "".join(parts.words(count) + rest for count, rest in pairs)
    image = parts.image.format(soft=SOFT * (prompt.soft_tokens + parts.more))
    if prompt.crops and prompt.layout == "transformers":
        return [*parts.front, *parts.split(tokenizer, parts.text(text.replace(MARKER, image)))]
    ids = parts.split(tokenizer, parts.text(text))
    if prompt.crops:
        block = tokenizer.encode(image, bos=False)
        ids = [one for token in ids for one in (block if token == START_OF_IMAGE else [token])]
    return [*parts.front, *ids]


def _written(prompt: Prompt, parts: _Parts) -> str:
    """Write a prompt as text, images as markers."""
    if isinstance(prompt.content, str):
        return parts.arrange(with_markers(prompt.content, len(prompt.crops)))
    messages, prefix, turns = list(prompt.content), "", []
    if messages[0]["role"] == "system" and parts.system:
        prefix = parts.system(_joined(messages.pop(0)["content"], parts._replace(trim=str)))
    for message in messages:
        role = {"assistant": parts.model, "model": parts.model}.get(message["role"], message["role"])
        content = parts.arrange(_joined(message["content"], parts))
        turns.append(parts.opening.format(role=role) + prefix + content + parts.closing)
        prefix = ""
    return "".join(turns) + (parts.opened if prompt.generation_prompt else "")


def _joined(content: Any, parts: _Parts) -> str:
    if isinstance(content, str):
        return parts.trim(content)
    return parts.join([MARKER if item["type"] == "image" else parts.trim(item["text"]) for item in content])


def _with(**changes):
    """Make a mutant that does some parts otherwise."""
    parts = _Parts(**changes)
    return lambda tokenizer, prompt: _run(tokenizer, prompt, parts)


def _laid_out(layout: Layout):
    """Make a mutant that has one layout of newlines, whatever was asked for."""
    return lambda tokenizer, prompt: _run(tokenizer, prompt._replace(layout=layout), _Parts())


# --- the tokenizer itself -------------------------------------------------------------------------------------------


def _alone(tokenizer: Tokenizer) -> SentencePieceProcessor:
    return tokenizer._model


def _by_parts(encode_part: Callable[[Tokenizer, str], Ids]) -> Callable[[Tokenizer, str], Ids]:
    """Encode what stands between control tokens otherwise."""

    def split(tokenizer: Tokenizer, text: str) -> Ids:
        ids: Ids = []
        for at, part in enumerate(_SPLIT.split(text)):  # every second part is a control token
            ids += tokenizer.encode(part, bos=False) if at % 2 else encode_part(tokenizer, part)
        return ids

    return split


def _cut_at(pattern: str) -> Callable[[Tokenizer, str], Ids]:
    """Encode the text in pieces, so that no token reaches over their borders."""
    border = re.compile(pattern)
    return _by_parts(
        lambda tokenizer, part: [i for piece in border.split(part) for i in _alone(tokenizer).encode(piece)]
    )


def _grouped_digits(tokenizer: Tokenizer, part: str) -> Ids:
    """Take up to three digits as one piece; this vocabulary has none such."""
    model = _alone(tokenizer)
    pieces = re.split("([0-9]{2,3})", part)
    return [i for at, piece in enumerate(pieces) for i in ([model.unk_id()] if at % 2 else model.encode(piece))]


@lru_cache(maxsize=4)
def _remade(tokenizer: Tokenizer, change: Callable[[Any], None]) -> SentencePieceProcessor:
    """Make the same SentencePiece model with something changed."""
    from sentencepiece import sentencepiece_model_pb2 as proto  # here: only this needs protobuf

    model = proto.ModelProto.FromString(_alone(tokenizer).serialized_model_proto())  # type: ignore[reportAttributeAccessIssue]
    change(model)
    return SentencePieceProcessor(model_proto=model.SerializeToString())


NORMAL, BYTE = 1, 6  # SentencePiece's types of pieces


def _turns_normal(model: Any) -> None:
    for piece in model.pieces[105:107]:
        piece.type = NORMAL


def _no_bytes(model: Any) -> None:
    model.trainer_spec.byte_fallback = False
    for piece in model.pieces:
        if piece.type == BYTE:
            piece.type = NORMAL


def _by_model(change: Callable[[Any], None]) -> Callable[[Tokenizer, str], Ids]:
    return _by_parts(lambda tokenizer, part: _remade(tokenizer, change).encode(part))


def _bos_as_characters(tokenizer: Tokenizer, text: str) -> Ids:
    first, *rest = _SPLIT.split(text, maxsplit=1)
    return _alone(tokenizer).encode("<bos>" + first) + tokenizer.encode("".join(rest), bos=False)


def _spaces_after_control(text: str) -> str:
    names = "<(?:start|end)_of_(?:turn|image)>|<bos>|<eos>|<pad>|<unk>|<image_soft_token>"
    return re.sub(rf"(^|{names})(?!{names})(?=.)", r"\1 ", text, flags=re.DOTALL)


def _images(first: bool) -> Callable[[str], str]:
    def arrange(text: str) -> str:
        markers, rest = MARKER * text.count(MARKER), text.replace(MARKER, "")
        return markers + rest if first else rest + markers

    return arrange


def _system_dropped(text: str) -> str:
    return ""


_CHAT, _SYSTEM = Needs(note="a chat"), Needs(note="a chat with a system text")
_IMAGE, _CROPS = Needs(image="one"), Needs(image="with crops")
PROMPT_MUTANTS: list[RuleMutant] = [
    # the beginning
    RuleMutant(
        name="prompt_no_bos",
        what="there is no <bos> before the prompt",
        needs=Needs(note="any prompt"),
        run=_with(front=()),
    ),
    RuleMutant(
        name="prompt_two_bos",
        what="there are two <bos>: the chat template writes one, and the tokenizer adds one",
        needs=Needs(note="any prompt"),
        run=_with(front=(BOS, BOS)),
    ),
    RuleMutant(
        name="prompt_bos_as_text",
        what="the report's [BOS] is written into the text and becomes four tokens",
        needs=Needs(note="any prompt"),
        run=_with(front=(), text="[BOS]{}".format),
    ),
    RuleMutant(
        name="prompt_bos_as_characters",
        what="<bos> in the text is read as characters, as SentencePiece by itself does",
        needs=Needs(note="any prompt"),
        run=_with(front=(), split=_bos_as_characters),
    ),
    # turns
    RuleMutant(
        name="prompt_no_newline_after_role",
        what="the newline after user and model is missing",
        needs=_CHAT,
        run=_with(opening="<start_of_turn>{role}", opened="<start_of_turn>model"),
    ),
    RuleMutant(
        name="prompt_space_after_role",
        what="a space stands for the newline after the role, and the last one has nothing",
        needs=_CHAT,
        run=_with(opening="<start_of_turn>{role} ", opened="<start_of_turn>model"),
    ),
    RuleMutant(
        name="prompt_no_newline_at_end",
        what="the newline after the last model is missing",
        needs=Needs(note="a chat with a generation prompt"),
        run=_with(opened="<start_of_turn>model"),
    ),
    RuleMutant(
        name="prompt_no_newline_after_turn",
        what="the newline after <end_of_turn> is missing",
        needs=_CHAT,
        run=_with(closing="<end_of_turn>"),
    ),
    RuleMutant(
        name="prompt_turns_as_characters",
        what="<start_of_turn> and <end_of_turn> are read as characters",
        needs=Needs(note="a chat, or these names in a text"),
        run=_with(split=_by_model(_turns_normal)),
    ),
    RuleMutant(
        name="prompt_role_assistant",
        what="the model's turns are named assistant",
        needs=Needs(note="a chat with an answer in it, or a generation prompt"),
        run=_with(model="assistant", opened="<start_of_turn>assistant\n"),
    ),
    RuleMutant(
        name="prompt_assistant_in_history",
        what="only the answers so far are named assistant",
        needs=Needs(note="a chat with an answer in it"),
        run=_with(model="assistant"),
    ),
    RuleMutant(
        name="prompt_model_not_opened",
        what="no model turn is opened at the end",
        needs=Needs(note="a chat with a generation prompt"),
        run=_with(opened=""),
    ),
    RuleMutant(
        name="prompt_escaped_newlines",
        what=r"\n is two characters, as a shell and a program without --escape pass it on",
        needs=Needs(note="a newline, as any chat has"),
        run=_with(text=lambda text: text.replace("\n", r"\n")),
    ),
    # system text and contents
    RuleMutant(
        name="prompt_system_as_turn",
        what="the system text has a turn of its own, named system",
        needs=_SYSTEM,
        run=_with(system=None),
    ),
    RuleMutant(
        name="prompt_system_dropped",
        what="the system text is left out",
        needs=_SYSTEM,
        run=_with(system=_system_dropped),
    ),
    RuleMutant(
        name="prompt_no_blank_line_after_system",
        what="nothing stands between the system text and the user's",
        needs=_SYSTEM,
        run=_with(system=str),
    ),
    RuleMutant(
        name="prompt_one_newline_after_system",
        what="one newline stands between the system text and the user's",
        needs=_SYSTEM,
        run=_with(system="{}\n".format),
    ),
    RuleMutant(
        name="prompt_system_trimmed",
        what="the system text is trimmed, too, and an empty one adds no blank line",
        needs=Needs(note="a system text that is empty or has white space around it"),
        run=_with(system=lambda text: f"{text.strip()}\n\n" if text.strip() else ""),
    ),
    RuleMutant(
        name="prompt_not_trimmed",
        what="contents are not trimmed",
        needs=Needs(note="a chat whose content has white space around it"),
        run=_with(trim=str),
    ),
    RuleMutant(
        name="prompt_items_by_newline",
        what="the items of a content are joined by newlines",
        needs=Needs(note="a content of two items"),
        run=_with(join="\n".join),
    ),
    RuleMutant(
        name="prompt_items_by_space",
        what="the items of a content are joined by spaces",
        needs=Needs(note="a content of two items"),
        run=_with(join=" ".join),
    ),
    # images
    RuleMutant(
        name="prompt_newlines_apart",
        what="newlines beside an image are tokens of their own, as in google-deepmind/gemma",
        needs=Needs(note="layout transformers, and an image with a newline beside it, as in a chat"),
        run=_laid_out("gemma"),
    ),
    RuleMutant(
        name="prompt_newlines_merged",
        what="newlines beside an image are merged with the image's, as in transformers",
        needs=Needs(note="layout gemma, and an image with a newline beside it, as in a chat"),
        run=_laid_out("transformers"),
    ),
    RuleMutant(
        name="prompt_no_newlines_around_image",
        what="an image has no blank lines around it",
        needs=_IMAGE,
        run=_with(image=f"{MARKER}{{soft}}<end_of_image>"),
    ),
    RuleMutant(
        name="prompt_soft_tokens_less",
        what="an image has one soft token less: 255",
        needs=_IMAGE,
        run=_with(more=-1),
    ),
    RuleMutant(
        name="prompt_soft_tokens_more",
        what="an image has one soft token more: 257",
        needs=_IMAGE,
        run=_with(more=1),
    ),
    RuleMutant(
        name="prompt_image_markers_swapped",
        what="<end_of_image> begins an image, and <start_of_image> ends it",
        needs=_IMAGE,
        run=_with(image=f"\n\n<end_of_image>{{soft}}{MARKER}\n\n"),
    ),
    RuleMutant(
        name="prompt_end_of_image_262144",
        what="<end_of_image> is 262144, a stale constant; it is 256000",
        needs=_IMAGE,
        run=_with(image=f"\n\n{MARKER}{{soft}}{SOFT}\n\n"),
    ),
    RuleMutant(
        name="prompt_images_last",
        what="images come after the text of their turn, wherever they stood",
        needs=Needs(image="with something of its turn behind it"),
        run=_with(arrange=_images(False)),
    ),
    RuleMutant(
        name="prompt_images_first",
        what="images come before the text of their turn, wherever they stood",
        needs=Needs(image="with something of its turn before it"),
        run=_with(arrange=_images(True)),
    ),
    RuleMutant(
        name="prompt_crops_not_told",
        what="an image with crops is one image in the prompt",
        needs=_CROPS,
        run=_with(words=lambda crops: MARKER),
    ),
    RuleMutant(
        name="prompt_crops_without_whole",
        what="of an image with crops only the crops are in the prompt",
        needs=_CROPS,
        run=_with(words=lambda crops: " ".join([MARKER] * max(1, crops))),
    ),
    RuleMutant(
        name="prompt_crops_in_small_words",
        what="a variant: the words around crops begin small and have no spaces",
        needs=_CROPS,
        run=_with(words=lambda crops: _words(crops, "here is the original image", _AND.strip(), "")),
    ),
    # the tokenizer
    RuleMutant(
        name="prompt_dummy_prefix",
        what="a space is put before the text: SentencePiece's add_dummy_prefix",
        needs=Needs(note="any prompt but the empty text"),
        run=_with(text=lambda text: text and " " + text),
    ),
    RuleMutant(
        name="prompt_spaces_after_control",
        what="a space is put before the text and after every control token",
        needs=Needs(note="any prompt but the empty text"),
        run=_with(text=_spaces_after_control),
    ),
    RuleMutant(
        name="prompt_spaces_collapsed",
        what="runs of spaces become one, and those around the text go",
        needs=Needs(note="two spaces in a row, or one at an end of the text"),
        run=_with(text=lambda text: re.sub(" +", " ", text).strip(" ")),
    ),
    RuleMutant(
        name="prompt_space_runs_split",
        what="a run of spaces is a token for each",
        needs=Needs(note="two spaces in a row"),
        run=_with(split=_cut_at("(?<= )(?= )")),
    ),
    RuleMutant(
        name="prompt_newline_runs_split",
        what="a run of newlines is a token for each",
        needs=Needs(note="two newlines in a row, as around any image"),
        run=_with(split=_cut_at("(?<=\n)(?=\n)")),
    ),
    RuleMutant(
        name="prompt_digits_grouped",
        what="digits in a row are one piece, which the vocabulary does not have: <unk>",
        needs=Needs(note="two ASCII digits in a row"),
        run=_with(split=_by_parts(_grouped_digits)),
    ),
    RuleMutant(
        name="prompt_digits_all_split",
        what="every digit is a piece by itself, also where the vocabulary has pairs",
        needs=Needs(note="two digits of one such piece, as in Bengali"),
        run=_with(split=_cut_at(r"(?<=\d)(?=\d)")),
    ),
    RuleMutant(
        name="prompt_nfkc",
        what="the text is normalised by NFKC: a ligature becomes two letters",
        needs=Needs(note="a character that NFKC changes"),
        run=_with(text=lambda text: unicodedata.normalize("NFKC", text)),
    ),
    RuleMutant(
        name="prompt_nfc",
        what="the text is normalised by NFC: e and an accent become one letter",
        needs=Needs(note="a character that NFC changes"),
        run=_with(text=lambda text: unicodedata.normalize("NFC", text)),
    ),
    RuleMutant(
        name="prompt_no_byte_fallback",
        what="a character that the vocabulary does not have is <unk> instead of its bytes",
        needs=Needs(note="a character without a piece, as U+0007 or U+00A0"),
        run=_with(split=_by_model(_no_bytes)),
    ),
    RuleMutant(
        name="prompt_sentencepiece_alone",
        what="<bos>, <eos>, <pad>, <unk> and soft tokens are characters in the text",
        needs=Needs(note="one of these names, or a space beside a run of U+2581"),
        run=_with(split=lambda tokenizer, text: _alone(tokenizer).encode(text)),
    ),
]


def prompt_mistakes(got: Sequence[int], tokenizer: Tokenizer, prompt: Prompt) -> list[RuleMutant]:
    """Find the mistakes that make exactly these ids of a prompt.

    Args:
        got: ids that are not those of the prompt.
        tokenizer: Gemma 3's.
        prompt: what they are said to be made of.

    Returns:
        every mutant whose ids are `got`; none where they are the right ones.

    Raises:
        BadInput: as `encode`.

    Source: `PROMPT_MUTANTS`.
    """
    got = [int(token) for token in got]
    if got == encode(tokenizer, prompt):
        return []
    return [mutant for mutant in PROMPT_MUTANTS if mutant.run(tokenizer, prompt) == got]


def name_prompt_mistake(got: Sequence[int], tokenizer: Tokenizer, prompt: Prompt) -> RuleMutant | None:
    """Return the first of `prompt_mistakes`, or None.

    Args:
        got, tokenizer, prompt: as for `prompt_mistakes`.

    Raises:
        BadInput: as `encode`.

    Source: `PROMPT_MUTANTS`, in its order.
    """
    return next(iter(prompt_mistakes(got, tokenizer, prompt)), None)
