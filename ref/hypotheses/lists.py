"""Lists in sentences: integers as spans, `0..4, 6, 8..10`, and what is too long cut off."""

from collections.abc import Iterable, Sequence


def spans_of(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Return the first and last of each run of neighbours among ascending integers."""
    spans: list[tuple[int, int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1] = spans[-1][0], number
        else:
            spans.append((number, number))
    return spans


def in_spans(numbers: Iterable[int], between: str = "..") -> list[str]:
    """Write each run of neighbours among ascending integers, a single one as it is."""
    return [f"{first}{between}{last}" if first != last else f"{first}" for first, last in spans_of(numbers)]


def cut_off(words: Sequence[str], most: int) -> str:
    """List words, at most so many: `a, b, ...`."""
    return ", ".join(words[:most]) + (", ..." if len(words) > most else "")


def and_more(words: Sequence[str], most: int) -> str:
    """List words, at most so many, and count the others: `a, b and 3 more`."""
    return ", ".join(words[:most]) + (f" and {len(words) - most} more" if len(words) > most else "")
