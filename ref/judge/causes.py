"""What a report says of causes: each mistake once, the one that moves the logits most first, and the proof."""

from typing import TYPE_CHECKING, Any

from ref.diagnosis.causes import Cause, cause_row, causes_of
from ref.diagnosis.diagnose import Diagnosis
from ref.diagnosis.proof import as_json, prove
from ref.judge.judgement import Judgement

if TYPE_CHECKING:
    from ref.weights.resolve import Loaded


def causes_in(
    judged: Judgement, loaded: "Loaded", diagnoses: list[Diagnosis], counts: dict[str, int]
) -> tuple[list[dict[str, Any]], Any]:
    """Group what is wrong by its causes, and prove that they explain what comes out.

    Args:
        judged: the judgement.
        loaded: the weights.
        diagnoses: of every wrong tap, in the order of execution.
        counts: contradictions of tied mistakes.

    Returns:
        (rows of the report, the proof as a part of it; None without a named mistake).
    """
    if not diagnoses:
        return [], None
    right = {one.place for one in judged.findings if one.verdict == "match"}
    causes = causes_of(diagnoses, counts, right)
    held = judged.all_runs[0].one_pass.held
    proof, moves = prove(causes, judged.findings, judged.all_runs, loaded, held)
    rows = [(moves.get(i), cause_row(one, moves.get(i))) for i, one in enumerate(causes)]
    if judged.partly and judged.finding:
        rows = [(None, _arithmetic_row(judged, causes)), *rows]
    order = sorted(rows, key=lambda row: -(row[0] if row[0] is not None else -1.0))
    return [row for _, row in order], as_json(proof)


def _arithmetic_row(judged: Judgement, causes: list[Cause]) -> dict[str, Any]:
    """Return the row of an arithmetic that some products have and others have not."""
    assert judged.finding is not None
    mistake = judged.finding.mistake()
    row = cause_row(causes[0]._replace(evidence=[None] * len(causes[0].diagnoses)), None)
    kept = {key: mistake[key] for key in ("mutant", "what", "seen_in", "needs", "coefficient", "stderr", "left")}
    return row | kept | {"verdict": "named"}
