"""Images in prompts: official ids of transformers, published facts of google-deepmind/gemma, and laws."""

import json
from itertools import groupby

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.soft_tokens import SOFT, Spy, block

from ref.config import END_OF_IMAGE, SOFT_TOKEN, START_OF_IMAGE
from ref.golden_files.files import golden_root, read_checked
from ref.prompt.chat import encode_chat
from ref.prompt.placeholders import (
    LAYOUTS,
    MARKER,
    encode_chat_with_images,
    encode_with_images,
    expand_ids,
    expand_text,
    user_turn,
    with_markers,
)

GOLDEN = read_checked(golden_root() / "tokens" / "images.json", "token_images")["cases"]
BY_NAME = pytest.mark.parametrize("case", GOLDEN, ids=[case["name"] for case in GOLDEN])
SPEC = {"role": "system", "content": "You are a helpful assistant."}


def images_in(ids, soft_tokens):
    """Count images by their runs of soft tokens."""
    lengths = [len(list(group)) for token, group in groupby(ids) if token == SOFT_TOKEN]
    assert not [length for length in lengths if length % soft_tokens]
    return sum(lengths) // soft_tokens


def collapse(ids):
    """Undo the expansion, one token at a time: from each 255999 back over one 108 and on past the next 256000, 108."""
    out, rest = [], list(ids)
    while rest:
        token = rest.pop(0)
        if token == 255999:
            assert out.pop() == 108
            while rest.pop(0) != 256000:
                pass
            assert rest.pop(0) == 108
        out.append(token)
    return out


def unpacked(ids):
    """A golden's ids, its pairs [id, count] written out."""
    return [token for part in ids for token in ([part[0]] * part[1] if isinstance(part, list) else [part])]


def encode(tokenizer, case, layout="transformers"):
    """Encode a golden's case; the two layouts differ in the newlines beside images only."""
    settings = {"layout": layout, "soft_tokens": case["soft_tokens"]}
    if "messages" not in case:
        return encode_with_images(tokenizer, case["text"] or "", case["crops"], **settings)
    settings["control"] = "split" if isinstance(case["messages"][0]["content"], str) else "forbid"
    settings["generation_prompt"] = case["generation_prompt"]
    return encode_chat_with_images(tokenizer, case["messages"], case["crops"], **settings)


@pytest.mark.weights
@BY_NAME
def test_ids_as_the_official_processor(real, case):
    ids = encode(real, case)
    assert ids == unpacked(case["ids"])
    assert images_in(ids, case["soft_tokens"]) == len(case["crops"]) + sum(case["crops"])


@pytest.mark.weights
@BY_NAME
def test_the_gemma_layout_differs_in_newlines_only(real, case):
    if not any(case["crops"]):
        plain = collapse(encode(real, case, "gemma"))
        assert plain == case["plain"]
        assert encode(real, case, "gemma") == expand_ids(plain, case["soft_tokens"])
    newlines = {106 + count: count for count in range(1, 32)}
    spelled = [
        [part for token in ids for part in ([107] * newlines[token] if token in newlines else [token])]
        for ids in (encode(real, case), encode(real, case, "gemma"))
    ]
    assert spelled[0] == spelled[1]


@pytest.mark.weights
def test_full_example_of_the_specification(real):
    messages = [SPEC, user_turn("What is shown in this image?", 1)]
    turn = [2, 105, 2364, 107, 3048, 659, 496, 11045, 16326, 236761]
    rest = [3689, 563, 3505, 528, 672, 2471, 236881, 106, 107, 105, 4368, 107]
    image = [255999, 262144, 262144, 262144, 256000, 108]
    assert encode_chat_with_images(real, messages, [0], soft_tokens=3) == [*turn, 110, *image, *rest]
    assert encode_chat_with_images(real, messages, [0], soft_tokens=3, layout="gemma") == [
        *[*turn, 108, 108],
        *image,
        *rest,
    ]
    without = encode_chat(real, [SPEC, {"role": "user", "content": "What is shown in this image?"}])
    assert encode_chat_with_images(real, [SPEC, user_turn("What is shown in this image?", 0)], []) == without


@pytest.mark.weights
def test_words_of_pan_and_scan_as_in_the_specification(real):
    ids = encode_with_images(real, "", [2], soft_tokens=1)
    before, between = [8291, 563, 506, 3303, 2471, 236743], [532, 1590, 659, 1070, 20859, 531, 1601, 611, 1460]
    assert ids == [2, *before, *block(1), *between, 2480, 236743, *block(1), 236743, *block(1)]


@pytest.mark.weights
def test_an_image_without_a_marker_stands_first(real):
    explicit = encode_with_images(real, f"{MARKER}What is this?", [0])
    assert encode_with_images(real, "What is this?", [0]) == explicit
    assert encode_with_images(real, "What is this?", [0], control="forbid") == explicit
    two = encode_with_images(real, "Which?", [0, 0], bos=False)
    assert two[:2] == [108, START_OF_IMAGE]
    assert two[256 + 2 : 256 + 5] == [END_OF_IMAGE, 110, START_OF_IMAGE]


