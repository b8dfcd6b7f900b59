"""Claims: whether a dump is of the model and of the prompt that it is said to be of."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ref.config import TextConfig, VisionConfig
from ref.dump.layouts import SIZES, VISION_SIZES
from ref.errors import one_line, wanted
from ref.untrusted import LARGEST

if TYPE_CHECKING:  # which imports this module
    from ref.dump.opened import Dump

# the settings that change no shape: a producer may have got them wrong, which is for the judge to find
SETTINGS = ("query_scale", "window", "rope_factor", "rope_base_local", "rope_base_global", "global_every", "rms_eps")


def check_model(dump: "Dump", config: TextConfig, vision: VisionConfig | None = None) -> None:
    """Refuse a dump of another model than the weights it is to be judged against.

    Args:
        dump: from `open_dump`.
        config: of the weights.
        vision: of their tower; None does not compare it.

    Raises:
        BadInput: sizes that differ, the first three named; a token id outside the vocabulary.

    Differs: settings that change no shape are in `differing_settings`: a producer's mistake there is for the judge.
    """
    seen: Any = dump.config.get("vision")
    pairs = [(field, dump.config.get(field), getattr(config, field)) for field in SIZES]
    if vision is not None and isinstance(seen, Mapping):
        pairs += [(f"vision.{field}", seen.get(field), getattr(vision, field)) for field in VISION_SIZES]
    differ = [one for one in pairs if one[1] is not None and one[1] != one[2]][:3]
    if differ:
        want = ", ".join(f"{field} {ours}" for field, _, ours in differ)
        got = ", ".join(f"{field} {theirs}" for field, theirs, _ in differ)
        raise wanted("model", dump.where, f"that of the weights, {want}", f"another model's, {got}")
    for one in dump.passes:
        where = f"{dump.where}: pass {one.number}"
        check_vocabulary(one.ids, one.image_blocks, one.cached, config.vocabulary, where)


def differing_settings(dump: "Dump", config: TextConfig) -> list[str]:
    """List the settings that a dump's configuration has otherwise than the weights', which are no other sizes.

    Args:
        dump: from `open_dump`.
        config: of the weights.

    Returns:
        Lines such as `window: 513 in the dump, 512 in the weights`.
    """
    lines = []
    for field in SETTINGS:
        theirs, ours = dump.config.get(field), getattr(config, field)
        near = False
        if isinstance(theirs, int | float) and not isinstance(theirs, bool):
            near = abs(theirs) < 1e300 and abs(theirs - ours) <= 1e-6 * abs(ours)  # an integer may be any
        if theirs is not None and not near:
            lines.append(f"{field}: {one_line(theirs)[:100]} in the dump, {ours} in the weights")
    return lines


def rows_of_ids(ids: Any, where: object) -> list[np.ndarray]:
    """Return token ids, of one prompt or of one a batch row, as rows of integers.

    Args:
        ids: what was given: a list or array of integers, or a list of such; rows may differ in length.
        where: for the refusal.

    Returns:
        At least one row [T] int64.

    Raises:
        BadInput: anything else, such as a mapping, ragged lists, floats; none, or one outside 0 .. 2^63 - 1.
    """
    want = "a list of integers, or rows of them"
    if isinstance(ids, (str, bytes, Mapping)) or not hasattr(ids, "__len__"):
        raise wanted("token ids", where, want, type(ids).__name__)
    try:
        nested = len(ids) > 0 and np.ndim(ids[0]) > 0
        rows = [np.asarray(row) for row in (ids if nested else [ids])]
    except (TypeError, ValueError, KeyError, IndexError, RuntimeError, OverflowError) as error:  # of others' arrays too
        raise wanted("token ids", where, want, error) from None
    for row in rows:
        if row.size == 0:
            raise wanted("token ids", where, "at least one", "none")
        if row.ndim != 1 or row.dtype.kind not in "iu":
            raise wanted("token ids", where, want, f"{row.dtype} of shape {list(row.shape)}")
        if int(row.min()) < 0 or int(row.max()) > LARGEST:  # uint64 holds more
            out = row.min() < 0
            raise wanted("token id", where, *(("0 or more", row.min()) if out else ("less than 2^63", row.max())))
    return [row.astype(np.int64) for row in rows]


def check_vocabulary(
    ids: Sequence[int] | np.ndarray,
    image_blocks: Sequence[Sequence[int]] | np.ndarray,
    cached: int,
    vocabulary: int,
    where: object,
) -> None:
    """Refuse token ids outside the vocabulary, but in the places of image features.

    Args:
        ids: [T].
        image_blocks: [start, stop] key indices.
        cached: key index of the first token.
        vocabulary: V.
        where: for the refusal.

    Raises:
        BadInput: the first such id and its place.
    """
    ids = np.asarray(ids, np.int64)
    bad = (ids < 0) | (ids >= vocabulary)
    for start, stop in image_blocks:
        bad[max(start - cached, 0) : max(stop - cached, 0)] = False
    if bad.any():
        place = int(bad.argmax())
        raise wanted(f"token id at {place}", where, f"0 <= id < {vocabulary}", int(ids[place]))


def check_prompt(dump: "Dump", ids: Sequence[Any] | np.ndarray) -> None:
    """Refuse a dump whose tokens are not those of the prompt that it is claimed to be of.

    Args:
        dump: from `open_dump`.
        ids: token ids of the prompt, or of one prompt a batch row. Pads are not compared; tokens of later passes may
            follow the prompt.

    Raises:
        BadInput: no token ids; the first position at which they differ, or lengths that do.
    """
    prompts = [row.tolist() for row in rows_of_ids(ids, "prompt")]
    rows: list[tuple[int, list[int]]] = []  # tokens of the first pass, tokens of all passes
    for one in dump.passes:
        if one.cached:
            rows[-1][1].extend(one.ids.tolist())
        else:
            first = one.ids[one.left_pads :].tolist()
            rows.append((len(first), first))
    if len(prompts) > len(rows):
        raise wanted("prompts", dump.where, f"{len(prompts)} rows", len(rows))
    for number, (prompt, (prefill, tokens)) in enumerate(zip(prompts, rows, strict=False)):
        where = f"{dump.where}: row {number}" if len(prompts) > 1 else dump.where
        check_same_ids(prompt, tokens, where, prefill)


def check_same_ids(want: Sequence[int], got: Sequence[int], where: object, prefill: int | None = None) -> None:
    """Refuse ids unlike those wanted.

    Args:
        want: the prompt's.
        got: the dump's.
        where: for the refusal.
        prefill: how many of `got` must be the prompt's, where others may follow; None is all.

    Raises:
        BadInput: the first position at which they differ, or lengths that do.
    """
    for position, (one, other) in enumerate(zip(want, got, strict=False)):
        if one != other:
            raise wanted(f"token id at {position}", where, f"{one}, as in the prompt", int(other))
    length = len(got) if prefill is None or len(got) < len(want) else prefill
    if length != len(want) and not (prefill is not None and prefill < len(want) <= len(got)):
        raise wanted("prompt", where, f"{len(want)} tokens", length)
