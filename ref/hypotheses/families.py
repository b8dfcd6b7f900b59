"""All families of mistakes with parameters."""

from ref.hypotheses.adapters import ADAPTERS
from ref.hypotheses.batch_rows import BATCH_ROWS
from ref.hypotheses.cache import CACHE
from ref.hypotheses.cache_moves import CACHE_MOVES
from ref.hypotheses.empty_keys import EMPTY_KEYS
from ref.hypotheses.factors import FACTORS
from ref.hypotheses.foreign import FOREIGN
from ref.hypotheses.format_steps import FORMAT_STEPS
from ref.hypotheses.formats import FORMATS
from ref.hypotheses.hypothesis import Family
from ref.hypotheses.norms import NORM_FAMILIES
from ref.hypotheses.orders import ORDERS
from ref.hypotheses.ranks import OF_RANKS
from ref.hypotheses.rotation import ROTATIONS
from ref.hypotheses.rotation_formats import ROTATION_FORMATS
from ref.hypotheses.scales import SCALES
from ref.hypotheses.split_sums import SPLIT_SUMS
from ref.hypotheses.visible import SEEN

FAMILIES: tuple[Family, ...] = (
    *SCALES,
    *NORM_FAMILIES,
    *ROTATIONS,
    *ROTATION_FORMATS,
    *FOREIGN,
    *ADAPTERS,
    *OF_RANKS,
    *SPLIT_SUMS,
    *SEEN,
    *CACHE,
    *CACHE_MOVES,
    *EMPTY_KEYS,
    *FORMATS,
    *FORMAT_STEPS,
    *ORDERS,
    *BATCH_ROWS,
    *FACTORS,
)


def families_at(group: str) -> list[Family]:
    """List the families that are looked for at a tap."""
    return [one for one in FAMILIES if one.groups is None or group in one.groups]
