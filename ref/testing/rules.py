"""Property checks of other people's masks and crops: `check_visibility(fn)` and `check_pan_and_scan(fn)`."""

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ref.config import CROPS, CropConfig
from ref.errors import wanted
from ref.mutants.crops import CROP_MUTANTS
from ref.mutants.visibility import VISIBILITY_MUTANTS
from ref.mutants.visibility_parts import real_rows, visible
from ref.ops.pan_and_scan import crop_boxes
from ref.ops.visibility import COMPOSITIONS, Composition
from ref.testing.answers import MATRIX, PROBE, Ended, find_kind, plain, plain_question, question, read_boxes, read_mask
from ref.testing.pictures import describe_layout, draw_boxes, draw_mask
from ref.testing.search import Rule, explain, find_counterexample
from ref.testing.strategies import PHOTOS, WINDOWS, check_without, edge_sizes, image_sizes, layouts

# which arguments tell a function of a feature: where it takes none of them, the feature is not asked about
_TELLS = {
    "images": ("soft",),
    "pads": ("first", "prompts", "pads"),
    "packed": ("first", "prompts"),
    "cached": ("start", "keys", "prompts"),
    "local": ("window",),
}


class Checked(NamedTuple):
    """What a check that passed has asked."""

    cases: int  # how many inputs
    not_asked: tuple[str, ...]  # features that no input had


def check_visibility(
    fn: Callable[..., Any],
    *,
    composition: Composition = "current",
    without: Sequence[str] = (),
    windows: Sequence[int] = WINDOWS,
    examples: int = 300,
    seed: int = 0,
) -> Checked:
    """Check a function that says what each token may see, over layouts with images, pads, packed prompts, a cache.

    Args:
        fn: called with those of these that its parameters name, by keyword; T tokens of one row, S keys, of which the
            first `start` were cached by earlier passes:
            soft [T] bool, the token is an image's soft token; first [T] int64, index of the first key of the token's
            prompt; window, W of a local layer (its own key included) or None for a global layer; start; keys, S;
            pads, how many left pads the row has; prompts [S] int64, number of each key's prompt, -1 for pads and
            prompts before the first token's; positions [T] int64, restarting in each prompt; local_window, W also on
            global layers.
            It returns [T, S] booleans (0 and 1 will do, or an additive mask of 0 and -1000 or less; leading axes of
            1 are dropped) or [T, 2] integers, start and stop of the range of keys. What pads see is not judged.
        composition: how image block and window go together; they differ only where a block is longer than the window.
        without: features that no layout has, see `ref.testing.strategies.FEATURES`; besides them, those which `fn`
            has no parameter for: a function without `soft` is asked about text only.
        windows: W of local layers are drawn from these; layouts are then about as long.
        examples: how many layouts.
        seed: of the draw.

    Returns:
        How many inputs were asked, and which features were left out.

    Raises:
        AssertionError: the simplest layout that is answered wrongly, as a picture, with the known mistake that
            answers everything as `fn` did, if there is one. What `fn` raises is a wrong answer.
        BadInput: a parameter of `fn` that is none of those; an unknown composition or feature; no windows.

    Source: `ref.ops.visibility`; mistakes: `ref.mutants.visibility`.
    """
    call, names = by_keyword(fn)
    untold = [feature for feature, tellers in _TELLS.items() if not names.intersection(tellers)]
    left_out = tuple(sorted({*without, *untold}))
    rule = visibility_rule(lambda layout: call(question(layout)), composition, left_out, windows)
    return _check(rule, lambda layout: call(question(layout)), examples, seed, left_out)


def check_pan_and_scan(
    fn: Callable[[int, int], Any],
    *,
    policy: str | CropConfig = "transformers",
    examples: int = 500,
    seed: int = 0,
) -> Checked:
    """Check a function that cuts images into crops, on both sides of every threshold and over sizes of photographs.

    Args:
        fn: called as fn(width, height), in pixels; returns [n, 4] integers, y0, x0, y1, x1 of each crop, half-open,
            in reading order, without the whole image; empty where there are no crops.
        policy: name out of `ref.config.CROPS`, or settings.
        examples: how many sizes to draw, besides those of photographs and on both sides of each threshold.
        seed: of the draw.

    Returns:
        How many sizes were asked.

    Raises:
        AssertionError: the simplest size that is answered wrongly, as a picture, with the known mistake that answers
            everything as `fn` did, if there is one. What `fn` raises is a wrong answer.
        BadInput: unknown policy.

    Source: `ref.ops.pan_and_scan`; mistakes: `ref.mutants.crops`.
    """
    return _check(crops_rule(policy), lambda size: fn(*size), examples, seed, ())


