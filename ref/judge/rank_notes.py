"""What a report notes of ranks whose values differ and are right all the same."""

from collections.abc import Sequence

from ref.measure.tap_finding import TapFinding


def rank_notes(findings: Sequence[TapFinding]) -> list[str]:
    """Note replicas that differ between ranks within rounding noise; none where a bug makes them differ.

    Args:
        findings: of all taps, in the order of execution.
    """
    apart = [one for one in findings if any(rank.apart is not None for rank in one.ranks)]
    if not apart or any(one.verdict == "bug" for one in apart):
        return []
    first = apart[0]
    rank = next(one for one in first.ranks if one.apart is not None)
    taps = "1 tap" if len(apart) == 1 else f"{len(apart)} taps"
    where = f"first at {first.tap} (pass {first.pass_number}): rank {rank.rank} is {rank.apart:.1e} away"
    return [f"ranks: replicas of {taps} differ within rounding noise, {where}"]
