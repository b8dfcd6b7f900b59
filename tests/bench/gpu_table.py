"""Write docs/gpu.md: what `clean.py --json FILE` found on a GPU, clean and planted.

python tests/bench/gpu_table.py CLEAN.json [PLANTED.json]
"""

import json
import sys
from collections import defaultdict
from pathlib import Path

HEAD = """# On a GPU

Captures of transformers on a GPU, judged on the same machine: made-up weights at the real shapes of each size (`pair`:
a local and a global layer), a prompt and cached steps; `tiny` whole, with left pads of two rows, and with two images;
`siglip-224` is one block of the tower at its real width. Floors are of the worst tap beside its own inputs: up to
about 1 is what the format costs. A planted row has one of twenty mistakes in a layer that is drawn.

    python tests/bench/clean.py --only 'cuda/*' --json clean.json
    python tests/bench/clean.py --only 'cuda/*' --planted --json planted.json
    python tests/bench/gpu_table.py clean.json planted.json

"""


def rows_of(file: Path) -> list[dict]:
    """Read the lines of a run."""
    return json.loads(file.read_text())


def clean_table(lines: list[dict]) -> str:
    """Return one row for each size and arithmetic."""
    groups: dict[tuple[str, str], list[dict]] = defaultdict(list)
    for line in lines:
        _, size, kind, _ = line["name"].split("/")
        groups[size, kind].append(line)
    rows = ["| model | arithmetic | judged as | match | worst tap, floors |", "|---|---|---|---|---|"]
    order = list(dict.fromkeys(size for size, _ in groups))  # rows of one size stand together, whatever run they are of
    for (size, kind), some in sorted(groups.items(), key=lambda one: order.index(one[0][0])):
        worst = max(some, key=lambda line: line["local"]["floors"])["local"]
        good = sum(line["verdict"] == "match" for line in some)
        judged = ", ".join(sorted({line["judged_as"] for line in some}))
        rows.append(f"| {size} | {kind} | {judged} | {good} of {len(some)} | {worst['floors']:.2f} `{worst['tap']}` |")
    return "\n".join(rows)


def planted_text(lines: list[dict]) -> str:
    """Return how many mistakes were caught, placed and named."""
    named = sum(line["mistake"] in line["named"] for line in lines)
    missed = [f"`{line['name']}`: {line['mistake']}" for line in lines if not line["placed"]]
    text = f"Planted, one in each of {len(lines)}: {sum(line['caught'] for line in lines)} caught, "
    text += f"{sum(line['placed'] for line in lines)} at the right tap, {named} named as what was planted."
    return text + (f"\nNot at the right tap: {'; '.join(missed)}." if missed else "")


def main(files: list[str]) -> None:
    """Write the page."""
    lines = rows_of(Path(files[0]))
    versions = ", ".join(sorted({f"{line['machine']}, {line['versions']}" for line in lines}))
    parts = [f"Measured on {versions}.", clean_table(lines)]
    parts += [planted_text(rows_of(Path(file))) for file in files[1:]]
    Path("docs/gpu.md").write_text(HEAD + "\n\n".join(parts) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
