"""Mistakes in prompts: piece by piece, hidden where their need is not met, caught by goldens, found by their ids."""

import re
import unicodedata
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ref.mutants.prompt_parts import Parts, Prompt, encode, run_parts
from ref.mutants.prompts import PROMPT_MUTANTS, name_prompt_mistake, prompt_mistakes
from ref.prompt.chat import MARKER, render_chat
from ref.prompt.placeholders import LAYOUTS, expand_text, with_markers
from ref.testing.catches.prompts import kills, prompt_goldens
from ref.weights.resolve import default_tokenizer

MUTANTS = {mutant.name: mutant for mutant in PROMPT_MUTANTS}


@pytest.fixture(scope="module")
def real():
    return default_tokenizer("tests")


def user(*content):
    return {"role": "user", "content": content[0] if len(content) == 1 and content[0] is not IMAGE else items(content)}


def items(content):
    return [part if part is IMAGE else {"type": "text", "text": part} for part in content]


IMAGE = {"type": "image"}
BRIEF = {"role": "system", "content": "Be brief."}
HI = Prompt([user("Hi")])
ASKED = Prompt([user("Hi"), {"role": "assistant", "content": "Yes"}, user("Hi")], generation_prompt=False)
TOLD = Prompt([BRIEF, user("Hi")], generation_prompt=False)
SEEN = Prompt([user(IMAGE, "Hi")], (0,), soft_tokens=2, generation_prompt=False)
CROPS = Prompt(MARKER, (2,), soft_tokens=1)

B, S, E = ("<bos>",), ("<start_of_turn>",), ("<end_of_turn>",)
USER, MODEL, CLOSE = (*S, "user", "\n"), (*S, "model", "\n"), (*E, "\n")
BEGIN, SOFT, END = "<start_of_image>", "<image_soft_token>", "<end_of_image>"
BLOCK = (BEGIN, SOFT, END)
BEFORE = ("▁is", "▁the", "▁original", "▁image")
BETWEEN = ("▁here", "▁are", "▁some", "▁crops", "▁to", "▁help", "▁you", "▁see", "▁better")
N1, N2, N3, N4 = "\n", "\n\n", "\n\n\n", "\n\n\n\n"

