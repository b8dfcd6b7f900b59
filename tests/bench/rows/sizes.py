"""Every size, on made-up weights that are made on the way: what it takes in time and, above all, in memory."""

from collections.abc import Iterator

from ..drawn import pixels, tokens
from ..row import Entry, Job, Options, Row

SIZES = ("270m", "1b", "4b", "12b", "27b")
PROMPT = 16


def rows(options: Options) -> Iterator[Row]:
    """List the rows; 27B is to stay below 8 GB."""
    for size in SIZES:
        what = f"{PROMPT} tokens, an image where the size sees, and one new token; weights made on the way"
        yield Row(f"size-{size}", what, [Entry("ref", "rows.sizes:run", {"size": size})], most=1, warm=False)


def run(size: str) -> Job:
    """Run one size."""
    import ref
    from ref.config import SOFT_TOKEN
    from ref.model.generate import Sampling

    loaded = ref.load(f"synthetic:{size}")
    ids, images = tokens(PROMPT, loaded.params.config.vocabulary), None
    if loaded.vision:
        images = ref.Images(loaded.vision, pixels(loaded.vision.config.image))
        ids[4:4] = [SOFT_TOKEN] * loaded.vision.config.soft_tokens
    return Job(lambda: list(ref.generate(loaded.params, [ids], 1, Sampling(greedy=True), images=images)))
