"""One conversation with a cache, turn by turn: chunks of a prompt, a prefix, second turns, rejected tokens."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ref.capture.common import say_left_out
from ref.capture.rows import Rows
from ref.capture.transformers.adapters import without_adapters
from ref.capture.transformers.caches import check_cache, make_cache
from ref.capture.transformers.model import import_transformers
from ref.capture.transformers.run import Batch, check_batch, run_pass
from ref.capture.transformers.write_dump import writing
from ref.errors import one_line, wanted


class Turn(NamedTuple):
    """Tokens that go through the model together."""

    ids: Any  # [T]
    pixel_values: Any = None  # of the images among them
    token_type_ids: Any = None
    keep: int | None = None  # keys of earlier turns that are left; the others, as of rejected tokens, are dropped first
    kept: Sequence[Sequence[int]] | None = None  # or [start, stop, position] of those that `edit` leaves, and turns
    edit: Callable[[Any], object] | None = None  # what its owner does to the cache before the turn, as a context shift
    heard: bool = True  # False of a prefix whose keys only are wanted


def capture_turns(
    model: Any,
    turns: Sequence[Turn],
    out_dir: str | Path,
    *,
    cache: Any = None,
    weights: str | None = None,
    taps: Sequence[str] = ("*",),
) -> Path:
    """Run turns of one conversation, each on the cache that those before it left, and write a dump of them.

    Args:
        model: as `capture`.
        turns: what is run, one after the other.
        cache: as `capture`; by default the dynamic one.
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
    _check_kept(turns, [batch.ids.shape[1] for batch in batches])
    longest = _longest(turns, batches)
    check_cache(cache, longest)
    cache, before = _recording(turns, make_cache(cache, model, longest)), 0
    sees = any(batch.pixels is not None for batch in batches)
    with (
        writing(model, Path(out_dir), weights, taps, cached=True, sees=sees) as (writer, listener),
        torch.no_grad(),
    ):
        rows = Rows(writer, 1)
        for number, (one, batch) in enumerate(zip(turns, batches, strict=True)):
            kept = _drop(cache, before, one, number)
            before = before if kept is None else _count(kept)
            more = {} if kept is None else {"kept": kept}
            run_pass(model, batch, batch.ids, before, cache, listener, rows, one.heard, more)
            before += batch.ids.shape[1]
        rows.finish()
    say_left_out(listener.left_out)
    return writer.folder


def _longest(turns: Sequence[Turn], batches: Sequence[Batch]) -> int:
    """Return how many keys there are at most; of a turn that keeps more than there are, what it says."""
    longest = keys = 0
    for one, batch in zip(turns, batches, strict=True):
        left = one.keep if one.kept is None else _count(one.kept)
        keys = (keys if left is None else left) + batch.ids.shape[1]
        longest = max(longest, keys)
    return longest


def _recording(turns: Sequence[Turn], cache: Any) -> Any:
    """Have a cache whose keys will be dropped keep, in its local layers, what they would let go of."""
    if any((one.keep, one.kept) != (None, None) for one in turns) and hasattr(cache, "activate_past_recording"):
        cache.activate_past_recording()
    return cache


def _count(kept: Sequence[Sequence[int]]) -> int:
    return sum(one[1] - one[0] for one in kept)


def _drop(cache: Any, before: int, one: Turn, number: int) -> list[list[int]] | None:
    """Drop keys before a turn, or have its owner do so; return which are left, None where all are."""
    if one.keep is not None:
        _crop(cache, before, one.keep, number)
        return [[0, one.keep, 0]] if one.keep else []
    if one.edit is not None:
        one.edit(cache)
    if one.kept is None:
        return None
    there = int(cache.get_seq_length())
    if there != _count(one.kept):
        want = f"an edit that leaves the {_count(one.kept)} keys of kept"
        raise wanted(f"edit of turn {number}", "capture", want, f"{there} keys afterwards")
    return [list(map(int, kept)) for kept in one.kept]


def _check_kept(turns: Sequence[Turn], counts: Sequence[int]) -> None:
    """Refuse ranges of keys that are not there, before anything is run; counts are of each turn's tokens."""
    keys = 0
    for number, (one, count) in enumerate(zip(turns, counts, strict=True)):
        if one.kept is not None:
            good = all(len(kept) == 3 and 0 <= kept[0] < kept[1] <= keys for kept in one.kept)
            if not good or one.keep is not None:
                want = f"[start, stop, position] of the {keys} keys that are there, and no keep beside it"
                raise wanted(f"kept of turn {number}", "capture", want, [list(kept) for kept in one.kept])
            if one.edit is None:
                raise wanted(f"edit of turn {number}", "capture", "a function that drops and turns the keys", "none")
        left = one.keep if one.kept is None else _count(one.kept)
        keys = (keys if left is None else left) + count


def _crop(cache: Any, before: int, keep: int, number: int) -> None:
    """Drop the newest keys; of an older transformers a local layer let go of those before, and a static one cannot."""
    if not 0 <= keep <= before:
        raise wanted(f"keep of turn {number}", "capture", f"0 to {before}, the keys that are there", keep)
    try:
        cache.crop(keep - before)  # negative: so many tokens less, in every version
    except (RuntimeError, ValueError, AttributeError) as error:
        want = "a cut that the cache's layers allow"
        raise wanted(f"keep of turn {number}", "capture", want, one_line(error)) from None
