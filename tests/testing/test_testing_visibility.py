"""`check_visibility`: right rules of any form pass, each known mistake is caught, named, shrunk and drawn."""

import functools

import numpy as np
import pytest
from support import naive
from support.rules import Tensor, right

from ref.mutants.visibility import VISIBILITY_MUTANTS
from ref.mutants.visibility_parts import Layout, visible
from ref.ops.visibility import COMPOSITIONS, image_blocks, visible_ranges
from ref.testing import check_visibility


def brute_force(prompts, soft, start, window):
    """The oracle of our own tests, one cell at a time, told what a foreign function is told."""
    names = [None if name < 0 else int(name) for name in prompts]
    row = [False] * start + soft.tolist()
    return naive.visibility_with_images(names, row, window, "current")[start:]


def ranges(soft, first, start, window):
    blocks = image_blocks(soft[None], first[None], start)
    return visible_ranges(first[None], start, window, blocks)[0]


FORMS = {
    "lists": lambda **told: right(**told).tolist(),
    "numbers": lambda **told: right(**told).astype(int),
    "floats": lambda **told: right(**told).astype(np.float32),
    "strings": lambda **told: ["".join("01"[int(cell)] for cell in row) for row in right(**told)],
    "ranges": ranges,
    "lists of ranges": lambda **told: ranges(**told).tolist(),
    "additive": lambda **told: np.where(right(**told), 0.0, -np.inf),
    "additive, finite": lambda **told: np.where(right(**told), 0.0, np.finfo(np.float32).min),
    "with leading axes": lambda **told: right(**told)[None, None],
    "of another library": lambda **told: Tensor(right(**told)),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_right_rule_passes_whatever_its_answers_look_like(form):
    def fn(soft, first, start, window):
        return FORMS[form](soft=soft, first=first, start=start, window=window)

    assert check_visibility(fn, examples=100).not_asked == ()


def test_the_oracle_passes_so_what_is_told_is_enough_and_true():
    checked = check_visibility(brute_force)
    assert checked.cases > 200
    assert checked.not_asked == ()


@pytest.mark.parametrize("composition", COMPOSITIONS)
def test_compositions(composition):
    def fn(soft, first, start, window):
        return visible(Layout(soft, first, start, window, composition))

    check_visibility(fn, composition=composition)
    check_visibility(fn, without=["long-images"])  # where no block is longer than the window they are one
    for other in COMPOSITIONS:
        if other != composition:
            with pytest.raises(AssertionError, match=f"as if: composition_{composition}: "):
                check_visibility(fn, composition=other)


@pytest.mark.parametrize("mutant", VISIBILITY_MUTANTS, ids=lambda m: m.name)
def test_every_mistake_is_caught_and_named_alone(mutant):
    composition = "two_sided" if mutant.name == "composition_current" else "current"

    def fn(soft, first, start, window, local_window):
        return mutant.run(Layout(soft, first, start, window, composition, local_window))

    with pytest.raises(AssertionError) as caught:
        check_visibility(fn, composition=composition)
    named = [line for line in str(caught.value).splitlines() if line.startswith("as if: ")]
    assert named == [f"as if: {mutant.name}: {mutant.what}"]


def off_by_one(soft, first, start, window):
    return visible(Layout(soft, first, start, window and window + 1))


def test_the_counterexample_is_shrunk_and_drawn():
    with pytest.raises(AssertionError) as caught:
        check_visibility(off_by_one)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("visibility: wrong on ")
    assert lines[1] == "  local layer, window 2; 3 tokens"
    assert lines[2].startswith('  asked: {"soft": [0, 0, 0], "first": [0, 0, 0], "start": 0, "window": 2, "keys": 3, ')
    assert lines[4:12] == [
        "         expected   got",
        "  key    0 1 2   0 1 2",
        "         t t t   t t t",
        "    0 t  x . . | x . .",
        "    1 t  x x . | x x .",
        "    2 t  . x x | X x x",
        "  X seen, but must not be; o must be seen, but is not",
        "  t text",
    ]
    assert lines[13].startswith("as if: window_plus_one: a local layer sees W keys besides")
    assert lines[14].startswith("  Seen in ml-explore/mlx-lm#390, ")


def test_pictures_of_pads_images_packed_prompts_and_the_cache():
    def wrong(soft, first, start, window):  # only where all of them come together
        out = right(soft, first, start, window)
        if first[0] and start > first[0] and soft.any() and first[-1] > first[0] and len(soft) > 1:
            out[-1, -1] = False
        return out

    with pytest.raises(AssertionError) as caught:
        check_visibility(wrong, examples=600)
    text = str(caught.value)
    assert "I image, ' text that begins another prompt, c cached, - cached, but not of this prompt" in text
    assert "as no known mistake: none answers every input as this did" in text
    assert " o\n" in text


def test_the_same_seed_asks_the_same():
    seen = []
    for seed in (3, 3, 4):
        asked = []

        def fn(soft, first, start, window, asked=asked):
            asked.append((soft.tobytes(), start, window))
            return right(soft, first, start, window)

        check_visibility(fn, examples=60, seed=seed)
        seen.append(asked)
    assert seen[0] == seen[1] != seen[2]


def test_large_windows_are_met_and_only_the_place_of_the_mistake_is_drawn():
    check_visibility(right, windows=[512], examples=60)
    with pytest.raises(AssertionError, match=r"\(only rows [0-9]+ to [0-9]+ of 51[3-9] and keys ") as caught:
        check_visibility(off_by_one, windows=[512], examples=60)
    assert "as if: window_plus_one" in str(caught.value)
    assert max(map(len, str(caught.value).splitlines()[4:])) < 130


def hardwired(soft, first, start, window):
    """A window that the code has for itself."""
    return visible(Layout(soft, first, start, window and 512))


def test_a_hardwired_window_is_seen_where_windows_differ_from_it():
    check_visibility(hardwired, windows=[512], examples=60)
    with pytest.raises(AssertionError, match="as if: window_ignored"):
        check_visibility(hardwired)


def test_ranges_must_be_whole_numbers():
    with pytest.raises(AssertionError, match="gave ranges of float64, wanted integers"):
        check_visibility(
            lambda soft, first, start, window: ranges(soft, first, start, window) * (1.0 if start else 1), examples=50
        )


# --- other implementations ------------------------------------------------------------------------------------------


@pytest.mark.witness
def test_the_masks_of_transformers_pass():
    import torch
    from transformers import Gemma3Config, Gemma3Model

    text = {
        "vocab_size": 64, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 1, "head_dim": 4, "layer_types": ["sliding_attention", "full_attention"],
    }  # fmt: skip
    vision = {
        "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 4,
        "patch_size": 2, "vision_use_head": False, "model_type": "siglip_vision_model",
    }  # fmt: skip
    seen = []

    def note(_module, _args, kwargs):
        seen.append(kwargs["attention_mask"][0, 0] == 0)

    @functools.cache
    def model(window):
        config = Gemma3Config(text_config=text | {"sliding_window": window}, vision_config=vision, image_token_index=50)
        config._attn_implementation = "eager"
        out = Gemma3Model(config).eval()
        for layer in out.language_model.layers:
            layer.self_attn.register_forward_pre_hook(note, with_kwargs=True)
        return out

    def masks(soft, pads, keys, window, local_window):
        seen.clear()
        places = torch.tensor(soft)[None]
        real = torch.arange(keys)[None] >= pads
        ids = torch.where(places, 50, 1) * real
        with torch.inference_mode():
            model(local_window)(
                input_ids=ids, attention_mask=real.long(), token_type_ids=places.long(), use_cache=False
            )
        return seen[window is None]

    checked = check_visibility(masks, without=["cached"], examples=100)
    assert checked.not_asked == ("cached", "packed")
    with pytest.raises(AssertionError, match="as if: composition_current: "):
        check_visibility(masks, without=["cached"], composition="before_46850", examples=100)
