"""Images in a prompt: each marker `<start_of_image>` becomes the tokens that image features will take the place of."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from ref.config import END_OF_IMAGE, SOFT_TOKEN, START_OF_IMAGE, TWO_NEWLINES
from ref.errors import wanted
from ref.prompt.chat import MARKER, Message, forbid_control, render_chat
from ref.prompt.tokenizer import Control, Tokenizer
from ref.untrusted import is_integer

Layout = Literal["transformers", "gemma"]
MOST_CROPS = 512  # of an image, of 256 soft tokens each: the longest context
MOST_SOFT_TOKENS = 2**14  # of an image: four times the patches that the released towers see
LAYOUTS: tuple[Layout, ...] = ("transformers", "gemma")

_SOFT, _END = "<image_soft_token>", "<end_of_image>"
_WHERE = "prompt with images"  # in refusals


def expand_text(text: str, crops: Sequence[int], soft_tokens: int = 256) -> str:
    r"""Expand markers in the text, before it is tokenised: the layout of transformers.

        marker of an image           ->  SEQ = \n\n<start_of_image> M x <image_soft_token> <end_of_image>\n\n
        marker of one with n crops   ->  Here is the original image SEQ and here are some crops to help you see
                                         better SEQ SEQ ... (n times, a space between)

    Args:
        text: with one marker for each image, in order.
        crops: for each image the number of its Pan & Scan crops, 0 for none.
        soft_tokens: M, the rows of features of one image or crop.

    Returns:
        text with M * (images + crops) soft tokens. Tokenising it merges a run of newlines into one token: 109 after
        `user\n`, 110 between two images.

    Raises:
        BadInput: markers unlike images in number; a soft token in the text already; crops < 0, soft tokens < 1.

    Source: transformers 5.23 `Gemma3Processor.replace_image_token`.
    Differs: google-deepmind/gemma expands ids, see `expand_ids`. gemma_pytorch writes "here" small, without the spaces
        around images. llama.cpp writes no newlines. transformers lets a soft token in the text pass, and then fails
        in the model.
    """
    _check_soft_tokens(soft_tokens)
    return _word_crops(text, crops).replace(MARKER, f"\n\n{MARKER}{_SOFT * soft_tokens}{_END}\n\n")


def expand_ids(ids: Sequence[int], soft_tokens: int = 256) -> list[int]:
    """Expand markers in the token ids: the layout of google-deepmind/gemma.

        255999  ->  108, 255999, M x 262144, 256000, 108

    Args:
        ids: of one prompt, each image one token 255999.
        soft_tokens: M, the rows of features of one image or crop.

    Returns:
        ids, longer by M + 3 for each image; newlines beside an image stay tokens of their own.

    Raises:
        BadInput: a soft token among the ids already, as after a second expansion; soft tokens < 1.

    Source: google-deepmind/gemma 3.3.0 `gm/vision/_token_utils.py`, `add_extra_tokens_for_images`.
    Differs: it writes -2 for 262144, fills room for more images with 0, and loses an image that is the very first
        token. transformers expands text, see `expand_text`.
    """
    _check_soft_tokens(soft_tokens)
    array = np.array(ids, np.int64)
    if (array == SOFT_TOKEN).any():
        where = int((array == SOFT_TOKEN).argmax())
        raise wanted("ids", "expand_ids", "no soft token before images are put in", f"{SOFT_TOKEN} at index {where}")
    is_image = array == START_OF_IMAGE
    block = [TWO_NEWLINES, START_OF_IMAGE, *[SOFT_TOKEN] * soft_tokens, END_OF_IMAGE, TWO_NEWLINES]
    lengths = np.where(is_image, len(block), 1)
    out = np.repeat(array, lengths)
    out[np.repeat(is_image, lengths)] = block * int(is_image.sum())
    return out.tolist()


def with_markers(text: str, images: int) -> str:
    """Put the markers of all images before a text that has none: pictures first, as people show them.

    Args:
        text: what the user wrote. If it has markers, it is returned as it is.
        images: how many there are, crops not counted.

    Returns:
        text, directly after the markers; if it is empty, the markers with a space between.

    Source: transformers 5.23 `Gemma3Processor.prepare_inputs_layout` for the empty text; its chat template writes an
        image and the text after it in the same way.
    Differs: transformers refuses a text without markers; google-deepmind/gemma ignores images that have none.
    """
    if MARKER in text:
        return text
    return MARKER * images + text if text else " ".join([MARKER] * images)


def user_turn(text: str, images: int) -> Message:
    """Return a user's message for `encode_chat_with_images`: its images, then its text.

    Args:
        text: what the user wrote; a marker in it is text of theirs, which `control="forbid"` refuses.
        images: how many there are, crops not counted.

    Source: the order of the example conversations in google/gemma-3-*-it.
    """
    return {"role": "user", "content": [*[{"type": "image"}] * images, {"type": "text", "text": text}]}


def encode_with_images(
    tokenizer: Tokenizer,
    text: str,
    crops: Sequence[int],
    *,
    layout: Layout = "transformers",
    soft_tokens: int = 256,
    bos: bool = True,
    control: Control = "split",
) -> list[int]:
    """Encode a text with images.

    Args:
        tokenizer: Gemma 3's.
        text: with one marker for each image, in order; without any, the images stand first (`with_markers`).
        crops: for each image the number of its Pan & Scan crops, 0 for none.
        layout: "transformers" expands text, "gemma" ids. They differ in newlines beside images only.
        soft_tokens: M, the rows of features of one image or crop.
        bos: put `<bos>` first.
        control: what other control strings in the text become, as for `Tokenizer.encode`. "forbid" refuses markers
            too: then the images stand first.

    Returns:
        ids with M * (images + crops) soft tokens 262144, in runs of M: image 0, its crops, image 1, ...

    Raises:
        BadInput: as `expand_text` and `Tokenizer.encode`; an unknown layout.

    Source: `expand_text`, `expand_ids`.
    Differs: google-deepmind/gemma has no Pan & Scan; with crops, "gemma" here has transformers' words around markers.
    """
    _check_crops(crops)
    if control == "forbid":
        tokenizer.encode(text, bos=False, control=control)  # before any marker is put in: this refuses the user's
        control = "split"
    return _encode(tokenizer, with_markers(text, len(crops)), crops, layout, soft_tokens, bos, control)


def encode_chat_with_images(
    tokenizer: Tokenizer,
    messages: Sequence[Message],
    crops: Sequence[int],
    *,
    layout: Layout = "transformers",
    soft_tokens: int = 256,
    generation_prompt: bool = True,
    control: Control = "forbid",
) -> list[int]:
    """Encode a conversation with images, with one `<bos>` first.

    Args:
        tokenizer: Gemma 3's.
        messages: as for `render_chat`; each image is an item `{"type": "image"}`, in order (`user_turn` makes one).
        crops: for each image the number of its Pan & Scan crops, 0 for none.
        layout: as for `encode_with_images`.
        soft_tokens: M, the rows of features of one image or crop.
        generation_prompt: end with the opening of a model turn.
        control: as for `encode_chat`. Under "split" a marker in a text is an image too, as officially.

    Returns:
        ids, as `encode_with_images`.

    Raises:
        BadInput: as `encode_chat` and `encode_with_images`. An image that has no item is refused: nothing says in
            which turn it belongs.

    Source: transformers 5.23 `Gemma3Processor` with the official chat template.
    Differs: as `encode_chat` and `encode_with_images`.
    """
    text = render_chat(messages, generation_prompt=generation_prompt)
    if control == "forbid":
        forbid_control(messages)
        control = "split"
    return _encode(tokenizer, text, crops, layout, soft_tokens, True, control)


def _encode(tokenizer, text, crops, layout, soft_tokens, bos, control):
    if layout not in LAYOUTS:
        raise wanted("layout", _WHERE, " or ".join(LAYOUTS), layout)
    if layout == "transformers":
        return tokenizer.encode(expand_text(text, crops, soft_tokens), bos=bos, control=control)
    return expand_ids(tokenizer.encode(_word_crops(text, crops), bos=bos, control=control), soft_tokens)


def _word_crops(text, crops):
    """Write Pan & Scan's words around the markers of images that have crops; each crop has a marker of its own."""
    if _SOFT in text:
        got = f"one at character {text.index(_SOFT)}"
        raise wanted("text", _WHERE, f"no {_SOFT}: images bring their own", got)
    _check_crops(crops)
    before, *after = text.split(MARKER)
    if len(after) != len(crops):
        raise wanted("markers", _WHERE, f"{len(crops)} {MARKER}, one for each image", len(after))
    return before + "".join(_marker(count) + words for count, words in zip(crops, after, strict=True))


def _check_crops(crops):
    if isinstance(crops, str) or not hasattr(crops, "__len__"):
        raise wanted("crops", _WHERE, "a list, of each image how many", repr(crops))
    for count in crops:
        if not is_integer(count, 0, MOST_CROPS):
            many = is_integer(count, MOST_CROPS)
            raise wanted(
                "crops of an image", _WHERE, f"at most {MOST_CROPS}" if many else "an integer >= 0", repr(count)
            )


def _marker(crops):
    if crops == 0:
        return MARKER
    several = " ".join([MARKER] * crops)
    return f"Here is the original image {MARKER} and here are some crops to help you see better {several}"


def _check_soft_tokens(soft_tokens):
    if not is_integer(soft_tokens, 1, MOST_SOFT_TOKENS):
        raise wanted("soft tokens of an image", _WHERE, "an integer > 0", repr(soft_tokens))
