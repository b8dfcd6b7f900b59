"""The catalogue of mutants: real mistakes, each runnable.

Those inside the model are `tap_mutants()`; those of the rules without weights are `CROP_MUTANTS`, `PIXEL_MUTANTS`,
`PROMPT_MUTANTS` and `VISIBILITY_MUTANTS` in the files of these names.
"""

from functools import cache

from ref.mutants.base import TapMutant


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
