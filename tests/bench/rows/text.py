"""Prefill and decoding of the text model, and loading it, in every form of its weights."""

from collections.abc import Iterator
from typing import Literal

from ..drawn import tokens
from ..row import LLAMA, TRANSFORMERS, Entry, Job, Options, Row

PREFILLS = (128, 512, 2_048, 4_096, 8_192)
CACHED = (0, 512, 4_096)
STEPS = 16  # tokens of a timing of decoding
TRANSFORMERS_RUNS = {"file": ["sdpa"], "float32": ["sdpa", "eager"]}  # it decodes a file's weights to float32


def rows(options: Options) -> Iterator[Row]:
    """List the rows."""
    yield from _in_each_form("load", "open the weights, and the logits of one token", 1, options, "load")
    for count in PREFILLS:
        for which in ("last", "all"):
            name, what = f"prefill-{count}-{which}", f"{which} logits of {count:,} tokens, with a cache"
            yield from _in_each_form(name, what, count, options, "prefill", count=count, which=which)
    for count in CACHED:
        name, what = f"decode-{count}", f"{STEPS} tokens, one at a time, behind {count:,}"
        yield from _in_each_form(name, what, STEPS, options, "decode", count=count, steps=STEPS)


def _in_each_form(name: str, what: str, amount: int, options: Options, job: str, **given) -> Iterator[Row]:
    for form in options.forms:
        entries = list(_entries(options.model, form, job, **given))
        yield Row(name, what, entries, amount, "tok/s" if given else "", form)


def _entries(model: str, form: str, job: str, **given) -> Iterator[Entry]:
    ours = {"weights": "file:gguf-q8_0", "held_as": "file"} if form == "q8_0" else {"weights": model, "held_as": form}
    yield Entry("ref", f"rows.text:{job}", ours | given)
    if ours["held_as"] == "file":
        yield Entry("ref in memory", f"rows.text:{job}", ours | given | {"held_as": "memory"})
    yield Entry("llama.cpp", f"peers.of_llama_cpp:{job}", {"file": f"file:gguf-{form}", **given}, LLAMA)
    for attention in TRANSFORMERS_RUNS.get(form, ()):
        theirs = {"folder": "file:folder", "attention": attention, **given}
        yield Entry(f"transformers {attention}", f"peers.of_transformers:{job}", theirs, TRANSFORMERS)


def load(weights: str, held_as: str) -> Job:
    """Open weights and run one token, so that all of them are read."""
    import ref

    def run():
        return ref.forward(ref.load(weights, held_as).params, [[2]])

    return Job(run)


def prefill(weights: str, held_as: str, count: int, which: Literal["all", "last"]) -> Job:
    """Run a prompt."""
    import ref

    params = ref.load(weights, held_as).params
    ids, how = [tokens(count, params.config.vocabulary)], ref.How(logits=which)
    return Job(lambda: ref.forward(params, ids, how, empty(params, count)))


def decode(weights: str, held_as: str, count: int, steps: int) -> Job:
    """Run tokens one at a time behind a prompt."""
    import ref
    from ref.model.cache import copy_cache

    params = ref.load(weights, held_as).params
    ids, how, filled = tokens(count + steps, params.config.vocabulary), ref.How(logits="last"), None
    filled = empty(params, count + steps)
    if count:
        filled = ref.forward(params, [ids[:count]], how, filled)[1]
    cache = filled

    def before():
        nonlocal cache
        cache = copy_cache(filled)

    def run():
        nonlocal cache
        for token in ids[count:]:
            _, cache = ref.forward(params, [[token]], how, cache)

    return Job(run, before)


def empty(params, count: int):
    """Return an empty cache for so many tokens."""
    import numpy as np

    from ref.model.cache import empty_cache

    return empty_cache(params.config, np.zeros(1, np.int64), count, np.float32)
