"""Causes: wrong taps that one mistake explains, told once, whatever layers and passes they are in."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from ref.diagnosis.diagnose import Diagnosis
from ref.diagnosis.evidence import Evidence
from ref.measure.tap_finding import TapFinding
from ref.mutants.base import describe

WHOLE = 5  # taps of a layer that have the weights of another one: then all of it has


class Cause(NamedTuple):
    """One mistake and the taps that it explains; of an unexplained one the taps of one group."""

    diagnoses: list[Diagnosis]  # in the order of execution
    evidence: list[Evidence | None]  # of each: what explains it; None where nothing does
    tied: list[str]  # names of mistakes that explain all of it as well

    @property
    def name(self) -> str:
        """The mistake's name; empty where it has none."""
        return self.evidence[0].mutant.name if self.evidence[0] else ""


def causes_of(
    diagnoses: Iterable[Diagnosis], contradictions: Mapping[str, int], right: Collection[tuple[int, str]] = ()
) -> list[Cause]:
    """Group wrong taps by what explains them.

    Args:
        diagnoses: of wrong taps, in the order of execution.
        contradictions: of tied mistakes of the catalogue, from `break_ties`; a name without any counts none.
        right: (pass, tap) of those that match: of an exchange both halves are wrong.

    Returns:
        Causes; that of the first wrong tap first.
    """
    diagnoses = list(diagnoses)
    left = {one.finding.place: one for one in diagnoses}
    best = {place: _least(one, contradictions, right) for place, one in left.items()}
    causes = []
    while left:
        counts = Counter(one.key for place in left for one in best[place])
        if not counts:
            break
        most = max(counts.values())
        ties = [key for key, count in counts.items() if count == most]
        key = ties[0]
        places = [place for place in left if any(one.key == key for one in best[place])]
        chosen = [next(one for one in best[place] if one.key == key) for place in places]
        also = [
            name
            for name in dict.fromkeys(tie[0] for tie in ties[1:])
            if name != key[0] and _all_have(best, places, name)
        ]
        causes.append(Cause([left[place] for place in places], list(chosen), also))
        for place in places:
            del left[place]
    causes = _merged(causes) + _unexplained(left.values())
    order = {one.finding.place: i for i, one in enumerate(diagnoses)}
    return sorted(causes, key=lambda one: order[one.diagnoses[0].finding.place])


def _merged(causes: list[Cause]) -> list[Cause]:
    """Put causes together whose numbers agree within their errors."""
    out: list[Cause] = []
    for cause in causes:
        for i, other in enumerate(out):
            if (_agree(cause.evidence[0], other.evidence[0]) or _whole_layers(cause, other)) and not (
                cause.tied or other.tied
            ):
                pairs = zip([*other.diagnoses, *cause.diagnoses], [*other.evidence, *cause.evidence], strict=True)
                order = sorted(pairs, key=lambda pair: pair[0].finding.pass_number)  # stable: taps stay in their order
                out[i] = Cause([one for one, _ in order], [one for _, one in order], [])
                break
        else:
            out.append(cause)
    return out


def _whole_layers(a: Cause, b: Cause) -> bool:
    """Tell whether both are layers that have all weights of another one, as layers in another order have."""
    return a.name == b.name == "weights_of_layer" and min(len(a.diagnoses), len(b.diagnoses)) >= WHOLE


def _agree(a: Evidence | None, b: Evidence | None) -> bool:
    return bool(a and b and a.hypothesis and b.hypothesis and a.hypothesis.agrees(b.hypothesis))


def _all_have(best, places, name: str) -> bool:
    return all(any(one.mutant.name == name for one in best[place]) for place in places)


