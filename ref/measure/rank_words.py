"""Which ranks are off, in words."""

from collections.abc import Sequence

from ref.measure.tap_finding import RankFinding

MOST_WORDS = 4  # ranks that a sentence names


def listed(ranks: Sequence[int]) -> str:
    """Name ranks: `rank 1`, `ranks 0, 2, 3`."""
    several = sorted(set(ranks))
    more = f" and {len(several) - MOST_WORDS} more" if len(several) > MOST_WORDS else ""
    return f"rank{'s' * (len(several) > 1)} {', '.join(map(str, several[:MOST_WORDS]))}{more}"


def words_of(rows: Sequence[RankFinding]) -> str:
    """Say in a sentence which ranks are off, how far, and how far the others are."""
    wrong, right = ([one for one in rows if one.off is off] for off in (True, False))
    if not wrong:
        return ""
    what = "replica" if wrong[0].kind == "replica" else f"slice of {wrong[0].axis}"
    far = max(one.floors for one in wrong)
    rest = f", the others at most {max(one.floors for one in right):.3g}" if right else ""
    return f"{what} of {listed([one.rank for one in wrong])} is {far:.3g} floors off{rest}"


def words_of_sums(sums: Sequence[RankFinding]) -> str:
    """Say in a sentence whether it is a rank's part that is off, or the sum of the parts."""
    wrong = [one for one in sums if one.off]
    if not wrong:
        return "each rank's part of the sum is right, the sum over ranks is not"
    far = max(one.floors for one in wrong)
    return f"the part of the sum of {listed([one.rank for one in wrong])} is {far:.3g} floors off"