# name: prompt; pieces, by hand
SHOWN = {
    "prompt_no_bos": (HI, (*USER, "Hi", *CLOSE, *MODEL)),
    "prompt_two_bos": (HI, (*B, *B, *USER, "Hi", *CLOSE, *MODEL)),
    "prompt_bos_as_text": (Prompt(" it"), ("[", "B", "OS", "]", "▁it")),
    "prompt_bos_as_characters": (Prompt(" it"), ("<", "bos", ">", "▁it")),
    "prompt_no_newline_after_role": (HI, (*B, *S, "user", "Hi", *CLOSE, *S, "model")),
    "prompt_space_after_role": (HI, (*B, *S, "user", "▁Hi", *CLOSE, *S, "model")),
    "prompt_no_newline_at_end": (HI, (*B, *USER, "Hi", *CLOSE, *S, "model")),
    "prompt_no_newline_after_turn": (HI, (*B, *USER, "Hi", *E, *MODEL)),
    "prompt_turns_as_characters": (
        Prompt("<end_of_turn>"),
        (*B, "<", "end", "_", "of", "_", "turn", ">"),
    ),
    "prompt_role_assistant": (HI, (*B, *USER, "Hi", *CLOSE, *S, "assistant", "\n")),
    "prompt_assistant_in_history": (
        ASKED,
        (*B, *USER, "Hi", *CLOSE, *S, "assistant", "\n", "Yes", *CLOSE, *USER, "Hi", *CLOSE),
    ),
    "prompt_model_not_opened": (HI, (*B, *USER, "Hi", *CLOSE)),
    "prompt_escaped_newlines": (HI, (*B, *S, "user", "\\", "n", "Hi", *E, "\\", "n", *S, "model", "\\", "n")),
    "prompt_system_as_turn": (
        TOLD,
        (*B, *S, "system", "\n", "Be", "▁brief", ".", *CLOSE, *USER, "Hi", *CLOSE),
    ),
    "prompt_system_dropped": (TOLD, (*B, *USER, "Hi", *CLOSE)),
    "prompt_no_blank_line_after_system": (TOLD, (*B, *USER, "Be", "▁brief", ".", "Hi", *CLOSE)),
    "prompt_one_newline_after_system": (TOLD, (*B, *USER, "Be", "▁brief", ".", N1, "Hi", *CLOSE)),
    "prompt_system_trimmed": (
        Prompt([{**BRIEF, "content": "Be brief.\n"}, user("Hi")], generation_prompt=False),
        (*B, *USER, "Be", "▁brief", ".", N2, "Hi", *CLOSE),
    ),
    "prompt_not_trimmed": (Prompt([user(" Hi\n")]), (*B, *USER, "▁Hi", N1, *CLOSE, *MODEL)),
    "prompt_items_by_newline": (Prompt([user("Hi", "Hi")]), (*B, *USER, "Hi", N1, "Hi", *CLOSE, *MODEL)),
    "prompt_items_by_space": (Prompt([user("Hi", "Hi")]), (*B, *USER, "Hi", "▁Hi", *CLOSE, *MODEL)),
    "prompt_newlines_apart": (SEEN, (*B, *USER, N2, BEGIN, SOFT, SOFT, END, N2, "Hi", *CLOSE)),
    "prompt_newlines_merged": (
        SEEN._replace(layout="gemma"),
        (*B, *S, "user", N3, BEGIN, SOFT, SOFT, END, N2, "Hi", *CLOSE),
    ),
    "prompt_no_newlines_around_image": (SEEN, (*B, *USER, BEGIN, SOFT, SOFT, END, "Hi", *CLOSE)),
    "prompt_soft_tokens_less": (SEEN, (*B, *S, "user", N3, BEGIN, SOFT, END, N2, "Hi", *CLOSE)),
    "prompt_soft_tokens_more": (SEEN, (*B, *S, "user", N3, BEGIN, SOFT, SOFT, SOFT, END, N2, "Hi", *CLOSE)),
    "prompt_image_markers_swapped": (SEEN, (*B, *S, "user", N3, END, SOFT, SOFT, BEGIN, N2, "Hi", *CLOSE)),
    "prompt_end_of_image_262144": (SEEN, (*B, *S, "user", N3, BEGIN, SOFT, SOFT, SOFT, N2, "Hi", *CLOSE)),
    "prompt_images_last": (SEEN, (*B, *USER, "Hi", N2, BEGIN, SOFT, SOFT, END, N2, *CLOSE)),
    "prompt_images_first": (
        Prompt(f"a{MARKER}b{MARKER}", (0, 0), soft_tokens=1),
        (*B, N2, *BLOCK, N4, *BLOCK, N2, "ab"),
    ),
    "prompt_crops_not_told": (CROPS, (*B, N2, *BLOCK, N2)),
    "prompt_crops_without_whole": (CROPS, (*B, N2, *BLOCK, N2, "▁", N2, *BLOCK, N2)),
    "prompt_crops_in_small_words": (
        CROPS,
        (*B, "here", *BEFORE, N2, *BLOCK, N2, "and", *BETWEEN, N2, *BLOCK, N4, *BLOCK, N2),
    ),
    "prompt_dummy_prefix": (Prompt("it is"), (*B, "▁it", "▁is")),
    "prompt_spaces_after_control": (
        Prompt([user("Hi")], generation_prompt=False),
        (*B, *S, "▁user", "\n", "Hi", *E, "▁", "\n"),
    ),
    "prompt_spaces_collapsed": (Prompt(" it  is "), (*B, "it", "▁is")),
    "prompt_space_runs_split": (Prompt("it   is"), (*B, "it", "▁", "▁", "▁is")),
    "prompt_newline_runs_split": (Prompt("it\n\n\nis"), (*B, "it", N1, N1, N1, "is")),
    "prompt_digits_grouped": (Prompt("it 1234"), (*B, "it", "▁", "<unk>", "4")),
    "prompt_digits_all_split": (Prompt("১৯"), (*B, "১", "৯")),
    "prompt_nfkc": (Prompt("ﬁ"), (*B, "fi")),
    "prompt_nfc": (Prompt("e\u0301 ﬁ"), (*B, "é", "▁ﬁ")),
    "prompt_no_byte_fallback": (Prompt("it\x07"), (*B, "it", "<unk>")),
    "prompt_sentencepiece_alone": (Prompt("<bos>"), (*B, "<", "bos", ">")),
}

# for these nothing but an empty text is a prompt that hides them, or nothing at all
ALWAYS = ("prompt_no_bos", "prompt_two_bos", "prompt_bos_as_text", "prompt_bos_as_characters")


