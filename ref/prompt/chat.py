"""The chat template: messages to the turns that the instruction-tuned models were trained on."""

from collections.abc import Mapping, Sequence
from typing import Any

from ref.config import END_OF_TURN, EOS
from ref.errors import wanted
from ref.prompt.tokenizer import Control, Tokenizer, find_control

Message = Mapping[str, Any]  # {"role": "system" | "user" | "assistant" | "model", "content": text or list of items}

MARKER = "<start_of_image>"  # says where an image stands


def render_chat(messages: Sequence[Message], *, generation_prompt: bool = True) -> str:
    r"""Write a conversation as the text of its turns, without `<bos>`.

        <start_of_turn>user\n{system}\n\n{content}<end_of_turn>\n<start_of_turn>model\n{content}<end_of_turn>\n...

    Args:
        messages: an optional system message, then user and assistant (or model) in turn. `content` is text or
            a list of `{"type": "text", "text": ...}` and `{"type": "image"}`; an image is `<start_of_image>`.
        generation_prompt: end with the opening of a model turn.

    Returns:
        text whose control strings are to become tokens. Those of a message's content cannot be told apart any
        more: `encode_chat` refuses them first.

    Raises:
        BadInput: no user message, roles that do not alternate, or content of another kind, with the index.

    Source:
        `chat_template` in `tokenizer_config.json` of google/gemma-3-*-it. There is no system turn: its text,
        not trimmed, stands before the first user's. Other texts are trimmed, each item of a list by itself.

    Differs:
        The template accepts any name for the second role, and drops all but the first item of a system list;
        both are refused here. It trims as Python's `str.strip` does, so U+00A0 and U+001C too.
    """
    system, turns = _split_system(messages)
    parts = []
    for index, message in turns:
        role = "model" if len(parts) % 2 else "user"
        _check_role(message, index, role)
        prefix = "" if parts else system
        parts.append(f"<start_of_turn>{role}\n{prefix}{_content(message, index, MARKER)}<end_of_turn>\n")
    return "".join(parts) + ("<start_of_turn>model\n" if generation_prompt else "")


def encode_chat(
    tokenizer: Tokenizer,
    messages: Sequence[Message],
    *,
    generation_prompt: bool = True,
    control: Control = "forbid",
) -> list[int]:
    """Encode a conversation, with one `<bos>` (2) first.

    Args:
        tokenizer: Gemma 3's.
        messages, generation_prompt: as for `render_chat`.
        control: what control strings inside a message's content become. "forbid" (default) refuses them:
            `<end_of_turn>` in a user's text would forge a turn. "split" makes them tokens, as the official
            template does; then `<bos>` in a content is one more token 2.

    Raises:
        BadInput: as `render_chat` and `Tokenizer.encode`, or a control string in a message's content.

    Differs:
        The official template writes `<bos>` into the text; encoding that with special tokens added gives two.
    """
    text = render_chat(messages, generation_prompt=generation_prompt)
    if control == "forbid":
        forbid_control(messages)
        control = "split"
    return tokenizer.encode(text, bos=True, control=control)


def forbid_control(messages: Sequence[Message]) -> None:
    """Refuse a conversation with a control string in a message's content: rendered, it could not be told apart.

    Args:
        messages: as for `render_chat`; image items are no content.

    Raises:
        BadInput: the message's index, the string, and its character position in the trimmed and joined texts.
    """
    for index, message in enumerate(messages):
        # Checked as joined: two items of a list may form a control string together.
        if found := find_control(_content(message, index, "\n")):
            raise wanted("content", f"message {index}", "no control string", f"{found[1]} at character {found[0]}")


def stop_ids(instruction_tuned: bool) -> tuple[int, ...]:
    """Return the ids that end a generation: `<eos>`, and for instruction-tuned models `<end_of_turn>` too.

    Source:
        `generation_config.json`: eos_token_id 1 for google/gemma-3-*-pt, [1, 106] for -it.

    Differs:
        google-deepmind/gemma 3.3.0 also stops at 50, a tool marker.
    """
    return (EOS, END_OF_TURN) if instruction_tuned else (EOS,)


def _split_system(messages: Sequence[Message]) -> tuple[str, list[tuple[int, Message]]]:
    """Return the first user turn's prefix, and the other messages with their indices."""
    if isinstance(messages, str) or not isinstance(messages, Sequence):
        raise wanted("messages", "chat", "a list of messages", type(messages).__name__)
    turns = list(enumerate(messages))
    prefix = ""
    if turns and _field(turns[0][1], 0, "role") == "system":
        prefix = _system_text(turns.pop(0)[1]) + "\n\n"
    if not turns:
        raise wanted("messages", "chat", "at least one message of the user", f"{len(messages)} messages")
    return prefix, turns


def _system_text(message: Message) -> str:
    content = _field(message, 0, "content")
    if isinstance(content, str):
        return content
    items = _items(content, 0)
    if len(items) != 1 or items[0] is None:
        raise wanted("content", "message 0", "one text (system)", f"{len(items)} items")
    return items[0]


def _content(message: Message, index: int, image: str) -> str:
    """Return the trimmed content, with `image` standing for each image."""
    content = _field(message, index, "content")
    if isinstance(content, str):
        return content.strip()
    return "".join(image if text is None else text.strip() for text in _items(content, index))


def _items(content: object, index: int) -> list[str | None]:
    """Return a content list's texts, with None for each image."""
    where = f"message {index}"
    if not isinstance(content, list | tuple):
        raise wanted("content", where, "a string or a list", type(content).__name__)
    texts: list[str | None] = []
    for item in content:
        kind = item.get("type") if isinstance(item, Mapping) else None
        text = item.get("text") if kind == "text" else None
        if kind != "image" and not isinstance(text, str):
            raise wanted("content item", where, "a text or an image", repr(item))
        texts.append(text)
    return texts


def _check_role(message: Message, index: int, role: str) -> None:
    accepted = ("user",) if role == "user" else ("assistant", "model")
    got = _field(message, index, "role")
    if got not in accepted:
        want = f"{' or '.join(accepted)} (roles alternate, the user first)"
        raise wanted("role", f"message {index}", want, repr(got))


def _field(message: Message, index: int, name: str) -> Any:
    if not isinstance(message, Mapping) or name not in message:
        raise wanted(name, f"message {index}", f"a mapping with {name!r}", repr(message))
    return message[name]