def _least(one: Diagnosis, contradictions: Mapping[str, int], right: Collection[tuple[int, str]]) -> list[Evidence]:
    """Return what explains a tap, without those that contradict other taps more than the best of them does.

    Where the other half of an exchange is right, what explains this tap alone is it, though with more free numbers.
    """
    if all(_is_half(one.finding, evidence, right) for evidence in one.tied):
        more = [evidence for evidence in one.alternatives if evidence.hypothesis is not None]
        if more:
            return [evidence for evidence in more if evidence.free == more[0].free]
    counts = [(_count(evidence, contradictions), evidence) for evidence in one.tied]
    least = min((count for count, _ in counts), default=0)
    return [evidence for count, evidence in counts if count == least]


def _count(evidence: Evidence, contradictions: Mapping[str, int]) -> int:
    return contradictions.get(evidence.mutant.name, 0) if evidence.hypothesis is None else 0


def _is_half(finding: TapFinding, evidence: Evidence, right: Collection[tuple[int, str]]) -> bool:
    """Tell whether a mistake changes other taps of this layer, too, and one of them is right."""
    if evidence.hypothesis is not None or finding.layer is None:
        return False
    taps = {group.replace("*", str(finding.layer)) for group in evidence.mutant.rules} - {finding.tap}
    return any((finding.pass_number, tap) in right for tap in taps)


def _unexplained(rest: Iterable[Diagnosis]) -> list[Cause]:
    groups: dict[str, list[Diagnosis]] = {}
    for one in rest:
        groups.setdefault(one.finding.group, []).append(one)
    return [Cause(several, [None] * len(several), []) for several in groups.values()]


def cause_row(cause: Cause, moves: float | None) -> dict[str, Any]:
    """Return a cause as a row of the report.

    Args:
        cause: what to tell.
        moves: share of the logits' norm that it moves; None where that is not known.
    """
    first, evidence = cause.diagnoses[0].finding, cause.evidence[0]
    findings = [one.finding for one in cause.diagnoses]
    row: dict[str, Any] = {"mutant": "", "what": "", "seen_in": [], "needs": ""}
    if evidence:
        row = describe(evidence.mutant) | {"what": _what(cause)}
    hypothesis = evidence.hypothesis if evidence else None
    word = "unexplained" if not evidence else "tied" if cause.tied else "named"
    row |= {"verdict": word, "tied_with": cause.tied}
    row |= {"parameters": [one.as_json() for one in hypothesis.parameters] if hypothesis else []}
    row |= {"first": {"tap": first.tap, "layer": first.layer, "pass": first.pass_number}}
    row |= {
        "taps": list(dict.fromkeys(one.tap for one in findings)),
        "groups": list(dict.fromkeys(one.group for one in findings)),
        "layers": sorted({one.layer for one in findings if one.layer is not None}),
        "passes": sorted({one.pass_number for one in findings}),
    }
    row |= {"where": hypothesis.where if hypothesis else ""}
    numbers = (evidence.coefficient, evidence.stderr, evidence.left) if evidence else (None, None, None)
    return row | dict(zip(("coefficient", "stderr", "left"), numbers, strict=True)) | {"moves": moves}


def _what(cause: Cause) -> str:
    """Say what a cause is; of weights that come from several layers, which goes where."""
    said = list(dict.fromkeys(one.mutant.what for one in cause.evidence if one))
    if len(said) == 1 or cause.name not in ("weights_of_layer", "weights_of_tensor"):
        return said[0]
    sources = {}
    for diagnosis, one in zip(cause.diagnoses, cause.evidence, strict=True):
        if one and one.hypothesis and diagnosis.finding.layer is not None:
            sources.setdefault(diagnosis.finding.layer, set()).add(str(one.hypothesis.parameters[0].value))
    if all(len(some) == 1 for some in sources.values()) and len(sources) > 1:
        listed = [f"{layer} has {next(iter(some))}" for layer, some in sorted(sources.items())]
        return f"Layers have the weights of others: {', '.join(listed[:8])}{', ...' if len(listed) > 8 else ''}."
    return " ".join(said[:3]) + (f" And {len(said) - 3} more." if len(said) > 3 else "")
