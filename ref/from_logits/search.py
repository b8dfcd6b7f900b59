"""The search: the catalogue and the free numbers in all layers, then in the layers of one kind, then in one layer."""

import time
from collections.abc import Callable
from typing import Any

from ref.from_logits.candidates import Candidate, catalogue, of_one_kind, of_one_layer
from ref.from_logits.conclude import conclude, is_explained, ranked
from ref.from_logits.families import FAMILIES, HORIZON, WINDOW
from ref.from_logits.fit import fitted
from ref.from_logits.lacking import hidden_in, lacking
from ref.from_logits.parameters import Family, grid_of
from ref.from_logits.trial import Trial, Tried
from ref.measure.floor import LIMIT

WORK = 3.2e9  # tokens times weights of a run of a beginning: 32 tokens of the 270M
LEAST, FEW = 8, 16  # tokens of a beginning; those that mistakes in one layer are sought in
KEPT, LISTED = 24, 5  # candidates that are tried again on all tokens; beside those that explain a beginning
FEWEST = 4  # numbers that must be known, so that one is fitted and the fit is checked


def explain(trial: Trial, say: Callable[[str], Any] | None = None) -> dict[str, Any] | None:
    """Say which mistakes make an answer: run from the prompt, ranked by how much of the distance they explain.

    Args:
        trial: the answer, beside the truth.
        say: called with the shortlist as soon as it is there: a line of text.

    Returns:
        A report's `from_logits`; None where the answer is no farther from the truth than noise.

    Source: own; a mistake is executed, as in `ref.diagnosis`, and not guessed from the look of the numbers.
    """
    start = time.perf_counter()
    if trial.measures.off <= LIMIT:
        return None
    some, left = catalogue(trial.text.passes, trial.answer.kind)
    families, more = _families(trial)
    first = trial.beginning(_tokens(trial))
    found = _all_layers(trial, first, some, families, start, say)
    layers = 0
    if not _is_explained(found):
        found, layers = _some_layers(trial, first, some, found)
    rows = conclude(trial, found)
    names = list(dict.fromkeys(one.name for one in families))
    tried = {"catalogue": len(some), "families": names, "layers": layers, "not_tried": left + more}
    return {"ranked": rows, "tried": tried, "seconds": round(time.perf_counter() - start, 2)}


def _tokens(trial: Trial) -> int:
    """Return how long the beginning is that candidates are tried on first."""
    config = trial.text.passes[0].config
    attention = config.head_dim * 2 * (config.query_heads + config.kv_heads)
    weights = config.layers * config.width * (attention + 3 * config.ffn_width)
    return max(LEAST, int(WORK / weights))


def _families(trial: Trial) -> tuple[list[Family], list[dict[str, str]]]:
    """List the families that are tried, and those that are not, with why."""
    some, left = [], []
    for one in [*FAMILIES, WINDOW, HORIZON]:
        why = lacking(one.needs, trial.text.passes) or hidden_in(trial.answer.kind, one.name)
        if trial.answer.numbers < FEWEST:
            why = f"{FEWEST} values, to fit one number and to check it: there are {trial.answer.numbers}"
        if why:
            left.append({"family": one.name, "why": f"needs {why}"})
        else:
            some.append(one)
    return some, left


def _all_layers(
    trial: Trial,
    first: Trial,
    some: list[Candidate],
    families: list[Family],
    start: float,
    say: Callable[[str], Any] | None,
) -> list[Tried]:
    """Try what is made in all layers; the numbers that come near are fitted."""
    config = trial.text.passes[0].config
    grid = [one for family in families for one in grid_of(family, config, trial.onset(trial.measures.truth))]
    trial.tell(len(some) + len(grid))
    named, numbers = first.try_all(some), first.try_all(grid)
    if say:
        say(_shortlist([*named, *numbers], time.perf_counter() - start))
    # what leaves noise only needs no number fitted beside it
    fits = [] if _is_explained([*named, *numbers]) else fitted(first, numbers)
    return _on_all_tokens(trial, first, [*named, *numbers, *fits])


def _some_layers(trial: Trial, first: Trial, some: list[Candidate], found: list[Tried]) -> tuple[list[Tried], int]:
    """Try mistakes in the layers of one kind, and if that does not explain the answer in one layer."""
    silent = {one.candidate.key for one in found if trial.measures.is_silent(one.model)}
    loud = [one for one in some if one.key not in silent]
    kinds = of_one_kind(loud, trial.text.passes)
    trial.tell(len(kinds))
    found = [*found, *_on_all_tokens(trial, first, first.try_all(kinds))]
    if _is_explained(found):
        return found, len(kinds)
    few = trial.beginning(FEW)
    single = of_one_layer(loud, trial.text.passes)
    trial.tell(len(single))
    found += _on_all_tokens(trial, few, few.try_all(single))
    return found, len(kinds) + len(single)


def _on_all_tokens(trial: Trial, first: Trial, found: list[Tried]) -> list[Tried]:
    """Try the best of a beginning again on all tokens; the answer is wrong in it, so that what is silent is not it."""
    if first is trial:
        return found
    loud = [one for one in ranked(found) if not first.measures.is_silent(one.model)]
    right = sum(is_explained(one.score) for one in loud)
    return trial.try_all([one.candidate for one in loud[: right + LISTED if right else KEPT]])


def _is_explained(found: list[Tried]) -> bool:
    return any(is_explained(one.score) for one in found)


def _shortlist(found: list[Tried], seconds: float) -> str:
    best: dict[str, Tried] = {}
    for one in ranked(found):
        best.setdefault(one.candidate.name, one)
    names = [f"{name} ({100 * one.score.explains:.3g} %)" for name, one in list(best.items())[:5]]
    return f"shortlist after {seconds:.0f} s: {', '.join(names)}"
