"""The judge on a dump of transformers, and the page of `explore`."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..drawn import tokens
from ..files import DUMPED
from ..row import Entry, Job, Options, Row

EXPLORED = 64


def rows(options: Options) -> Iterator[Row]:
    """List the rows."""
    for dtype in ("float32", "bfloat16"):
        given = {"weights": options.model, "dump": f"file:dump-{dtype}"}
        what = f"a dump of transformers in {dtype}, every tap of {DUMPED} tokens"
        yield Row(f"compare-{dtype}", what, [Entry("ref", "rows.judged:compare", given)], most=3)
    given = {"weights": options.model, "count": EXPLORED}
    yield Row("explore", f"the page of {EXPLORED} tokens", [Entry("ref", "rows.judged:explore", given)])


def compare(weights: str, dump: str) -> Job:
    """Judge a dump."""
    import ref

    def run():
        verdict = ref.compare(dump, weights)["verdict"]
        if verdict != "match":
            raise ValueError(f"a correct dump is judged {verdict}")

    return Job(run)


def explore(weights: str, count: int) -> Job:
    """Make a page."""
    import ref
    from ref.show.explore import explore as explored
    from ref.show.explore_page import write_explore

    loaded = ref.load(weights)
    ids, tokenizer = tokens(count, loaded.params.config.vocabulary), loaded.tokenizer()

    def run():
        with tempfile.TemporaryDirectory() as folder:
            write_explore(explored(loaded, ids, tokenizer), Path(folder) / "page.html")

    return Job(run)
