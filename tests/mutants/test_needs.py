"""What an input must have to show a mistake: as data, in words, and as the judge uses it."""

from itertools import pairwise

import pytest

from ref.diagnosis.coverage import _is_told
from ref.mutants import tap_mutants
from ref.mutants.needs import Needs

MUTANTS = tap_mutants()
WORDS = {
    "any input": Needs(),
    "4B, 12B or 27B and a global layer": Needs(sizes=("4B", "12B", "27B"), global_layer=True),
    "27B": Needs(sizes=("27B",)),
    "float32, gains that bfloat16 does not hold": Needs(float32=True, note="gains that bfloat16 does not hold"),
    "a token after the first": Needs(position=1),
    "a few tokens and a local layer": Needs(position=2, local_layer=True),
    "two tokens of a prompt": Needs(tokens=2),
    "at least 258 tokens of a prompt": Needs(tokens=258),
    "any input, in bfloat16 some 300 tokens": Needs(bfloat16_tokens=300),
    "a local layer and a prompt longer than half of the window": Needs(local_layer=True, windows=0.5),
    "K of 2 or more and G of 2 or more": Needs(kv_heads=2, group=2),
    "any image": Needs(image="any"),
    "an image that is not grey": Needs(image="that is not grey"),
    "two images in one prompt": Needs(images=2),
    "a local layer, cached keys and an image of at least two soft tokens": Needs(
        local_layer=True, cached=True, soft_tokens=2
    ),
    "left pads or two prompts in one row": Needs(left_pads=True, packed=True),
    "left pads, or keys of an earlier prompt": Needs(left_pads=True, note="or keys of an earlier prompt"),
    "a depth that is no multiple of 6": Needs(odd_depth=True),
}


@pytest.mark.parametrize("words", WORDS)
def test_words_are_made_of_the_fields(words):
    assert WORDS[words].words == words


def test_every_field_shows_in_the_words():
    values = {"sizes": ("1B",), "layers": 6, "position": 1, "windows": 1.0, "image": "any", "note": "noted"}
    for name, default in Needs._field_defaults.items():
        value = values.get(name, True if default is False else 2)
        assert Needs()._replace(**{name: value}).words != "any input", name


def test_words_have_no_holes():
    for mutant in MUTANTS.values():
        words = mutant.needs.words
        assert "None" not in words
        assert not any(a == b == " " for a, b in pairwise(words))
        assert words == words.strip(" ,")


@pytest.mark.parametrize(
    ("name", "is_usual"),
    [
        ("norm_without_plus_one", True),
        ("rope_interleaved", True),
        ("rope_global_base_everywhere", True),
        ("vision_gelu_erf", True),
        ("gelu_erf", True),
        ("images_scaled", False),  # tried where there is an image: the merge has no other test of its own
        ("window_plus_one", False),
        ("gqa_tiled_keys", False),
        ("norm_gain_bfloat16", False),
    ],
)
def test_what_any_run_shows_is_not_tried_for_coverage(name, is_usual):
    assert MUTANTS[name].needs.is_usual == is_usual


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("window_plus_one", "window"),
        ("long_block_dropped", "window"),
        ("long_block_dropped", "image"),
        ("image_causal", "image"),
        ("images_in_reverse_order", "image"),
        ("cache_stale", "cached"),
        ("pads_visible", "left pads"),
        ("pads_shift_queries", "left pads"),
        ("packed_leak", "packed"),
        ("gqa_tiled_values", "kv heads"),
    ],
)
def test_what_a_line_on_missing_input_says_is_not_said_twice(name, kind):
    needs = MUTANTS[name].needs
    assert _is_told(needs, {"", kind})
    assert not _is_told(needs, {""})


@pytest.mark.parametrize("name", ["scale_of_head_dim", "rope_factor_missing", "layers_last_is_global"])
def test_what_only_other_models_show_is_not_asked_of_an_input(name):
    assert _is_told(MUTANTS[name].needs, set())
