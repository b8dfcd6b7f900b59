"""Three independent mistakes in one model: cases of the field and injections of points of the catalogue, mixed."""

from collections.abc import Callable
from pathlib import Path
from random import Random

from support.injections import INJECTIONS, Injection

from ref.model.taps import tap_group

from .all_cases import CASES
from .case import Answer, Case, NoDraw, Planted, Scene
from .subject import Drawn, Subject, draw


def as_case(injection: Injection) -> Case:
    """Make a case of an injection."""

    def plant(scene: Scene) -> Planted:
        ends = injection.layer == "none"
        i = -1 if ends else scene.layer(scene.full if injection.layer == "global" else scene.sliding)
        undo = injection.plant(scene.model, i)
        answers = tuple(Answer(name) for name in (injection.mutant, *injection.also))
        return Planted((injection.tap.format(i=i),), answers, "of the catalogue", undo if callable(undo) else None)

    dtypes = ("float32",) if injection.float32_only else ("float32", "bfloat16")
    return Case(injection.mutant, plant, "text", (), dtypes, True)


def candidates(one: Subject) -> list[Case]:
    """List what may be one of three: mistakes of a layer or an end of the model, which leave the rest as it is.

    Left out are those of all rotations, whose taps lie in many layers, and what a short text does not show.
    """
    fields = [case for case in CASES.values() if case.joins and one.name in case.subjects]
    points = [
        as_case(injection)
        for injection in INJECTIONS
        if not injection.needs and not (injection.layer == "none" and "layer" in injection.tap)
    ]
    return [case for case in (*fields, *points) if one.dtype in case.dtypes]


def draw_three(one: Subject, seed: str, folder: Path) -> list[Drawn]:
    """Draw three mistakes in three layers, at three operations, each of which alone changes something.

    Args:
        one: the subject.
        seed: of the draw.
        folder: an empty one, for dumps.
    """
    random, taken, chosen = Random(f"{seed} {one.name} {one.dtype}"), set(), []
    pool = candidates(one)
    while len(chosen) < 3:
        case = random.choice(pool)
        place = folder / f"{len(list(folder.iterdir()))}"
        place.mkdir()
        try:
            drawn = draw(one, case, f"{seed} {len(chosen)}", lambda attempt, place=place: place / str(attempt), taken)
        except NoDraw:
            continue
        if not _same_operation(drawn, chosen):
            taken |= drawn.takes
            chosen.append(drawn)
    return chosen


def _same_operation(drawn: Drawn, chosen: list[Drawn]) -> bool:
    groups = {tap_group(tap) for other in chosen for tap in other.planted.taps}
    return any(tap_group(tap) in groups for tap in drawn.planted.taps)


def plant_three(one: Subject, drawn: list[Drawn], folder: Path) -> None:
    """Plant what was drawn into one model, and capture it."""
    model, undo = one.copied(), []
    try:
        for each in drawn:
            planted = each.case.plant(one.scene(model, each.case.prompt, each.seed, each.taken))
            undo.append(planted.undo)
        one.write(model, "text", folder)
    finally:
        undone: list[Callable] = [each for each in reversed(undo) if each]
        for each in undone:
            each()
