"""The text of golden/KILLS.md, of results that kills.py has."""

import ref
from ref.mutants import rule_mutants

DTYPES = {"float32": "gemma-float32", "bfloat16": "transformers-bfloat16", "float16": "transformers-float16"}
HEAD = """# Kill matrix

Made by `python golden/make/kills.py`; do not edit. Every mutant of the catalogue (`ref/mutants`) runs on every
golden case in each dtype, and what it computes is judged as a dump. A cell has a letter for float32, bfloat16, float16:

    N  caught, and named alone        T  caught, and in the first class of several that these inputs cannot tell apart
    C  caught, but called otherwise   -  changes bits, but stays within the noise            .  no bit differs

"""


def page(names, results):
    """Return the text of KILLS.md."""
    cases = list(dict.fromkeys(case for case, _ in results))
    cases.sort(key=lambda case: (case.startswith("270m") or "/" not in case, case))
    clean = sum(out["(none)"] == "match" for out in results.values())
    caught = [name for name in names if any(out.get(name) in ("N", "T", "C") for out in results.values())]
    first = [name for name in caught if any(out.get(name) in ("N", "T") for out in results.values())]
    wrong = sum(symbol == "C" for out in results.values() for symbol in out.values())
    lines = [
        HEAD,
        f"{len(names)} mutants inside the model: {len(caught)} caught, {len(first)} with their own class first. "
        f"Cells called otherwise: {wrong}. Runs without a mutant: {len(results)}, {clean} of them match.\n",
        "| mutant | " + " | ".join(cases) + " |",
        "|---" * (len(cases) + 1) + "|",
    ]
    for name in names:
        cells = [" ".join(results.get((case, dtype), {}).get(name, "") for dtype in DTYPES).strip() for case in cases]
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n" + rules()


def rules():
    """Return the tables of the mutants without weights: how many goldens catch each, and one of them."""
    from ref.testing.catches import crops as caught_crops
    from ref.testing.catches import formats as caught_formats
    from ref.testing.catches import prompts as caught_prompts

    tokenizer, mutants = ref.load("270m").tokenizer(), rule_mutants()
    parts = [
        ("Pan & Scan", "golden/vectors/pan_and_scan.json, golden/images", mutants["crops"], caught_crops.kills()),
        (
            "Pixels",
            "golden/vectors/resize.json, photographs of golden/images",
            mutants["pixels"],
            pixel_kills(),
        ),
        (
            "Formats",
            "golden/vectors/quantise.json, switching_float.json",
            mutants["formats"],
            caught_formats.kills(),
        ),
        (
            "Prompts",
            "golden/tokens, golden/gemma_jax/expansion.json",
            mutants["prompts"],
            caught_prompts.kills(tokenizer),
        ),
    ]
    lines = []
    for title, where, several, kills in parts:
        lines += [f"\n## {title}\n", f"Against {where}: how many of them each mutant fails, and one.\n"]
        lines += ["| mutant | fails | such as |", "|---|---|---|"]
        for one in several:
            failed = kills[one.name]
            lines.append(f"| `{one.name}` | {len(failed)} | {failed[0] if failed else ''} |")
    return "\n".join(lines) + "\n"


def pixel_kills():
    """Return what the pixel mutants fail, photographs too."""
    from ref.testing.catches import pixels

    return pixels.kills(pixels.photographs())
