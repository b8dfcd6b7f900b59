"""What a dump says of itself that is not taken on trust: its arithmetic, its weights, its positions.

What no producer can have meant is refused. What a port could really have done, such as numbering positions from 1, is
what the judge is there for: it goes by what is right, and the report's notes say so.
"""

import hashlib
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ref.dump.layouts import FLOATS
from ref.dump.opened import Dump
from ref.errors import one_line, wanted
from ref.untrusted import quoted

if TYPE_CHECKING:
    from ref.weights.resolve import Loaded


NOT_SAID = "not said"
HELD = ("as in the file", "file", NOT_SAID, *FLOATS)
FIELDS = ("compute_dtype", "kv_dtype", "matmul_activations")
FIELDS += ("matmul_operands", "conv_operands", "products", "accumulate")
MOST_RUNS = 3  # of positions that a note shows


def check_arithmetic(dump: Dump, family: str | None = None, held: str | None = None) -> None:
    """Refuse a dump of an arithmetic that is not known here: judged as another, all of it would look wrong.

    Args:
        dump: from `open_dump`.
        family: whose noise floor was asked for; None goes by the dump, whose words are then looked at.
        held: the format of the weights that was asked for; None likewise.

    Raises:
        BadInput: a dtype that is none of the known ones, which the line lists.
    """
    policy = dump.policy
    if family is None:
        for field in FIELDS:
            said, known = policy.get(field), (*FLOATS, *(("tf32",) if field.endswith("operands") else ()))
            quantised = field == "matmul_activations" and str(said).startswith("q8")
            if said is not None and said not in (*known, NOT_SAID) and not quantised:
                want = f"one of {' '.join(known)} (or --policy, to say as what it is to be judged)"
                raise wanted(f"policy.{field}", dump.where, want, quoted(said))
    said = dump.weights.get("dtype")
    block_format = str(said).lower().startswith(("q4_", "q5_", "q6_", "q8_"))  # held as their file has them
    if held is None and said is not None and said not in HELD and not block_format:
        want = f"one of {', '.join(HELD)} (or --held-as, to say in what they were held)"
        raise wanted("weights.dtype", dump.where, want, quoted(said))


def check_digests(dump: Dump, loaded: "Loaded") -> list[str]:
    """Compare the digests that a dump gives of its weights with the weights that it is judged against.

    Args:
        dump: from `open_dump`; its `weights.sha256` is {name of a tensor in its file: SHA-256 of its bytes there}.
        loaded: from `ref.weights.resolve.load`.

    Returns:
        Notes: how many were compared, and which could not be.

    Raises:
        BadInput: a tensor of other bytes, by name.
    """
    said = dump.weights.get("sha256") or {}
    unknown, same = [], 0
    for name, digest in said.items():
        file = next((one for one in loaded.files if one.has(name)), None)
        if file is None:
            unknown.append(name)
            continue
        found = hashlib.sha256(file.raw(name)).hexdigest()
        if found != digest:
            want = f"sha256 {digest[:12]}..., as the dump says"
            raise wanted(f"tensor {quoted(name)} of the weights {one_line(loaded.name)}", dump.where, want, found)
        same += 1
    notes = [f"weights: {same} tensors have the digests that the dump says"] if same else []
    if unknown:
        why = "no such tensor in the weights" if loaded.files else "these weights are made up, of no file"
        notes.append(f"weights: {len(unknown)} digests not compared, first of {quoted(unknown[0])}: {why}")
    return notes


def source_notes(weights: str | None, dump: Dump, given: bool) -> tuple[str, list[str]]:
    """Tell where the weights came from that a dump was judged against.

    Args:
        weights: what --weights says; None says nothing.
        dump: from `open_dump`.
        given: whether they were in memory already.

    Returns:
        (`given`, `--weights`, `the dump` or `default`; notes: a path that the dump chose is one).
    """
    if given:
        return "given", []
    if weights:
        return "--weights", []
    name = dump.weights.get("name")
    if not name or name == NOT_SAID:
        return "default", []
    if not Path(name).exists():  # 270m, tiny, synthetic:...
        return "the dump", []
    return "the dump", [f"weights: from {one_line(name)}, a path that the dump names: --weights says which you trust"]


def position_notes(passes: Sequence[Any], held: Iterable[Any]) -> list[str]:
    """Note the passes whose positions are not what they must be: 0 after pads, then 1 more each, 0 at packed prompts.

    A port that numbers them from 1, or leaves gaps, has made a mistake that is to be found: it is judged with the
    right ones, not refused.

    Args:
        passes: of a dump.
        passes: of each, what it is judged with.

    Returns:
        Lines such as `positions of pass 0 are 1..6, wanted 0..5: judged with 0..5`.
    """
    notes = []
    for one, one_pass in zip(passes, held, strict=True):
        theirs, ours = np.asarray(one.positions), one_pass.positions[0]
        if not np.array_equal(theirs, ours):
            first, right = int((theirs != ours).argmax()), runs_of(ours)
            where = f" (first at token {first})" if len(ours) > 1 else ""
            notes.append(
                f"positions of pass {one.number} are {runs_of(theirs)}, wanted {right}{where}: judged with {right}"
            )
    return notes


def runs_of(positions: np.ndarray) -> str:
    """Write positions as runs that count up by one: `-1 x 2, 0..3, 7`."""
    pads = int((positions == -1).sum())
    counted = positions[positions != -1]
    cuts = [0, *(np.flatnonzero(np.diff(counted) != 1) + 1).tolist(), len(counted)]
    runs = [(int(counted[a]), int(counted[b - 1])) for a, b in pairwise(cuts) if b > a]
    shown = [f"{a}..{b}" if a != b else str(a) for a, b in runs]
    more = [f"and {len(shown) - MOST_RUNS} more runs"] if len(shown) > MOST_RUNS else []
    return ", ".join([*([f"-1 x {pads}"] if pads else []), *shown[:MOST_RUNS], *more])
