"""Integers as spans: `0..4, 6, 8..10`."""

from collections.abc import Iterable


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