@pytest.mark.parametrize(
    ("ids", "expanded"),
    [
        ([1, 2, 3, 4, 5], [1, 2, 3, 4, 5]),
        ([1, 2, 3, 255999, 4], [1, 2, 3, *block(3), 4]),
        ([1, 2, 3, 255999, 255999], [1, 2, 3, *block(3), *block(3)]),
        ([1, 255999, 2, 255999, 3], [1, *block(3), 2, *block(3), 3]),
        ([255999], block(3)),
        ([], []),
    ],
)
def test_expansion_of_ids_as_the_unit_tests_of_gemma(ids, expanded):
    assert expand_ids(ids, 3) == expanded


def test_an_image_has_256_soft_tokens():
    assert expand_ids([START_OF_IMAGE]) == block(256)
    assert expand_text(MARKER, [0]) == f"\n\n{MARKER}{SOFT * 256}<end_of_image>\n\n"


tokens = st.lists(st.one_of(st.just(START_OF_IMAGE), st.just(108), st.integers(0, 262_143)), max_size=30).map(
    lambda ids: [2 if token == END_OF_IMAGE else token for token in ids]
)


@given(ids=tokens, soft_tokens=st.integers(1, 5))
@example(ids=[108, START_OF_IMAGE, 108, START_OF_IMAGE, START_OF_IMAGE], soft_tokens=1)
def test_expanded_ids_hold_m_soft_tokens_an_image_and_collapse_to_what_they_were(ids, soft_tokens):
    images = ids.count(START_OF_IMAGE)
    expanded = expand_ids(ids, soft_tokens)
    assert len(expanded) == len(ids) + images * (soft_tokens + 3)
    assert expanded.count(SOFT_TOKEN) == images * soft_tokens
    assert images_in(expanded, soft_tokens) == images
    assert collapse(expanded) == ids
    assert all(type(token) is int for token in expanded)


words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="<>"), max_size=10)


@st.composite
def prompts(draw):
    """A text with markers, its words, and the crops of each image."""
    crops = draw(st.lists(st.integers(0, 4), max_size=4))
    return draw(st.lists(words, min_size=len(crops) + 1, max_size=len(crops) + 1)), crops


@given(prompt=prompts(), soft_tokens=st.integers(1, 4))
def test_expanded_text_keeps_the_words_and_has_m_soft_tokens_an_image_and_crop(prompt, soft_tokens):
    texts, crops = prompt
    expanded = expand_text(MARKER.join(texts), crops, soft_tokens)
    assert expanded.count(SOFT) == soft_tokens * (len(crops) + sum(crops))
    assert expanded.count(MARKER) == expanded.count("<end_of_image>") == len(crops) + sum(crops)
    image = f"\n\n{MARKER}{SOFT * soft_tokens}<end_of_image>\n\n"
    rest = expanded
    for words, count in zip(texts, [*crops, None], strict=True):
        assert rest.startswith(words)
        rest = rest[len(words) :]
        if count is not None:
            shown = image
            if count:
                shown = "Here is the original image " + image + " and here are some crops to help you see better "
                shown += image + (" " + image) * (count - 1)
            assert rest.startswith(shown)
            rest = rest[len(shown) :]
    assert rest == ""


@given(text=words, soft_tokens=st.integers(1, 300))
def test_a_text_without_images_is_unchanged(text, soft_tokens):
    assert expand_text(text, [], soft_tokens) == with_markers(text, 0) == text
    assert encode_with_images(Spy(), text, [], soft_tokens=soft_tokens) == (text, True, "split")


@pytest.mark.weights
@given(prompt=prompts(), soft_tokens=st.integers(1, 4))
def test_both_layouts_have_the_same_soft_tokens_in_the_same_runs(real, prompt, soft_tokens):
    texts, crops = prompt
    text = MARKER.join(texts)
    for layout in LAYOUTS:
        ids = encode_with_images(real, text, crops, layout=layout, soft_tokens=soft_tokens)
        assert images_in(ids, soft_tokens) == len(crops) + sum(crops)
        assert ids.count(START_OF_IMAGE) == ids.count(END_OF_IMAGE) == len(crops) + sum(crops)
        assert ids[0] == 2
        back = real.decode(ids[1:]).replace("\u2581", " ")
        assert back == expand_text(text, crops, soft_tokens).replace("\u2581", " ")


def test_the_golden_is_readable():
    assert len(json.dumps(GOLDEN)) < 20_000
    assert {case["soft_tokens"] for case in GOLDEN} >= {1, 3, 256}
    assert {count for case in GOLDEN for count in case["crops"]} == {0, 2, 3, 4}
