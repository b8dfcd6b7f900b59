"""Sections of a Markdown page as tabs of the site.

In the repository they stay sections: they read well, and their anchors work. On the site `#mlx` opens the tab
of `## MLX`.
"""

import re

TABS = re.compile(r"^<!-- tabs: (\w+) -->\n(.*?)^<!-- end of tabs -->\n", re.M | re.S)
HEADING = re.compile(r"^## (.+)\n", re.M)


def tabbed(text: str) -> str:
    """Make a tab of each section between `<!-- tabs: group -->` and `<!-- end of tabs -->`.

    The site remembers which tab of a group was open.

    Args:
        text: Markdown.

    Returns:
        MyST, with directives of sphinx-design. A tab's name and sync key are the anchor of its heading.
    """

    def tabs(found: re.Match) -> str:
        before, *sections = HEADING.split(found[2])
        items = "".join(map(_tab, sections[::2], sections[1::2]))
        return f"{before}\n:::::{{tab-set}}\n:sync-group: {found[1]}\n\n{items}:::::\n"

    return TABS.sub(tabs, text)


def _tab(title: str, text: str) -> str:
    name = anchor(title)
    return f"::::{{tab-item}} {title}\n:name: {name}\n:sync: {name}\n{text}::::\n\n"


def anchor(title: str) -> str:
    """Return the anchor of a heading, as GitHub and MyST make it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
