"""The snippets of docs/getting-a-dump.md, as they stand there."""

import re
import warnings
from pathlib import Path
from typing import Any

PAGE = (Path(__file__).parents[2] / "docs/getting-a-dump.md").read_text()


def snippet(marker: str, weights: str = "270m") -> str:
    """Return the code after a marker of the page, on other weights than those that it names."""
    found = re.search(rf"<!-- {marker} -->\n```python\n(.*?)^```", PAGE, re.M | re.S)
    assert found, f"no snippet is marked {marker}"
    return found[1].replace('"270m"', f'"{weights}"')


def run_snippet(marker: str, weights: str = "270m", **names: Any) -> dict[str, Any]:
    """Run the code after a marker on names; return them and those that it makes. It writes `dump` in this folder."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(snippet(marker, weights), names)
    return names
