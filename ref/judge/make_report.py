"""The report: from what was measured at each tap to a verdict, the first divergence and the mistake it looks like."""

from dataclasses import replace
from typing import Any

from ref.diagnosis.break_ties import contradictions
from ref.diagnosis.diagnose import Diagnosis
from ref.diagnosis.evidence import Evidence
from ref.diagnosis.ranking import conclusions
from ref.dump.opened import Dump
from ref.dump.sketched import SketchedTap
from ref.judge.advice import Advice
from ref.judge.case import known_taps, possible_taps
from ref.judge.causes import causes_in
from ref.judge.judgement import Judgement
from ref.judge.origins import placed
from ref.measure.floor import DRIFT, SMALL
from ref.measure.tap_finding import TapFinding
from ref.mutants import tap_mutants
from ref.weights.resolve import Loaded


def count_taps(opened: Dump, judged: Judgement) -> dict[str, Any]:
    """Count taps: those compared, those that the dump holds, those that the model has in passes of these kinds."""
    ours = sum(len(possible_taps(pass_runs.one_pass)) for pass_runs in judged.all_runs)
    theirs = sum(len(one.stored) + len(one.partial) for one in judged.all_runs)
    theirs += len(opened.unaligned) + len(impossible_tensors(opened, judged))
    sketched = sum(isinstance(one, SketchedTap) for pass_runs in judged.all_runs for one in pass_runs.partial.values())
    told = {"taps": len(judged.findings), "of_dump": theirs, "of_model": ours}
    return told | ({"sketched": sketched} if sketched else {})


def taps_of_dump(opened: Dump) -> set[str]:
    """List the taps that a dump has in any pass."""
    return {tap for one in opened.passes for tap in (*one.tensors, *opened.partial.get(one.number, {}))}


def impossible_tensors(opened: Dump, judged: Judgement) -> list[dict[str, str]]:
    """List tensors that this model has no place for in their pass."""
    why = "no such value in this pass of this model"
    return [
        {"name": tap, "why": why}
        for one, pass_runs in zip(opened.passes, judged.all_runs, strict=True)
        for tap in sorted((one.tensors.keys() | opened.partial.get(one.number, {})) - known_taps(pass_runs.one_pass))
    ]


def other_arithmetic(judged: Judgement, declared: str) -> dict[str, Any] | None:
    """Return the arithmetic that all products have and the dump does not declare."""
    return judged.finding.row(declared) if judged.finding and not judged.partly else None


def found_in(judged: Judgement, loaded: Loaded, advice: Advice) -> dict[str, Any]:
    """Return what a report says of a judgement: the verdict, the taps, what causes it, the first divergence.

    Args:
        judged: all taps, and what was heard of mistakes on the way.
        loaded: the weights, to run tied mistakes once more.
        advice: makes what is to be captured next.
    """
    hidden = judged.hearing.hidden.found()
    findings = placed(_with_hidden(judged.findings, hidden), judged.all_runs)
    first = next((one for one in findings if one.verdict == "bug"), None)
    diagnoses = _of_bugs(judged, findings, hidden)
    counts = _contradictions(judged, findings, loaded, diagnoses)
    causes, proof = causes_in(judged, loaded, diagnoses, counts)
    diagnosis = _as_caused(_first_diagnosis(judged, diagnoses, counts, first), causes, first) or hidden
    if first is None:
        findings = _with_drift(findings)
    steps = advice.of(causes, diagnoses, hidden)
    undetermined = not findings or any(one.verdict == "undetermined" for one in findings)
    return {
        "verdict": "bug" if first else "undetermined" if undetermined else "match",
        "first": first and {"tap": first.tap, "layer": first.layer, "pass": first.pass_number},
        "taps": [one.as_json() for one in findings],
        "diagnosis": diagnosis,
        "causes": causes,
        "proof": proof,
        "bases": judged.hearing.bases.rows(),
        "tried": judged.hearing.diagnoses.tried.as_json(),
        "fits": [fit for one in diagnoses if first and one.finding.tap == first.tap for fit in one.fits],
        "next": [one.as_json() for one in steps],
        "decide": "; ".join(one.why for one in steps if one.is_open),
    }


def _of_bugs(judged: Judgement, findings: list[TapFinding], hidden: list[dict[str, Any]]) -> list[Diagnosis]:
    """Return a diagnosis of every tap that is a bug, empty where none was made; in the order of the findings."""
    made = {one.finding.place: one for one in [*judged.hearing.diagnoses.found, *judged.hearing.bases.bugs]}
    for row in hidden:
        mutant = tap_mutants()[row["mutant"]]
        for place in zip(row["passes"], row["taps"], strict=True):
            one = Evidence(mutant, place[1], place[0], row["coefficient"], row["stderr"], 0.0, 0.0, None, 0.0)
            made[place] = Diagnosis(_at(findings, place), [one], [0], [])
    return [
        made[one.place]._replace(finding=one) if one.place in made else Diagnosis(one, [], [], [])
        for one in findings
        if one.verdict == "bug"
    ]


