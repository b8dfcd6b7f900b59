"""Prompts that would decide: what a dump lacks of what mistakes need, and what is made of it."""

import numpy as np
import pytest
from support.judged import captured, dumped

import ref
from ref.config import SIZES, TINY_VISION
from ref.dump.open import open_dump
from ref.dump.trace import trace
from ref.judge.case import Question
from ref.judge.compare import compare_with_profiles
from ref.judge.judgement import judge_dump
from ref.judge.next_prompt import Exercised, Wish, exercised_by, lacking, plan, together, wish_of
from ref.model.text import How
from ref.mutants.needs import Needs

TINY = SIZES["tiny"]


def judged_of(opened, loaded):
    """Judge a dump, and return the judgement itself."""
    return judge_dump(Question(opened, loaded, "file", "current"), "transformers-float32")


@pytest.mark.parametrize(
    ("needs", "left", "wish"),
    [
        (Needs(windows=1), Needs(windows=1), Wish(tokens=TINY.window + 8)),
        (Needs(position=1), Needs(), None),
        (Needs(position=9), Needs(position=9), Wish(tokens=10)),
        (Needs(cached=True, global_layer=True), Needs(cached=True), Wish(steps=2)),
        (Needs(image="any", images=2), Needs(image="any", images=2), Wish(images=2)),
        (Needs(left_pads=True, packed=True), Needs(left_pads=True, packed=True), Wish(left_pads=True)),
        (Needs(packed=True), Needs(packed=True), None),
        (Needs(kv_heads=9), Needs(kv_heads=9), None),
        (Needs(long_image=True), Needs(long_image=True), None),  # the toy's images are shorter than its window
        (Needs(float32=True, bfloat16_tokens=64), Needs(), None),
    ],
)
def test_what_a_dump_lacks_becomes_what_a_prompt_must_have(needs, left, wish):
    there = Exercised(TINY, TINY_VISION, 3, 0, False, False, False, True, True, True)
    assert lacking(needs, there) == left
    assert wish_of(left, there) == wish


def test_wishes_for_one_prompt_are_put_together():
    assert together([Wish(5), None, Wish(2, images=1), Wish(left_pads=True)]) == Wish(5, 1, 0, True)
    assert together([None]) == Wish()


@pytest.mark.parametrize(
    "wish", [Wish(tokens=40), Wish(steps=2), Wish(images=2), Wish(left_pads=True), Wish(9, 1, 2, True)]
)
def test_prompts_have_what_was_wished_for(tmp_path, wish):
    trace(ref.load("tiny"), [[2, 5, 7]], tmp_path / "d", How(), ["text.embed"], 0)
    opened, loaded = open_dump(tmp_path / "d"), ref.load("tiny")
    judged = judged_of(opened, loaded)
    planned = plan(wish, exercised_by(judged, opened), opened)
    prompt = planned.prompt
    assert len(prompt.rows[0]) >= wish.tokens
    assert prompt.steps == wish.steps
    assert len(planned.pictures) == len(prompt.images) == wish.images
    assert prompt.padded == wish.left_pads
    soft = loaded.params.config.vocabulary
    assert {2, 5, 7} <= set(prompt.rows[0]) <= {2, 3, 5, 7, soft}
    assert all(picture.std(axis=(0, 1)).min() > 10 for picture in planned.pictures)


def test_the_same_dump_gives_the_same_prompt():
    several, clean = [], captured()
    for _ in range(2):
        prompts = {}
        compare_with_profiles(dumped(clean), loaded=ref.load("tiny"), advised=prompts.update)
        several.append(prompts["prompt.json"])
    assert several[0].prompt == several[1].prompt
    assert all(np.array_equal(a, b) for a, b in zip(several[0].pictures, several[1].pictures, strict=True))
