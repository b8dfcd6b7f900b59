"""`assert_matches`: another implementation computed what Gemma 3 is, within what its number format must cost."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from ref.errors import wanted
from ref.report.figures import DIFFERS

BARE = (".npz", ".safetensors")
MOST_ROWS = 8  # of the table of taps


def assert_matches(
    actual: str | Path | dict[str, np.ndarray],
    weights: str | None = None,
    ids: Any = None,
    names: str | None = None,
    *,
    allow_undetermined: bool = False,
    err_msg: str = "",
    **compare_args: Any,
) -> dict:
    """Assert that a dump matches the reference, in the manner of `numpy.testing`.

        error of each tap <= limit x the noise floor of the dump's own number format

    Args:
        actual: a dump's folder or file, as `ref.compare` takes it; or {tap: array} of one pass over `ids`.
        weights: which the other implementation ran, as for `--weights`; None: those that the dump names, or 270m
            where it names none (arrays, bare files).
        ids: token ids, where the dump does not hold them; needed with arrays.
        names: alias table that the names come from, such as `transformers`; None: our own tap names.
        allow_undetermined: let pass what this input cannot decide.
        err_msg: put into the message.
        compare_args: handed to `ref.compare`.

    Returns:
        The report of `ref.compare`: its `coverage` says what a match does not prove.

    Raises:
        AssertionError: the verdict is "bug", or "undetermined" and that was not allowed; the message names the first
            divergence, the worst taps and the diagnosis.
        BadInput: what cannot be judged.

    Source: `ref.compare`.
    Differs: `numpy.testing.assert_allclose` wants a tolerance; here it is the measured noise floor.
    """
    from ref.judge.compare import compare

    if isinstance(actual, dict) and ids is None:
        raise wanted("ids", "assert_matches", "token ids beside arrays", "none")
    if weights is None and (isinstance(actual, dict) or Path(actual).suffix in BARE):
        weights = "270m"
    report = compare(actual, weights=weights, ids=ids, names=names, **compare_args)
    fine = ("match", "undetermined") if allow_undetermined else ("match",)
    if report["verdict"] not in fine:
        raise AssertionError(describe(report, err_msg))
    return report


def describe(report: dict, err_msg: str = "") -> str:
    """Write a report as the message of an assertion.

    Args:
        report: from `ref.compare`.
        err_msg: the caller's own words.

    Returns:
        Lines: header, first divergence, the worst taps, the causes with their numbers.

    Source: `numpy.testing.build_err_msg`.
    """
    bug = report["verdict"] == "bug"
    wrong = [row for row in report["taps"] if row["verdict"] == ("bug" if bug else "undetermined")]
    title = "Not equal to the reference of Gemma 3" if bug else "Undetermined: this dump cannot tell"
    policy = (report.get("policy") or {}).get("compute_dtype", "the dump's dtype")
    lines = ["", f"{title}, by the noise floor of {policy}", *([err_msg] if err_msg else [])]
    lines += _first(report)
    share = 100 * len(wrong) / max(len(report["taps"]), 1)
    kind = "Mismatched" if bug else "Undetermined"
    lines.append(f"{kind} taps: {len(wrong)} / {len(report['taps'])} ({share:.3g}%)")
    lines += _table(wrong)
    return "\n".join([*lines, *_causes(report)])


def _first(report) -> list[str]:
    from ref.report.words import how_far

    first = report["first"]
    if not first:
        return []
    row = next((r for r in report["taps"] if (r["tap"], r["pass"]) == (first["tap"], first["pass"])), None)
    far = f": {how_far(row)}" if row else ""
    return [f"First divergence: {first['tap']} in pass {first['pass']}{far}"]


def _table(rows) -> list[str]:
    """Tabulate the first wrong tap and the worst others, in the order of execution."""
    if not rows:
        return []
    worst = sorted(range(1, len(rows)), key=lambda i: _badness(rows[i]), reverse=True)[: MOST_ROWS - 1]
    shown = [rows[i] for i in sorted([0, *worst])]
    width = max(len(row["tap"]) for row in shown)
    lines = [f" {'tap':{width}}  pass  local x floor  inherited x floor    max abs  worst token"]
    for row in shown:
        metrics = row.get("metrics") or {}
        token = metrics.get("worst_token")
        lines.append(
            f" {row['tap']:{width}}  {row['pass']:4}  {_number(row.get('local_ratio')):>13}"
            f"  {_number(row.get('inherited_ratio')):>17}  {_number(metrics.get('max_abs')):>9}"
            f"  {'-' if token is None else token:>11}{_nonfinite(row)}"
        )
    hidden = len(rows) - len(shown)
    return [*lines, f" ... and {hidden} more"] if hidden else lines


def _badness(row) -> float:
    if row.get("nonfinite"):
        return math.inf
    found = [row.get("local_ratio"), row.get("inherited_ratio")]
    return max([value for value in found if value is not None and not math.isnan(value)], default=0.0)


def _number(value) -> str:
    return "-" if value is None else DIFFERS if value == math.inf else f"{value:.3g}"


def _nonfinite(row) -> str:
    found = row.get("nonfinite")
    return f"  {found['count']} NaN or infinite, first at token {found['token']}" if found else ""


def _causes(report) -> list[str]:
    from ref.report.causes import PROOF, cause_words, told_where

    causes, proof = report.get("causes") or [], report.get("proof")
    lines = [f"Cause: {told_where(one, report)}: {cause_words(one, report)}" for one in causes[:MOST_ROWS]]
    lines += [f" ... and {len(causes) - MOST_ROWS} more"] if len(causes) > MOST_ROWS else []
    lines += [f"{PROOF.capitalize()}: {proof['says']}"] if proof else []
    return [*lines, *([f"To decide: {report['decide']}"] if report.get("decide") else [])]
