"""The explore page: one file that needs no network."""

from pathlib import Path

from ref.report.page import as_json, assemble, write_page
from ref.show.explore import Explored, packed


def write_explore(explored: Explored, path: str | Path) -> Path:
    """Write the page of a prompt, at most 8 MB.

    Args:
        explored: from `ref.show.explore.explore`.
        path: where; under a temporary name first, then renamed.

    Raises:
        BadInput: plotly is not installed, or the file cannot be written.

    Source: own; charts are drawn by plotly.js (MIT), which stands in the page.
    """
    here = Path(__file__).parent
    page = assemble("gemma3-ref explore", here, "explore_page", {}, lambda room: as_json(packed(explored, room)))
    return write_page(path, page)
