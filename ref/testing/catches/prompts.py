"""Which goldens catch each mistake in prompts."""

import json

from ref.config import BOS, PAD, SOFT_TOKEN
from ref.golden_files.files import golden_root, read_checked
from ref.mutants.prompt_parts import Ids, Prompt
from ref.mutants.prompts import PROMPT_MUTANTS
from ref.prompt.tokenizer import Tokenizer


def prompt_goldens() -> dict[str, tuple[Prompt, Ids]]:
    """Read the prompts of golden/tokens; those with images once more as google-deepmind/gemma expands them.

    Returns:
        id -> prompt, its ids with one <bos>.

    Raises:
        BadInput: a golden is missing or damaged.

    Source: tokenizers with the official tokenizer.json; transformers' Gemma3Processor; google-deepmind/gemma's
        expansion of ids in golden/gemma_jax; see the files.
    """
    folder, cases = golden_root() / "tokens", {}
    ids = json.loads((folder / "ids.json").read_text(encoding="utf-8"))
    for kind, key in (("cases", "ids"), ("differs", "tokenizers")):
        for at, row in enumerate(ids[kind]):
            cases[f"tokens/ids/{kind}/{at}"] = (Prompt(row["text"]), [BOS, *row[key]])
    for row in json.loads((folder / "chat.json").read_text(encoding="utf-8"))["cases"]:
        chat = Prompt(row["messages"], generation_prompt=row["generation_prompt"])
        cases[f"tokens/chat/{row['name']}"] = (chat, row["ids"])
    expansions = read_checked(golden_root() / "gemma_jax" / "expansion.json", "gemma_jax")["cases"]
    expanded = {(str(row["ids"]), row["soft_tokens"]): row["expanded"] for row in expansions}
    for at, row in enumerate(read_checked(folder / "images.json", "token_images")["cases"]):
        content = row["messages"] if "messages" in row else row["text"] or ""
        opened = row.get("generation_prompt", True)
        prompt = Prompt(content, tuple(row["crops"]), "transformers", row["soft_tokens"], opened)
        cases[f"tokens/images/{at}: {row['name']}"] = (prompt, _unpacked(row["ids"]))
        found = None if any(row["crops"]) else expanded.get((str(row["plain"]), row["soft_tokens"]))
        if found:
            cases[f"gemma_jax/expansion/{at}: {row['name']}"] = (prompt._replace(layout="gemma"), _unpacked(found))
    return cases


def _unpacked(ids: list) -> Ids:
    """Write out pairs [id, count]; google-deepmind/gemma has -2 for a soft token, and 0 where there is room left."""
    flat = [token for part in ids for token in ([part[0]] * part[1] if isinstance(part, list) else [part])]
    return [SOFT_TOKEN if token == -2 else token for token in flat if token != PAD]


def kills(tokenizer: Tokenizer) -> dict[str, list[str]]:
    """Say which goldens catch each mutant.

    Args:
        tokenizer: Gemma 3's; the goldens have no vocabulary.

    Returns:
        name of a mutant -> ids of the cases whose tokens it gets wrong.

    Raises:
        BadInput: as `prompt_goldens`.

    Source: `prompt_goldens`.
    """
    goldens = prompt_goldens().items()
    return {
        mutant.name: [name for name, (prompt, ids) in goldens if mutant.run(tokenizer, prompt) != ids]
        for mutant in PROMPT_MUTANTS
    }
