"""Mistakes in prompts: turns, white space, control tokens, images and their markers, and the tokenizer itself."""

from collections.abc import Sequence

from ref.mutants.base import RuleMutant
from ref.mutants.prompt_images import IMAGE_MUTANTS
from ref.mutants.prompt_parts import Prompt, encode
from ref.mutants.prompt_tokenizer import TOKENIZER_MUTANTS
from ref.mutants.prompt_turns import TURN_MUTANTS
from ref.prompt.tokenizer import Tokenizer

PROMPT_MUTANTS: list[RuleMutant] = [*TURN_MUTANTS, *IMAGE_MUTANTS, *TOKENIZER_MUTANTS]


def prompt_mistakes(got: Sequence[int], tokenizer: Tokenizer, prompt: Prompt) -> list[RuleMutant]:
    """Find the mistakes that make exactly these ids of a prompt.

    Args:
        got: ids that are not those of the prompt.
        tokenizer: Gemma 3's.
        prompt: what they are said to be made of.

    Returns:
        every mutant whose ids are `got`; none where they are the right ones.

    Raises:
        BadInput: as `encode`.

    Source: `PROMPT_MUTANTS`.
    """
    got = [int(token) for token in got]
    if got == encode(tokenizer, prompt):
        return []
    return [mutant for mutant in PROMPT_MUTANTS if mutant.run(tokenizer, prompt) == got]


def name_prompt_mistake(got: Sequence[int], tokenizer: Tokenizer, prompt: Prompt) -> RuleMutant | None:
    """Return the first of `prompt_mistakes`, or None.

    Args:
        got, tokenizer, prompt: as for `prompt_mistakes`.

    Raises:
        BadInput: as `encode`.

    Source: `PROMPT_MUTANTS`, in its order.
    """
    return next(iter(prompt_mistakes(got, tokenizer, prompt)), None)
