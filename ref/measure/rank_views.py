"""What each rank of a dump sees: its own replicas, and beside its slices those of the others.

All ranks see the same, unless replicas differ. What a rank computes is then judged on what it saw itself.
"""

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ref.dump.align import RankPart, Stored
from ref.emulate.graph import Run
from ref.emulate.one_pass import Unknown

if TYPE_CHECKING:
    from ref.measure.pass_runs import PassRuns


def own_of(pass_runs: "PassRuns", tap: str) -> list[RankPart]:
    """List what ranks hold of a tap whose bits are not those of the value that is judged.

    Args:
        pass_runs: the pass; it remembers the answer.
        tap: its name.
    """
    if tap not in pass_runs.apart:
        stored = pass_runs.stored.get(tap)
        pass_runs.apart[tap] = [] if stored is None else [one for one in stored.parts if _differs(one, stored)]
    return pass_runs.apart[tap]


def _differs(part: RankPart, stored: Stored) -> bool:
    if part.partial or part is judged_of(part, stored):
        return False
    return not np.array_equal(part.stored.read(), region(stored.read(), part), equal_nan=stored.dtype != "bool")


def judged_of(part: RankPart, stored: Stored) -> RankPart:
    """Return the first that holds what a rank's part is of: its value is the one that is judged."""
    whole = next((one for one in stored.parts if one.kind == "replica"), None)
    return whole or next(one for one in stored.parts if (one.kind, one.start) == (part.kind, part.start))


def region(value: np.ndarray, part: RankPart) -> np.ndarray:
    """Return the part of a whole value that a rank holds."""
    return value[(*[slice(None)] * part.axis, slice(part.start, part.stop))] if part.letter else value


def seen_by(pass_runs: "PassRuns", tap: str, rank: int) -> np.ndarray:
    """Return a tap as a rank sees it: its own value where it holds another than the one that is judged."""
    own = next((one for one in own_of(pass_runs, tap) if one.rank == rank), None)
    if own is None:
        return pass_runs.load(tap)
    if not own.letter:
        return own.stored.load()
    value = pass_runs.load(tap).copy()
    region(value, own)[...] = own.stored.load()
    return value


def view_of(pass_runs: "PassRuns", rank: int, like: Run | None = None) -> Run:
    """Return a run that is given what a rank sees.

    Args:
        pass_runs: the pass.
        rank: of tensor parallelism.
        like: whose arithmetic it has; None: the truth's.
    """
    like = like or pass_runs.local
    given = {tap: partial(seen_by, pass_runs, tap, rank) for tap in pass_runs.stored}
    run = Run(pass_runs.one_pass, like.arithmetic, given, like.before, heard=like.heard)
    run.prefix, run.weights = like.prefix, like.weights
    same = {tap for tap in like.memo if like.is_given(tap) or tap in pass_runs.carried} - _apart(pass_runs, rank)
    run.memo = {tap: like.memo[tap] for tap in same} | pass_runs.left_on.get(rank, {})
    return run


def _apart(pass_runs: "PassRuns", rank: int) -> set[str]:
    return {tap for tap in pass_runs.stored if any(one.rank == rank for one in pass_runs.apart.get(tap, []))}


def ranks_fed(pass_runs: "PassRuns", tap: str) -> set[int]:
    """List the ranks that compute a tap from other values than the first does, since replicas differ."""
    todo, seen, out = [tap], set[str](), set[int]()
    inputs = pass_runs.local.inputs
    while todo:
        name = todo.pop()
        for source in inputs.get(name, {"text.final_norm": None} if name == "text.logits" else {}):
            if source in pass_runs.stored:
                out |= {one.rank for one in own_of(pass_runs, source)}
                continue
            out |= {rank for rank, left in pass_runs.left_on.items() if source in left}
            if source not in seen:
                seen.add(source)
                todo.append(source)
    return out


def left_on_ranks(pass_runs: "PassRuns", prefix: str, left: Sequence[str]) -> dict[int, dict[str, np.ndarray]]:
    """Compute what a stage leaves for later ones on ranks that saw something else than the first.

    Args:
        pass_runs: the pass, at the end of the stage.
        prefix: of the stage's taps.
        left: the taps that it leaves; those that the dump holds need not be computed.
    """
    here = {one.rank for tap in pass_runs.stored if tap.startswith(prefix) for one in own_of(pass_runs, tap)}
    out: dict[int, dict[str, np.ndarray]] = {}
    for rank in here | set(pass_runs.left_on):
        run = view_of(pass_runs, rank)
        for tap in left:
            if tap not in pass_runs.stored:
                with suppress(Unknown), np.errstate(all="ignore"):
                    out.setdefault(rank, {})[tap] = run.value(tap)
    return out
