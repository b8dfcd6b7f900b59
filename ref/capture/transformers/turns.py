"""One conversation with a cache, turn by turn: chunks of a prompt, a prefix, second turns, rejected tokens."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ref.capture.common import say_left_out
from ref.capture.rows import Rows
from ref.capture.transformers.adapters import without_adapters
from ref.capture.transformers.model import import_transformers
from ref.capture.transformers.run import check_batch, run_pass
from ref.capture.transformers.write_dump import writing
from ref.errors import one_line, wanted


class Turn(NamedTuple):
    """Tokens that go through the model together."""

    ids: Any  # [T]
    pixel_values: Any = None  # of the images among them
    token_type_ids: Any = None
    keep: int | None = None  # keys of earlier turns that are left; the others, as of rejected tokens, are dropped first
    heard: bool = True  # False of a prefix whose keys only are wanted


def capture_turns(
    model: Any,
    turns: Sequence[Turn],
    out_dir: str | Path,
    *,
    weights: str | None = None,
    taps: Sequence[str] = ("*",),
) -> Path:
    """Run turns of one conversation, each on the cache that those before it left, and write a dump of them.

    Args:
        model: as `capture`.
        turns: what is run, one after the other.
        out_dir, weights, taps: as `capture`.

    Returns:
        out_dir. Each turn is a pass; one that is not heard has no tensors: the judge computes its keys.

    Raises:
        BadInput: as `capture`; no turns, more keys kept than there are, a cache that cannot be cut there.

    Source: transformers 5.23 `DynamicCache`, `DynamicCache.crop`.
    Differs: transformers makes every later chunk causal, also one with an image; here that is a mistake like others.
    """
    torch, _ = import_transformers()
    model = without_adapters(model)
    if not turns:
        raise wanted("turns", "capture", "at least one", "none")
    batches = [check_batch(model, one.ids, one.pixel_values, one.token_type_ids, None) for one in turns]
    for number, batch in enumerate(batches):
        if len(batch.ids) > 1:
            raise wanted(f"ids of turn {number}", "capture", "one row", f"{len(batch.ids)} rows")
    cache, before = _cache(turns, model.config.get_text_config()), 0
    sees = any(batch.pixels is not None for batch in batches)
    with (
        writing(model, Path(out_dir), weights, taps, cached=True, sees=sees) as (writer, listener),
        torch.no_grad(),
    ):
        rows = Rows(writer, 1)
        for number, (one, batch) in enumerate(zip(turns, batches, strict=True)):
            more = {}
            if one.keep is not None:
                _crop(cache, before, one.keep, number)
                before, more = one.keep, {"kept": [[0, one.keep, 0]] if one.keep else []}
            run_pass(model, batch, batch.ids, before, cache, listener, rows, one.heard, more)
            before += batch.ids.shape[1]
        rows.finish()
    say_left_out(listener.left_out)
    return writer.folder


def _cache(turns: Sequence[Turn], config: Any) -> Any:
    """Make a cache; where keys will be dropped, one whose local layers keep what they would let go of."""
    cache = import_transformers()[1].DynamicCache(config=config)
    if any(one.keep is not None for one in turns) and hasattr(cache, "activate_past_recording"):
        cache.activate_past_recording()
    return cache


def _crop(cache: Any, before: int, keep: int, number: int) -> None:
    """Drop the newest keys; a local layer of an older transformers may have let go of those before them."""
    if not 0 <= keep <= before:
        raise wanted(f"keep of turn {number}", "capture", f"0 to {before}, the keys that are there", keep)
    try:
        cache.crop(keep - before)  # negative: so many tokens less, in every version
    except (RuntimeError, ValueError) as error:
        want = "a cut that its local layers allow"
        raise wanted(f"keep of turn {number}", "capture", want, one_line(error)) from None
