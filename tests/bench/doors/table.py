"""The table of the doors, in Markdown."""

from collections.abc import Iterable, Iterator
from typing import Any

from .door import Door

HEAD = "| stack | lines | 6 tokens | 640 tokens | planted | named |\n|---|---|---|---|---|---|"


def table(doors: Iterable[Door], lines: Iterable[dict[str, Any]]) -> str:
    """Return a row for each stack and version that was run, in the order of the doors."""
    rows = list(_rows(doors, list(lines)))
    return "\n".join([HEAD, *rows])


def _rows(doors: Iterable[Door], lines: list[dict[str, Any]]) -> Iterator[str]:
    for door in doors:
        own = [line for line in lines if line["door"] == door.name]
        for versions in sorted({line["versions"] for line in own}):
            done = {(line["tokens"], line["planted"]): line for line in own if line["versions"] == versions}
            cells = [_clean(done.get((tokens, False))) for tokens in (6, 640)]
            short, long = (_named(done.get((tokens, True))) for tokens in (6, 640))
            named = short if short == long else f"{short}; of 640 tokens {long}"
            yield f"| {door.name}: {versions} | {door.lines()} | " + " | ".join([*cells, door.mistake, named]) + " |"


def _clean(line: dict[str, Any] | None) -> str:
    if line is None:
        return "not run"
    return f"{line['verdict']}; {line['local']['floors']:.2f}, {line['inherited']['floors']:.2f}"


def _named(line: dict[str, Any] | None) -> str:
    if line is None:
        return "not run"
    causes = ", ".join(f"`{one}`" for one in line["named"]) or "none"
    return f"{causes} at `{line['first']['tap'].removeprefix('text.')}`" if line["first"] else line["verdict"]
