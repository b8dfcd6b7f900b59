"""What was tried at the taps that are off, and what was not: for the report."""

from typing import Any


class Tried:
    """What was tried, for the report."""

    def __init__(self) -> None:
        self.catalogue: set[str] = set()
        self.families: dict[str, None] = {}
        self.not_tried: dict[str, str] = {}
        self.few: dict[str, int] = {}  # of what was not tried for want of tokens: how many it needs

    def leave(self, family: str, why: str, tokens: int = 0) -> None:
        """Take note of what was not tried at a tap, and why; `tokens` that it needs, if it is for want of them."""
        self.not_tried.setdefault(family, why)
        if tokens:
            self.few[family] = tokens

    @property
    def tokens(self) -> int:
        """Tell how many tokens a prompt needs for all that was not tried for want of them; 0 where none was."""
        return max((count for family, count in self.few.items() if family not in self.families), default=0)

    def as_json(self) -> dict[str, Any]:
        """Return a part of the report."""
        rest = [{"family": name, "why": why} for name, why in self.not_tried.items() if name not in self.families]
        return {"catalogue": len(self.catalogue), "families": list(self.families), "not_tried": rest}
