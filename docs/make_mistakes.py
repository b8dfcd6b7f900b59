"""Make docs/mistakes.md, the catalogue of mistakes as a page: `python docs/make_mistakes.py`.

What each is, where it was seen and what shows it stand in `ref.mutants`; the golden that catches it in golden/KILLS.md.
"""

import json
import re
from pathlib import Path

from ref.mutants import rule_mutants
from ref.mutants.attention import ATTENTION_MUTANTS
from ref.mutants.cache import CACHE_MUTANTS
from ref.mutants.ends import END_MUTANTS
from ref.mutants.ffn import FFN_MUTANTS
from ref.mutants.heads import HEAD_MUTANTS
from ref.mutants.layers import LAYER_MUTANTS
from ref.mutants.norms import NORM_MUTANTS
from ref.mutants.projector import PROJECTOR_MUTANTS
from ref.mutants.rotation import ROTATION_MUTANTS
from ref.mutants.tower import TOWER_MUTANTS

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/mistakes.md"
INSIDE = {
    "Norms": NORM_MUTANTS,
    "Embedding, images in the text, head, residual stream": END_MUTANTS,
    "Rotary embedding": ROTATION_MUTANTS,
    "What a query sees, and kinds of layers": LAYER_MUTANTS,
    "Scores, softmax, mix": ATTENTION_MUTANTS,
    "Heads": HEAD_MUTANTS,
    "Cache": CACHE_MUTANTS,
    "Feed-forward network": FFN_MUTANTS,
    "Vision tower": TOWER_MUTANTS,
    "Pool and projection": PROJECTOR_MUTANTS,
}
SIMPLE = ("tiny/images", "tiny/cached", "tiny/padded")  # goldens of few tokens
OUTSIDE = {"Pan & Scan": "crops", "Pixels": "pixels", "Number formats": "formats", "Prompts and tokens": "prompts"}
HEAD = """# Known mistakes

Made by `python docs/make_mistakes.py` from `ref/mutants`; do not edit.

{inside} mistakes inside the model, which `gemma3-ref compare` looks for, and {outside} in the rules without weights.
{seen} of the first and {seen_outside} of the second were seen in public; the others are plausible, not seen yet.

*Seen in* links threads, commits and files. A model in brackets: the same mistake, in a port of another model. A few
are conventions of a project and no bugs; the text under the link says so. *Shown by* is what an input must have.
*Caught by* is one golden that shows it; golden/KILLS.md has all of them. *Vector flag* names the files of
`golden/vectors` that hold what the mistake gives, under a flag of its name.
"""
COLUMNS = "| mistake | what | seen in | shown by | caught by | vector flag |\n|---|---|---|---|---|---|"


def caught_by() -> dict[str, str]:
    """Read golden/KILLS.md: a golden that names each mistake alone in every dtype, and of those a simple one."""
    found = {}
    cases: list[str] = []
    for line in (ROOT / "golden/KILLS.md").read_text(encoding="utf-8").splitlines():
        name, *cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else [""]
        if name == "mutant":
            cases = cells
        elif name.startswith("`"):
            told = {
                case: (cell.count("N"), cell.count("T"), case in SIMPLE)
                for case, cell in zip(cases, cells, strict=True)
            }
            found[name.strip("`")] = cells[1] if cases[0] == "fails" else max(told, key=lambda case: told[case])
    return found


def vector_files() -> dict[str, list[str]]:
    """Say which vector files have a flag: flag -> operations."""
    out: dict[str, list[str]] = {}
    for path in sorted((ROOT / "golden/vectors").glob("*.json")):
        for flag in json.loads(path.read_text(encoding="utf-8"))["flags"]:
            out.setdefault(flag, []).append(path.stem)
    return out


def plain(text: str) -> str:
    """Escape what Markdown reads as markup."""
    return re.sub(r"([\\|<>*`\[\]])", r"\\\1", text)


def seen_in(mutant) -> str:
    """Link where a mistake was seen; what happened there shows when one points at a link."""
    links = []
    for one in mutant.seen_in:
        short = one.where.split("/", 1)[1] if "/" in one.where else one.where
        title = one.what.replace("\\", "\\\\").replace('"', '\\"').replace("|", "\\|")
        model = "" if one.same == "exact" else f" ({plain(one.model)})"
        links.append(f'[{plain(short)}]({one.url} "{title}"){model}')
    return "; ".join(links) or "not seen yet"


def table(mutants, caught, files) -> str:
    """Write the rows of one group."""
    lines = [COLUMNS]
    for one in mutants:
        flags = ", ".join(f"`{op}`" for op in files.get(one.name, []))
        what = plain(one.what[0].upper() + one.what[1:]).rstrip(".")
        cells = [f"`{one.name}`", what, seen_in(one), plain(one.needs.words), f"`{caught[one.name]}`", flags]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def page() -> str:
    """Return the text of the page."""
    caught, files, rules = caught_by(), vector_files(), rule_mutants()
    inside = [one for some in INSIDE.values() for one in some]
    outside = [one for key in OUTSIDE.values() for one in rules[key]]
    seen, seen_outside = (sum(bool(one.seen_in) for one in some) for some in (inside, outside))
    parts = [HEAD.format(inside=len(inside), outside=len(outside), seen=seen, seen_outside=seen_outside)]
    parts += [f"## {title}\n\n{table(mutants, caught, files)}" for title, mutants in INSIDE.items()]
    parts += [f"## {title}\n\n{table(rules[key], caught, files)}" for title, key in OUTSIDE.items()]
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
