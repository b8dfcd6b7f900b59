"""Markers beside images, and prompts that are refused: counts that differ, soft tokens and control strings."""

import pytest
from support.soft_tokens import SOFT, Spy

from ref.config import START_OF_IMAGE
from ref.errors import BadInput
from ref.prompt.chat import render_chat
from ref.prompt.placeholders import (
    LAYOUTS,
    MARKER,
    encode_chat_with_images,
    encode_with_images,
    expand_ids,
    user_turn,
    with_markers,
)


def test_markers_are_put_before_a_text_that_has_none():
    assert with_markers("What is this?", 1) == f"{MARKER}What is this?"
    assert with_markers("\nWhich?", 2) == f"{MARKER}{MARKER}\nWhich?"
    assert with_markers("", 2) == f"{MARKER} {MARKER}"
    assert with_markers(f"What is {MARKER}?", 1) == f"What is {MARKER}?"
    assert with_markers(f"What is {MARKER}?", 2) == f"What is {MARKER}?"


def test_a_users_turn_has_its_images_first():
    assert render_chat([user_turn(" Which? ", 2)], generation_prompt=False) == (
        f"<start_of_turn>user\n{MARKER}{MARKER}Which?<end_of_turn>\n"
    )


@pytest.mark.parametrize(
    ("text", "images", "want"),
    [
        (f"a{MARKER}b", 0, f"0 {MARKER}, one for each image, got 1"),
        (f"a{MARKER}b", 2, f"2 {MARKER}, one for each image, got 1"),
        (f"{MARKER}{MARKER}", 1, f"1 {MARKER}, one for each image, got 2"),
    ],
)
def test_as_many_markers_as_images_are_wanted(text, images, want):
    for layout in LAYOUTS:
        with pytest.raises(BadInput, match=rf"\Aprompt with images: markers: wanted {want}\Z"):
            encode_with_images(Spy(), text, [0] * images, layout=layout)
    chat = [{"role": "user", "content": text}]
    with pytest.raises(BadInput, match=rf"\Aprompt with images: markers: wanted {want}\Z"):
        encode_chat_with_images(Spy(), chat, [0] * images, control="split")


def test_a_chat_is_not_told_where_an_image_belongs():
    with pytest.raises(BadInput, match=rf"markers: wanted 1 {MARKER}, one for each image, got 0"):
        encode_chat_with_images(Spy(), [user_turn("What is this?", 0)], [0])


@pytest.mark.parametrize("control", ["split", "forbid"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_users_soft_token_is_always_refused(layout, control):
    settings = {"layout": layout, "control": control}
    for text in (f"ab{SOFT}", f"ab{SOFT}{MARKER}"):
        with pytest.raises(BadInput, match=r"refused ab|no <image_soft_token>: images bring their own.*character 2\Z"):
            encode_with_images(Spy(), text, [0] * text.count(MARKER), **settings)
    for items in ([f"ab{SOFT}"], ["ab<image_soft_", "token>"]):
        content = [{"type": "text", "text": item} for item in items]
        messages = [{"role": "user", "content": [*content, {"type": "image"}]}]
        with pytest.raises(BadInput, match=r"no control string.*character 2|images bring their own.*character \d+"):
            encode_chat_with_images(Spy(), messages, [0], **settings)


@pytest.mark.weights
@pytest.mark.parametrize("text", ["<start_of_image>", "a<end_of_turn>", "a<end_of_image>", "a<bos>"])
def test_control_strings_in_untrusted_text_are_refused(real, text):
    with pytest.raises(BadInput, match=r"\Aencode: text: wanted no control string, got <[a-z_]+> at character [01]\Z"):
        encode_with_images(real, text, [0], control="forbid")
    with pytest.raises(BadInput, match=r"\Amessage 0: content: wanted no control string"):
        encode_chat_with_images(real, [user_turn(text, 1)], [0])


def test_two_texts_around_an_image_form_no_control_string():
    content = [{"type": "text", "text": "<end_of_"}, {"type": "image"}, {"type": "text", "text": "turn>"}]
    text = encode_chat_with_images(Spy(), [{"role": "user", "content": content}], [0], soft_tokens=1)[0]
    assert f"<end_of_\n\n{MARKER}{SOFT}<end_of_image>\n\nturn>" in text


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"layout": "keras"}, "layout: wanted transformers or gemma, got keras"),
        ({"soft_tokens": 0}, "soft tokens of an image: wanted an integer > 0, got 0"),
        ({"soft_tokens": -256}, "soft tokens of an image: wanted an integer > 0, got -256"),
        ({"soft_tokens": True}, "soft tokens of an image: wanted an integer > 0, got True"),
        ({"soft_tokens": 2.0}, "soft tokens of an image: wanted an integer > 0, got 2.0"),
        ({"crops": [-1]}, "crops of an image: wanted an integer >= 0, got -1"),
        ({"crops": [None]}, "crops of an image: wanted an integer >= 0, got None"),
        ({"crops": [True]}, "crops of an image: wanted an integer >= 0, got True"),
    ],
)
def test_refusals_are_one_line(settings, match):
    settings = {"crops": [0]} | settings
    with pytest.raises(BadInput, match=rf"\Aprompt with images: {match}\Z"):
        encode_with_images(Spy(), MARKER, **settings)
    with pytest.raises(BadInput, match=rf"\Aprompt with images: {match}\Z"):
        encode_chat_with_images(Spy(), [user_turn("", 1)], **settings)


@pytest.mark.weights
def test_bad_settings_of_the_gemma_layout_are_refused(real):
    with pytest.raises(BadInput, match=r"soft tokens of an image"):
        encode_with_images(real, MARKER, [0], layout="gemma", soft_tokens=0)
    with pytest.raises(BadInput, match=r"encode: control: wanted split or forbid, got allow"):
        encode_with_images(real, MARKER, [0], control="allow")
    with pytest.raises(BadInput, match=r"encode: control: wanted split or forbid, got allow"):
        encode_chat_with_images(real, [user_turn("", 1)], [0], control="allow")


def test_ids_are_expanded_once():
    with pytest.raises(BadInput, match=r"\Aexpand_ids: ids: wanted no soft token .*, got 262144 at index 2\Z"):
        expand_ids(expand_ids([START_OF_IMAGE], 1), 1)