def _at(findings: list[TapFinding], place: tuple[int, str]) -> TapFinding:
    return next(one for one in findings if one.place == place)


def _contradictions(judged: Judgement, findings, loaded, diagnoses: list[Diagnosis]) -> dict[str, int]:
    """Count what contradicts each of the known mistakes that explain some tap equally well."""
    several = [one for one in diagnoses if len(one.alternatives) > 1]
    tied = {one.mutant.name for each in several for one in each.tied if one.hypothesis is None}
    if not tied:
        return {}
    held = judged.all_runs[0].one_pass.held
    return contradictions(judged.all_runs, loaded, held, sorted(tied), findings)


def _with_hidden(findings: list[TapFinding], hidden: list[dict[str, Any]]) -> list[TapFinding]:
    """Call the taps a bug that hold a mistake smaller than the noise."""
    whys = {
        place: f"{SMALL}: {one['mutant']}" for one in hidden for place in zip(one["passes"], one["taps"], strict=True)
    }
    return [replace(one, verdict="bug", why=whys[one.place]) if one.place in whys else one for one in findings]


def _with_drift(findings: list[TapFinding]) -> list[TapFinding]:
    """Call a tap undetermined that is far off although no operation on the way is: something was not measured.

    What follows a value beyond the format is far off by the format alone.
    """
    why = "each operation matches, but what has gathered does not"
    for number, one in enumerate(findings):
        if one.overflow:
            break
        if one.verdict == "match" and one.inherited_ratio is not None and one.inherited_ratio > DRIFT:
            return [*findings[:number], replace(one, verdict="undetermined", why=why), *findings[number + 1 :]]
    return findings


def _first_diagnosis(
    judged: Judgement, diagnoses: list[Diagnosis], counts: dict[str, int], first: TapFinding | None
) -> list[dict[str, Any]]:
    """Return the conclusions at the first bad tap; ties are broken by the other taps."""
    if first is None:
        return []
    if judged.partly and judged.finding and first.tap == judged.finding.tap:
        return [judged.finding.mistake()]
    here = next((one for one in diagnoses if one.finding.place == first.place), None)
    if here is None or any(one.mutant.subtle and one.before == 0.0 and one.left == 0.0 for one in here.evidence[:1]):
        return []  # smaller than the noise: its row says more
    return _without_ties(conclusions(here.evidence, here.classes), counts)


def _as_caused(rows: list[dict[str, Any]], causes: list[dict[str, Any]], first: TapFinding | None):
    """Name at the first divergence what was named over all taps: others that tie there explain fewer of them."""
    if first is None:
        return rows
    here = next((one for one in causes if first.tap in one["taps"] and first.pass_number in one["passes"]), None)
    names = [here["mutant"], *here["tied_with"]] if here and here["mutant"] else []
    if not any(row["mutant"] in names for row in rows):
        return rows
    told: set[str] = set()  # of rows with one name, such as a whole mistake and a part of it, the best comes first
    for row in rows:
        once = row["mutant"] not in told
        told.add(row["mutant"])
        if once and row["mutant"] in names and (row["class"] == 0 or row["verdict"] == "cleared"):
            row["verdict"], row["class"] = "tied" if len(names) > 1 else "named", 0
        elif row["verdict"] in ("named", "tied"):
            row["verdict"], row["class"] = "cleared", len(rows)
    return sorted(rows, key=lambda row: row["class"])


def _without_ties(rows: list[dict[str, Any]], counts: dict[str, int]) -> list[dict[str, Any]]:
    """Clear the tied mistakes that contradict other taps more than the best of them does."""
    tied = [row for row in rows if row["class"] == 0 and row["verdict"] == "tied" and row["mutant"] in counts]
    if len(tied) < 2:
        return rows
    least = min(counts[row["mutant"]] for row in tied)
    for row in tied:
        row["contradictions"] = counts[row["mutant"]]
        if row["contradictions"] > least:
            row["verdict"], row["class"] = "cleared", len(rows) + row["contradictions"]
    left = [row for row in tied if row["contradictions"] == least]
    if len(left) == 1:
        left[0]["verdict"] = "named"
    return sorted(rows, key=lambda row: row["class"])
