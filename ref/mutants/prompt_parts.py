"""How a prompt becomes ids, in parts that people get wrong one at a time.

The rules themselves are `ref.prompt.chat`, `ref.prompt.placeholders` and `ref.prompt.tokenizer`.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ref.config import BOS, START_OF_IMAGE
from ref.prompt.chat import MARKER, Message, encode_chat
from ref.prompt.placeholders import Layout, encode_chat_with_images, encode_with_images, with_markers
from ref.prompt.tokenizer import Tokenizer

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


class Parts(NamedTuple):
    """The rules, in parts that people get wrong one at a time."""

    opening: str = "<start_of_turn>{role}\n"
    closing: str = "<end_of_turn>\n"
    opened: str = "<start_of_turn>model\n"  # at the end, for the answer
    model: str = "model"
    system: Callable[[str], str] | None = "{}\n\n".format  # before the first turn's text; None: a turn of its own
    join: Callable[[list[str]], str] = "".join  # the items of a content
    trim: Callable[[str], str] = str.strip
    arrange: Callable[[str], str] = str  # the content of one turn, images as markers
    words: Callable[[int], str] = lambda crops: words(crops, "Here is the original image ", AND)
    image: str = f"\n\n{MARKER}{{soft}}<end_of_image>\n\n"
    more: int = 0  # soft tokens
    text: Callable[[str], str] = str  # the whole, before it is split
    split: Callable[[Tokenizer, str], Ids] = lambda tokenizer, text: tokenizer.encode(text, bos=False)
    front: tuple[int, ...] = (BOS,)


AND = " and here are some crops to help you see better "


def words(crops: int, before: str, between: str, space: str = " ") -> str:
    """Write the words around an image with crops; a marker where there are none."""
    return f"{before}{MARKER}{between}{space.join([MARKER] * crops)}" if crops else MARKER


def run_parts(tokenizer: Tokenizer, prompt: Prompt, parts: Parts) -> Ids:
    """Encode a prompt by the parts."""
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


def _written(prompt: Prompt, parts: Parts) -> str:
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


def _joined(content: Any, parts: Parts) -> str:
    if isinstance(content, str):
        return parts.trim(content)
    return parts.join([MARKER if item["type"] == "image" else parts.trim(item["text"]) for item in content])


def changed(**changes):
    """Make a mutant that does some parts otherwise."""
    parts = Parts(**changes)
    return lambda tokenizer, prompt: run_parts(tokenizer, prompt, parts)


def laid_out(layout: Layout):
    """Make a mutant that has one layout of newlines, whatever was asked for."""
    return lambda tokenizer, prompt: run_parts(tokenizer, prompt._replace(layout=layout), Parts())
