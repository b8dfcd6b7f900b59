"""The catalogue of mutants: real mistakes, each runnable.

Those inside the model are `tap_mutants()`; those of the rules without weights are `rule_mutants()`, by topic.
"""

from functools import cache

from ref.mutants.base import RuleMutant, TapMutant


@cache
def tap_mutants() -> dict[str, TapMutant]:
    """Return every mutant inside the model, by name."""
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

    lists = (
        NORM_MUTANTS,
        END_MUTANTS,
        ROTATION_MUTANTS,
        LAYER_MUTANTS,
        ATTENTION_MUTANTS,
        HEAD_MUTANTS,
        CACHE_MUTANTS,
        FFN_MUTANTS,
        TOWER_MUTANTS,
        PROJECTOR_MUTANTS,
    )
    every = [one for some in lists for one in some]
    assert len({one.name for one in every}) == len(every)
    return {one.name: one for one in every}


@cache
def rule_mutants() -> dict[str, list[RuleMutant]]:
    """Return every mutant of a rule without weights, by topic. Those of visibility are inside the model, too."""
    from ref.mutants.crops import CROP_MUTANTS
    from ref.mutants.formats import FORMAT_MUTANTS
    from ref.mutants.pixels import PIXEL_MUTANTS
    from ref.mutants.prompts import PROMPT_MUTANTS
    from ref.mutants.visibility import VISIBILITY_MUTANTS

    formats = [one for some in FORMAT_MUTANTS.values() for one in some]
    return {
        "visibility": VISIBILITY_MUTANTS,
        "crops": CROP_MUTANTS,
        "pixels": PIXEL_MUTANTS,
        "formats": formats,
        "prompts": PROMPT_MUTANTS,
    }


def every_mutant() -> dict[str, TapMutant | RuleMutant]:
    """Return every mutant there is, by name; of visibility those inside the model."""
    rules = {one.name: one for some in rule_mutants().values() for one in some}
    return rules | tap_mutants()