class Asked:
    """A prompt, and what can be said of it."""

    def __init__(self, prompt, ids):
        self.prompt, self.ids = prompt, ids
        self.chat = not isinstance(prompt.content, str)
        messages = prompt.content if self.chat else []
        self.opened = self.chat and prompt.generation_prompt
        self.answered = any(message["role"] == "assistant" for message in messages)
        self.system = messages[0]["content"] if self.chat and messages[0]["role"] == "system" else None
        self.contents = [self.parts(m["content"]) for m in messages if m["role"] != "system"]
        self.images = bool(prompt.crops)
        if self.chat:
            text = render_chat(prompt.content, generation_prompt=prompt.generation_prompt)
            self.turns = ["".join(part.strip() for part in content) for content in self.contents]
        else:
            text = with_markers(prompt.content, len(prompt.crops))
            self.turns = [text]
        self.whole = expand_text(text, prompt.crops, prompt.soft_tokens) if self.images else text
        self.beside = self.images and re.search(f"\n{MARKER}|{MARKER}\n|{MARKER}{MARKER}", text)

    @staticmethod
    def parts(content):
        return [content] if isinstance(content, str) else [p.get("text", MARKER) for p in content]

    def in_turns(self, pattern):
        return any(not re.fullmatch(pattern, turn, re.DOTALL) for turn in self.turns)


def _spaced(a):
    return "  " in a.whole or a.whole.strip(" ") != a.whole


NO_MARKER = f"(?:(?!{MARKER}).)*"
# what `needs` says, as a predicate
NEEDS = {
    "prompt_no_newline_after_role": lambda a: a.chat,
    "prompt_space_after_role": lambda a: a.chat,
    "prompt_no_newline_at_end": lambda a: a.opened,
    "prompt_no_newline_after_turn": lambda a: a.chat,
    "prompt_turns_as_characters": lambda a: a.chat or "_of_turn>" in a.whole,
    "prompt_role_assistant": lambda a: a.answered or a.opened,
    "prompt_assistant_in_history": lambda a: a.answered,
    "prompt_model_not_opened": lambda a: a.opened,
    "prompt_escaped_newlines": lambda a: "\n" in a.whole,
    "prompt_system_as_turn": lambda a: a.system is not None,
    "prompt_system_dropped": lambda a: a.system is not None,
    "prompt_no_blank_line_after_system": lambda a: a.system is not None,
    "prompt_one_newline_after_system": lambda a: a.system is not None,
    "prompt_system_trimmed": lambda a: a.system is not None and a.system != (a.system.strip() or None),
    "prompt_not_trimmed": lambda a: any(part.strip() != part for content in a.contents for part in content),
    "prompt_items_by_newline": lambda a: any(len(content) > 1 for content in a.contents),
    "prompt_items_by_space": lambda a: any(len(content) > 1 for content in a.contents),
    "prompt_newlines_apart": lambda a: a.prompt.layout == "transformers" and a.beside,
    "prompt_newlines_merged": lambda a: a.prompt.layout == "gemma" and a.beside,
    "prompt_no_newlines_around_image": lambda a: a.images,
    "prompt_soft_tokens_less": lambda a: a.images,
    "prompt_soft_tokens_more": lambda a: a.images,
    "prompt_image_markers_swapped": lambda a: a.images,
    "prompt_end_of_image_262144": lambda a: a.images,
    "prompt_images_last": lambda a: a.in_turns(f"{NO_MARKER}(?:{MARKER})*"),
    "prompt_images_first": lambda a: a.in_turns(f"(?:{MARKER})*{NO_MARKER}"),
    "prompt_crops_not_told": lambda a: any(a.prompt.crops),
    "prompt_crops_without_whole": lambda a: any(a.prompt.crops),
    "prompt_crops_in_small_words": lambda a: any(a.prompt.crops),
    "prompt_dummy_prefix": lambda a: a.whole,
    "prompt_spaces_after_control": lambda a: a.whole,
    "prompt_spaces_collapsed": _spaced,
    "prompt_space_runs_split": lambda a: "  " in a.whole,
    "prompt_newline_runs_split": lambda a: "\n\n" in a.whole,
    "prompt_digits_grouped": lambda a: re.search("[0-9]{2}", a.whole),
    "prompt_digits_all_split": lambda a: re.search(r"(?![0-9]{2})\d\d", a.whole),
    "prompt_nfkc": lambda a: unicodedata.normalize("NFKC", a.whole) != a.whole,
    "prompt_nfc": lambda a: unicodedata.normalize("NFC", a.whole) != a.whole,
    "prompt_no_byte_fallback": lambda a: any(238 <= token <= 493 for token in a.ids),
    "prompt_sentencepiece_alone": lambda a: re.search("\u2581|<(?:bos|eos|pad|unk|image_soft_token)>", a.whole),
}

# each kind of text is drawn by itself, so that needs are often not met
LETTERS = ("a", "it", " is", "1", "é", "日", "<b>")
TRAPS = ("  ", "\n", "\n\n", "12", "১৯", "ﬁ", "e\u0301", "\x07", "\u00a0", "\u2581", "<eos>", "\t", " ")
plain = st.lists(st.sampled_from(LETTERS), max_size=4).map("".join)
tricky = st.lists(st.sampled_from(LETTERS + TRAPS), max_size=6).map("".join)


