"""How cost grows with length, in one layer of the shape of the 4B: each length has a process of its own.

A local layer is to take at most twice as long for twice as many tokens. The last queries of a global layer see all
keys, and are to take at most twice as long for twice as many of them.
"""

from collections.abc import Iterator

from ..drawn import normal, tokens
from ..row import Entry, Job, Options, Row

SHORTEST, QUERIES, WARM = 4_096, 64, 256
LIMIT = 2.1  # per doubling; 2 is what the work is
DRAWN = {
    "growth-local": "tokens through a local layer",
    "growth-global": f"{QUERIES} queries of a global layer over keys",
}


def rows(options: Options) -> Iterator[Row]:
    """List the rows."""
    lengths = [length for length in (SHORTEST << i for i in range(18)) if length <= options.longest]
    for name, what in DRAWN.items():
        job = f"rows.growth:{name.removeprefix('growth-')}_layer"
        entries = [
            Entry(f"{length:,}", job, {"length": length}, beside=f"{length // 2:,}" if i else None)
            for i, length in enumerate(lengths)
        ]
        yield Row(name, f"{what}, by their number", entries, alone=True, most=3, warm=False, limit=LIMIT)


def _layer(global_every: int, which: int):
    """Return parameters of one layer, which is local unless every layer is global."""
    import ref

    params = ref.load("synthetic:4b-pair").params
    config = params.config._replace(layers=1, global_every=global_every)
    return params._replace(config=config, layers=[params.layers[which]])


def local_layer(length: int) -> Job:
    """Run a whole prompt."""
    import ref

    params = _layer(6, 0)
    ids, how = [tokens(length, params.config.vocabulary)], ref.How(logits="none")
    ref.forward(params, [ids[0][:WARM]], how)  # compiles
    return Job(lambda: ref.forward(params, ids, how))


def global_layer(length: int) -> Job:
    """Run the last tokens over a cache that holds all keys before them."""
    import ref

    params = _layer(1, 1)
    ids, how = [tokens(QUERIES, params.config.vocabulary)], ref.How(logits="none")
    ref.forward(params, ids, how, _filled(params.config, WARM))  # compiles
    cache = _filled(params.config, length)

    def run():
        return ref.forward(params, ids, how, cache._replace(clock=cache.clock.copy()))

    return Job(run)


def _filled(config, length: int):
    """Return a cache of drawn keys and values, with room for the last queries."""
    import numpy as np

    from ref.model.cache import Cache, LayerCache

    shape, before = (1, length, config.kv_heads, config.head_dim), length - QUERIES
    layer = LayerCache(normal(3, *shape), normal(4, *shape), np.arange(length)[None], before)
    return Cache((layer,), np.zeros(1, np.int64), np.array([before]), np.zeros(1, bool))