def _check(rule: Rule, ask, examples, seed, left_out) -> Checked:
    outcome = find_counterexample(rule, ask, examples, seed)
    if outcome.found:
        raise AssertionError(explain(rule, outcome)) from outcome.found.error
    return Checked(outcome.asked, left_out)


def by_keyword(fn: Callable[..., Any]) -> tuple[Callable[[dict], Any], set[str]]:
    """Return how to call a function with those of our arguments that it names, and which they are.

    Args:
        fn: takes some of the arguments of `check_visibility`'s `fn`, or any as **keywords.

    Raises:
        BadInput: it needs another, or its parameters cannot be read.
    """
    ours = set(question(PROBE))
    try:
        parameters = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):
        raise wanted("fn", "check_visibility", "a function whose parameters can be read", fn) from None
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return (lambda told: fn(**told)), ours
    for p in parameters:
        needed = p.default is p.empty and p.kind is not p.VAR_POSITIONAL
        if needed and (p.name not in ours or p.kind is p.POSITIONAL_ONLY):
            raise wanted("parameter of fn", "check_visibility", "some of " + ", ".join(sorted(ours)), p.name)
    names = {p.name for p in parameters} & ours
    return (lambda told: fn(**{name: told[name] for name in names})), names


def visibility_rule(
    ask: Callable[[Any], Any],
    composition: Composition,
    without: Sequence[str],
    windows: Sequence[int] = WINDOWS,
) -> Rule:
    """Put together what `find_counterexample` needs to know of visibility.

    Args:
        ask: the foreign rule; asked once, to see whether it answers with matrices or ranges.
        composition, without, windows: as for `check_visibility`.

    Raises:
        BadInput: an unknown composition or feature, no windows or one below 1.
    """
    if composition not in COMPOSITIONS:
        raise wanted("composition", "visibility", " ".join(COMPOSITIONS), composition)
    if not windows or min(windows) < 1:
        raise wanted("windows", "visibility", "at least one, each of 1 or more", list(windows))
    left_out = tuple(check_without(without))
    try:
        kind = find_kind(ask(PROBE))
    except Ended:
        raise
    except Exception:  # it will raise again, and be reported then
        kind = MATRIX
    return Rule(
        name="visibility",
        cases=layouts(without=left_out, windows=windows, composition=composition),
        known=(),
        truth=visible,
        read=lambda layout, answer: read_mask(kind, layout, answer),
        same=lambda layout, a, b: bool((a == b)[real_rows(layout)].all()),
        mutants=VISIBILITY_MUTANTS,
        mutate=lambda mutant, layout: mutant.run(layout),
        key=lambda layout: (layout.soft.tobytes(), layout.first.tobytes(), *layout[2:]),
        draw=draw_mask,
        describe=describe_layout,
        question=plain_question,
        plain=plain,
    )


def crops_rule(policy: str | CropConfig) -> Rule:
    """Put together what `find_counterexample` needs to know of Pan & Scan.

    Args:
        policy: name out of `ref.config.CROPS`, or settings.

    Raises:
        BadInput: unknown policy, or settings that cannot be.
    """
    if isinstance(policy, str) and policy not in CROPS:
        raise wanted("policy", "pan and scan", " ".join(CROPS), policy)
    crops = CROPS[policy] if isinstance(policy, str) else policy
    if not (0 < crops.min_ratio < math.inf and min(crops.min_crop, crops.max_crops) >= 1):
        raise wanted("policy", "pan and scan", "min_crop and max_crops of 1 or more, a finite min_ratio above 0", crops)
    settings = float(crops.min_ratio), crops.min_crop, crops.max_crops, crops.past_edge == "clip"
    return Rule(
        name="pan and scan",
        cases=image_sizes(crops),
        known=[*PHOTOS, *(size[::-1] for size in PHOTOS), *edge_sizes(crops)],
        truth=lambda size: crop_boxes(size[1], size[0], *settings).tolist(),
        read=lambda size, answer: read_boxes(answer),
        same=lambda size, a, b: a == b,
        mutants=CROP_MUTANTS,
        mutate=lambda mutant, size: read_boxes(mutant.run(*size, crops)),
        key=lambda size: size,
        draw=lambda size, expected, got: draw_boxes(size[0], size[1], expected, got),
        describe=lambda size: f"{size[0]} x {size[1]} pixels",
        question=lambda size: {"width": size[0], "height": size[1]},
        plain=lambda boxes: boxes,
        size=lambda size: size[0] * size[1],
    )