@st.composite
def prompts(draw):
    """Draw a text or a chat, with or without images."""
    texts = draw(st.sampled_from([plain, plain, tricky]))
    settings = {"layout": draw(st.sampled_from(LAYOUTS)), "soft_tokens": draw(st.integers(1, 3))}
    images = draw(st.sampled_from([0, 0, 1, 2]))
    crops = tuple(draw(st.lists(st.sampled_from([0, 0, 2]), min_size=images, max_size=images)))
    if draw(st.booleans()):
        between = [draw(texts) for _ in range(images + 1)]
        return Prompt(MARKER.join(between) if draw(st.booleans()) else between[0], crops, **settings)
    system = draw(st.sampled_from([[], [], [{"role": "system", "content": draw(texts)}]]))
    parts = draw(st.permutations([IMAGE] * images + items([draw(texts) for _ in range(draw(st.integers(0, 2)))])))
    turns = [{"role": "user", "content": parts}]
    if draw(st.booleans()):
        turns += [{"role": "assistant", "content": draw(texts)}, user(draw(texts))]
    return Prompt(system + turns, crops, generation_prompt=draw(st.booleans()), **settings)


def test_each_mistake_is_described_and_shown_and_has_a_need():
    assert len(MUTANTS) == len(PROMPT_MUTANTS)
    assert set(SHOWN) == set(MUTANTS) == {*NEEDS, *ALWAYS}
    for mutant in PROMPT_MUTANTS:
        assert mutant.name.startswith("prompt_")
        assert mutant.what
        assert mutant.needs.words


@pytest.mark.weights
@pytest.mark.parametrize("name", MUTANTS)
def test_it_makes_the_pieces_it_must(real, name):
    prompt, pieces = SHOWN[name]
    right = encode(real, prompt)
    ids = MUTANTS[name].run(real, prompt)
    assert tuple(real.pieces(ids)) == pieces
    assert ids != right
    assert name in ALWAYS or NEEDS[name](Asked(prompt, right))


@pytest.mark.weights
@settings(max_examples=400)
@given(prompt=prompts())
def test_no_mistake_changes_anything_where_its_need_is_not_met(real, prompt):
    right = encode(real, prompt)
    asked = Asked(prompt, right)
    wrong = [name for name, needs in NEEDS.items() if not needs(asked) and MUTANTS[name].run(real, prompt) != right]
    assert wrong == []


@pytest.mark.weights
@settings(max_examples=400)
@given(prompt=prompts())
def test_the_parts_make_the_rule(real, prompt):
    assert run_parts(real, prompt, Parts()) == encode(real, prompt)


@pytest.mark.weights
def test_every_mistake_is_caught_by_a_golden_and_the_rule_by_none(real):
    goldens = prompt_goldens()
    assert len(goldens) > 4400
    assert sum(name.startswith("gemma_jax/expansion") for name in goldens) > 30
    assert [name for name, (prompt, ids) in goldens.items() if encode(real, prompt) != ids] == []
    caught = kills(real)
    assert set(caught) == set(MUTANTS)
    assert [name for name, cases in caught.items() if not cases] == []
    assert all(case.startswith("gemma_jax/expansion") for case in caught["prompt_newlines_merged"])
    assert not any(case.startswith("gemma_jax/expansion") for case in caught["prompt_newlines_apart"])


@pytest.mark.weights
def test_the_goldens_tell_all_mistakes_apart(real):
    answers = defaultdict(list)
    given = [prompt for prompt, _ in prompt_goldens().values()]
    for mutant in PROMPT_MUTANTS:
        answers[str([mutant.run(real, prompt) for prompt in given])].append(mutant.name)
    assert [names for names in answers.values() if len(names) > 1] == []


@pytest.mark.weights
@pytest.mark.parametrize("name", MUTANTS)
def test_a_mistake_is_found_by_its_ids(real, name):
    prompt, _ = SHOWN[name]
    ids = MUTANTS[name].run(real, prompt)
    found = prompt_mistakes(ids, real, prompt)
    assert MUTANTS[name] in found
    assert name_prompt_mistake(ids, real, prompt) is found[0]


@pytest.mark.weights
def test_right_ids_and_unknown_mistakes_have_no_name(real):
    right = encode(real, HI)
    assert name_prompt_mistake(right, real, HI) is None
    assert name_prompt_mistake(right[:-2], real, HI) is None
    assert prompt_mistakes([], real, HI) == []


@pytest.mark.weights
def test_mistakes_that_a_prompt_cannot_tell_apart_are_all_found(real):
    prompt = Prompt("it is")
    ids = MUTANTS["prompt_dummy_prefix"].run(real, prompt)
    names = [mutant.name for mutant in prompt_mistakes(ids, real, prompt)]
    assert names == ["prompt_dummy_prefix", "prompt_spaces_after_control"]
