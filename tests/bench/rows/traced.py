"""What it costs to hear every tap, beside the same run that nobody hears."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..drawn import tokens
from ..row import Entry, Job, Options, Row

COUNTS = (128, 512)
PAIRWISE = (".scores", ".probs")  # a number for each pair of tokens


def rows(options: Options) -> Iterator[Row]:
    """List the rows."""
    for count in COUNTS:
        given = {"weights": options.model, "count": count}
        entries = [
            Entry("untapped", "rows.traced:untapped", given),
            Entry("taps in memory", "rows.traced:recorded", given),
            Entry("dump", "rows.traced:dumped", given | {"pairwise": False}),
            Entry("dump, scores and probs too", "rows.traced:dumped", given | {"pairwise": True}),
        ]
        what = f"every tap of {count:,} tokens, without scores and probs, and all logits"
        yield Row(f"trace-{count}", what, entries, count, "tok/s")


def _loaded(weights: str, count: int):
    import ref

    loaded = ref.load(weights)
    return loaded, tokens(count, loaded.params.config.vocabulary)


def _taps(loaded, pairwise: bool) -> list[str]:
    from ref.model.taps import tap_names

    names = tap_names(loaded.params.config.layers)
    return [name for name in names if pairwise or not name.endswith(PAIRWISE)]


def untapped(weights: str, count: int) -> Job:
    """Run alone."""
    import ref

    loaded, ids = _loaded(weights, count)
    return Job(lambda: ref.forward(loaded.params, [ids]))


def recorded(weights: str, count: int) -> Job:
    """Keep copies in memory."""
    import ref

    loaded, ids = _loaded(weights, count)
    taps = _taps(loaded, False)

    def run():
        heard = ref.Recorder(*taps)
        ref.forward(loaded.params, [ids], ref.How(taps=heard))
        return heard

    return Job(run)


def dumped(weights: str, count: int, pairwise: bool) -> Job:
    """Write a dump, into a folder that is emptied before."""
    import ref
    from ref.dump.trace import trace

    loaded, ids = _loaded(weights, count)
    taps, place = _taps(loaded, pairwise), tempfile.TemporaryDirectory()
    folder = Path(place.name) / "dump"

    def run():
        trace(loaded, [ids], folder, ref.How(), taps, 0)
        return place  # which is removed with the job

    return Job(run, lambda: shutil.rmtree(folder, ignore_errors=True))
