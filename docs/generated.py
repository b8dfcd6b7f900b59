"""Pages that scripts make: written whole, or checked to be what they would be now."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def made_line(script: str) -> str:
    """Say in a page's second line where it comes from."""
    return f"Made by `python docs/{script}`; do not edit."


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Write a Markdown table; an empty cell becomes a dash."""
    lines = [head, ("---",) * len(head), *((cell or "—" for cell in row) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def write_or_check(page: str, text: str) -> int:
    """Write a page of docs/; with --check only compare, and return 1 where it differs."""
    path = ROOT / "docs" / page
    if "--check" not in sys.argv[1:]:
        path.write_text(text, encoding="utf-8")
        return 0
    same = path.exists() and path.read_text(encoding="utf-8") == text
    if not same:
        print(f"docs/{page}: not as the code says; run python docs/make_{path.stem}.py", file=sys.stderr)
    return 0 if same else 1
