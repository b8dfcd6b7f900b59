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


S91, E14 = "GEMMA3_SPEC 9.1", "ECOSYSTEM 1.4"
_CHAT, _SYSTEM, _IMAGE, _CROPS = "a chat", "a chat with a system text", "an image", "an image with crops"
_GPT = "gemma_pytorch scripts/run_multimodal.py"
PROMPT_MUTANTS: list[RuleMutant] = [
    # the beginning
    RuleMutant(
        "prompt_no_bos", "there is no <bos> before the prompt", f"{S91} (40); {E14}", "any prompt", _with(front=())
    ),
    RuleMutant(
        "prompt_two_bos",
        "there are two <bos>: the chat template writes one, and the tokenizer adds one",
        f"{S91} (40); GEMMA3_SPEC 9 (13); litgpt 1031; unsloth-zoo 121",
        "any prompt",
        _with(front=(BOS, BOS)),
    ),
    RuleMutant(
        "prompt_bos_as_text",
        "the report's [BOS] is written into the text and becomes four tokens",
        f"{S91} (40); GEMMA3_SPEC 5.3",
        "any prompt",
        _with(front=(), text="[BOS]{}".format),
    ),
    RuleMutant(
        "prompt_bos_as_characters",
        "<bos> in the text is read as characters, as SentencePiece by itself does",
        "golden/tokens/ids.json, differs",
        "any prompt",
        _with(front=(), split=_bos_as_characters),
    ),
    # turns
    RuleMutant(
        "prompt_no_newline_after_role",
        "the newline after user and model is missing",
        f"{S91} (41)",
        _CHAT,
        _with(opening="<start_of_turn>{role}", opened="<start_of_turn>model"),
    ),
    RuleMutant(
        "prompt_space_after_role",
        "a space stands for the newline after the role, and the last one has nothing",
        f"{S91} (41); {_GPT}",
        _CHAT,
        _with(opening="<start_of_turn>{role} ", opened="<start_of_turn>model"),
    ),
    RuleMutant(
        "prompt_no_newline_at_end",
        "the newline after the last model is missing",
        f"{S91} (41); {_GPT}",
        "a chat with a generation prompt",
        _with(opened="<start_of_turn>model"),
    ),
    RuleMutant(
        "prompt_no_newline_after_turn",
        "the newline after <end_of_turn> is missing",
        f"{S91} (41)",
        _CHAT,
        _with(closing="<end_of_turn>"),
    ),
    RuleMutant(
        "prompt_turns_as_characters",
        "<start_of_turn> and <end_of_turn> are read as characters",
        "unsloth 5070 and 4014 (GGUF types them NORMAL); GEMMA3_SPEC 9 (17)",
        "a chat, or these names in a text",
        _with(split=_by_model(_turns_normal)),
    ),
    RuleMutant(
        "prompt_role_assistant",
        "the model's turns are named assistant",
        f"{E14}, wrong turn tokens",
        "a chat with an answer in it, or a generation prompt",
        _with(model="assistant", opened="<start_of_turn>assistant\n"),
    ),
    RuleMutant(
        "prompt_assistant_in_history",
        "only the answers so far are named assistant",
        f"{E14}, wrong turn tokens",
        "a chat with an answer in it",
        _with(model="assistant"),
    ),
    RuleMutant(
        "prompt_model_not_opened",
        "no model turn is opened at the end",
        "transformers' add_generation_prompt, false by default",
        "a chat with a generation prompt",
        _with(opened=""),
    ),
    RuleMutant(
        "prompt_escaped_newlines",
        r"\n is two characters, as a shell and a program without --escape pass it on",
        "llama.cpp PR 11058 and 7255; llamafile 58",
        "a newline, as any chat has",
        _with(text=lambda text: text.replace("\n", r"\n")),
    ),
    # system text and contents
    RuleMutant(
        "prompt_system_as_turn",
        "the system text has a turn of its own, named system",
        f"{S91} (41)",
        _SYSTEM,
        _with(system=None),
    ),
    RuleMutant(
        "prompt_system_dropped",
        "the system text is left out",
        "Gemma 1 and 2's templates, which refuse it (ollama 2636)",
        _SYSTEM,
        _with(system=_system_dropped),
    ),
    RuleMutant(
        "prompt_no_blank_line_after_system",
        "nothing stands between the system text and the user's",
        f"{S91} (41)",
        _SYSTEM,
        _with(system=str),
    ),
    RuleMutant(
        "prompt_one_newline_after_system",
        "one newline stands between the system text and the user's",
        f"{S91} (41)",
        _SYSTEM,
        _with(system="{}\n".format),
    ),
    RuleMutant(
        "prompt_system_trimmed",
        "the system text is trimmed, too, and an empty one adds no blank line",
        "llama.cpp src/llama-chat.cpp, LLM_CHAT_TEMPLATE_GEMMA",
        "a system text that is empty or has white space around it",
        _with(system=lambda text: f"{text.strip()}\n\n" if text.strip() else ""),
    ),
    RuleMutant(
        "prompt_not_trimmed",
        "contents are not trimmed",
        f"{S91} (41), no strip",
        "a chat whose content has white space around it",
        _with(trim=str),
    ),
    RuleMutant(
        "prompt_items_by_newline",
        "the items of a content are joined by newlines",
        "llama.cpp common/chat.cpp",
        "a content of two items",
        _with(join="\n".join),
    ),
    RuleMutant(
        "prompt_items_by_space",
        "the items of a content are joined by spaces",
        "mlx-vlm PR 1137",
        "a content of two items",
        _with(join=" ".join),
    ),
    # images
    RuleMutant(
        "prompt_newlines_apart",
        "newlines beside an image are tokens of their own, as in google-deepmind/gemma",
        f"{S91} (43); vLLM PR 14980",
        "layout transformers, and an image with a newline beside it, as in a chat",
        _laid_out("gemma"),
    ),
    RuleMutant(
        "prompt_newlines_merged",
        "newlines beside an image are merged with the image's, as in transformers",
        f"{S91} (43); vLLM PR 14980",
        "layout gemma, and an image with a newline beside it, as in a chat",
        _laid_out("transformers"),
    ),
    RuleMutant(
        "prompt_no_newlines_around_image",
        "an image has no blank lines around it",
        f"{S91} (43); llama.cpp tools/mtmd",
        _IMAGE,
        _with(image=f"{MARKER}{{soft}}<end_of_image>"),
    ),
    RuleMutant(
        "prompt_soft_tokens_less", "an image has one soft token less: 255", f"{S91} (43)", _IMAGE, _with(more=-1)
    ),
    RuleMutant(
        "prompt_soft_tokens_more", "an image has one soft token more: 257", f"{S91} (43)", _IMAGE, _with(more=1)
    ),
    RuleMutant(
        "prompt_image_markers_swapped",
        "<end_of_image> begins an image, and <start_of_image> ends it",
        f"{S91} (43)",
        _IMAGE,
        _with(image=f"\n\n<end_of_image>{{soft}}{MARKER}\n\n"),
    ),
    RuleMutant(
        "prompt_end_of_image_262144",
        "<end_of_image> is 262144, a stale constant; it is 256000",
        f"{S91} (43); GEMMA3_SPEC 9 (22): google-deepmind/gemma `_vision.py`; MaxText 2179",
        _IMAGE,
        _with(image=f"\n\n{MARKER}{{soft}}{SOFT}\n\n"),
    ),
    RuleMutant(
        "prompt_images_last",
        "images come after the text of their turn, wherever they stood",
        "mlx-vlm 98 (Pixtral)",
        "an image with something of its turn behind it",
        _with(arrange=_images(False)),
    ),
    RuleMutant(
        "prompt_images_first",
        "images come before the text of their turn, wherever they stood",
        "ollama server/prompt.go, which puts [img-0] before a message",
        "an image with something of its turn before it",
        _with(arrange=_images(True)),
    ),
    RuleMutant(
        "prompt_crops_not_told",
        "an image with crops is one image in the prompt",
        "ms-swift 3972; GEMMA3_SPEC 4.7",
        _CROPS,
        _with(words=lambda crops: MARKER),
    ),
    RuleMutant(
        "prompt_crops_without_whole",
        "of an image with crops only the crops are in the prompt",
        f"{S91} (39), crops without the original",
        _CROPS,
        _with(words=lambda crops: " ".join([MARKER] * max(1, crops))),
    ),
    RuleMutant(
        "prompt_crops_in_small_words",
        "a variant: the words around crops begin small and have no spaces",
        "gemma_pytorch `gemma3_preprocessor.py`",
        _CROPS,
        _with(words=lambda crops: _words(crops, "here is the original image", _AND.strip(), "")),
    ),
    # the tokenizer
    RuleMutant(
        "prompt_dummy_prefix",
        "a space is put before the text: SentencePiece's add_dummy_prefix",
        f"{S91} (45); GEMMA3_SPEC 5.1",
        "any prompt but the empty text",
        _with(text=lambda text: text and " " + text),
    ),
    RuleMutant(
        "prompt_spaces_after_control",
        "a space is put before the text and after every control token",
        "llama.cpp src/llama-vocab.cpp, add_space_prefix after special tokens",
        "any prompt but the empty text",
        _with(text=_spaces_after_control),
    ),
    RuleMutant(
        "prompt_spaces_collapsed",
        "runs of spaces become one, and those around the text go",
        "SentencePiece's default remove_extra_whitespaces; GEMMA3_SPEC 5.1",
        "two spaces in a row, or one at an end of the text",
        _with(text=lambda text: re.sub(" +", " ", text).strip(" ")),
    ),
    RuleMutant(
        "prompt_space_runs_split",
        "a run of spaces is a token for each",
        f"{S91} (45)",
        "two spaces in a row",
        _with(split=_cut_at("(?<= )(?= )")),
    ),
    RuleMutant(
        "prompt_newline_runs_split",
        "a run of newlines is a token for each",
        f"{S91} (45)",
        "two newlines in a row, as around any image",
        _with(split=_cut_at("(?<=\n)(?=\n)")),
    ),
    RuleMutant(
        "prompt_digits_grouped",
        "digits in a row are one piece, which the vocabulary does not have: <unk>",
        f"{S91} (45); pre-tokenizers of other models",
        "two ASCII digits in a row",
        _with(split=_by_parts(_grouped_digits)),
    ),
    RuleMutant(
        "prompt_digits_all_split",
        "every digit is a piece by itself, also where the vocabulary has pairs",
        "GEMMA3_SPEC 5.1: 304 pieces are of digits, some of two",
        "two digits of one such piece, as in Bengali",
        _with(split=_cut_at(r"(?<=\d)(?=\d)")),
    ),
    RuleMutant(
        "prompt_nfkc",
        "the text is normalised by NFKC: a ligature becomes two letters",
        f"{S91} (45); SentencePiece's default nmt_nfkc",
        "a character that NFKC changes",
        _with(text=lambda text: unicodedata.normalize("NFKC", text)),
    ),
    RuleMutant(
        "prompt_nfc",
        "the text is normalised by NFC: e and an accent become one letter",
        "GEMMA3_SPEC 5.1; tokenizers of other models",
        "a character that NFC changes",
        _with(text=lambda text: unicodedata.normalize("NFC", text)),
    ),
    RuleMutant(
        "prompt_no_byte_fallback",
        "a character that the vocabulary does not have is <unk> instead of its bytes",
        f"{S91} (45)",
        "a character without a piece, as U+0007 or U+00A0",
        _with(split=_by_model(_no_bytes)),
    ),
    RuleMutant(
        "prompt_sentencepiece_alone",
        "<bos>, <eos>, <pad>, <unk> and soft tokens are characters in the text",
        "golden/tokens/ids.json, differs",
        "one of these names, or a space beside a run of U+2581",
        _with(split=lambda tokenizer, text: _alone(tokenizer).encode(text)),
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
