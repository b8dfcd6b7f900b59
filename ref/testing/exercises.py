"""Exercises: your own function beside golden vectors or the reference, and which known mistake it makes."""

import inspect
import json
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import numpy as np

from ref.errors import wanted
from ref.golden_files.files import golden_root

SMALL = 40  # values up to which inputs and answers are printed


def exercise(check: Callable[..., Any], *args: Any, **how: Any) -> None:
    """Run a check and print what it says in the place of raising it: for notebooks, which go on.

    Args:
        check: `check_op`, `check_like`, `check_visibility`, `check_pan_and_scan` or `assert_matches`.
        args: its arguments; the first is the answer.
        how: its keyword arguments.
    """
    try:
        check(*args, **how)
    except AssertionError as error:
        print(f"Not yet.\n{str(error).strip()}")
    else:
        print("Right.")


def check_op(fn: Callable[..., Any], op: str) -> None:
    """Check a function by the golden vectors of an operation, which other implementations made.

    Args:
        fn: called by keyword, so that its parameters must have the names of the inputs, in any order: for rms_norm
            `x`, `scale` and `eps`. It may name some of them, or take **all; lists are float64 arrays. What each is
            stands in `golden/vectors/{op}.json`. Where yours has other names: `lambda x, scale, eps: mine(x, scale)`.
        op: a file of `golden/vectors`, such as rms_norm, rope, geglu, softmax, sampling.

    Raises:
        AssertionError: a vector that is answered wrongly, and which known mistakes answer theirs as `fn` did.
        BadInput: no such file; a parameter of `fn` that is no input.

    Source: `golden/README.md`.
    """
    document = _vectors(op)
    rows = [(row, _call(fn, row["inputs"])) for row in document["vectors"]]
    missed = [(row, answer) for row, answer in rows if row["result"] == "must" and not _equal(answer, row)]
    if missed:
        mistakes = [row for row, answer in rows if row["result"] != "must" and _equal(answer, row)]
        # beside the mistake's own vector, if there is one: that one tells most
        told = [one for one in missed if any(one[0]["inputs"] == row["inputs"] for row in mistakes)]
        flags = dict.fromkeys(flag for row in mistakes for flag in row["flags"])
        raise AssertionError(_told(document, *(told or missed)[0], flags))


def check_like(
    fn: Callable[..., Any], reference: Callable[..., Any], cases: Iterable[tuple], rtol: float = 0.0
) -> None:
    """Check a function by another one on some inputs.

    Args:
        fn: the answer.
        reference: the right one.
        cases: tuples of arguments.
        rtol: relative tolerance on numbers; texts and lists must be equal.

    Raises:
        AssertionError: the first case that is answered otherwise.
    """
    for case in cases:
        answer, right = fn(*case), reference(*case)
        if not _same(answer, right, rtol):
            asked = ", ".join(_short(x) for x in case)
            raise AssertionError("\n".join([f"Of {asked}", *_apart(right, answer)]))


def _same(answer: Any, right: Any, rtol: float) -> bool:
    """Compare numbers by value and shape, anything else as Python does."""
    a, b = _numbers(answer), _numbers(right)
    if a is not None and b is not None:
        return a.shape == b.shape and np.allclose(a, b, rtol=rtol, atol=0, equal_nan=True)
    return a is b and type(answer) is type(right) and bool(answer == right)


def _numbers(value: Any) -> np.ndarray | None:
    """Return an array of numbers; None for texts, nothing, or lists of unequal length."""
    try:
        array = np.asarray(value)
    except ValueError:
        return None
    return array if array.dtype.kind in "fiub" else None


@cache
def _vectors(op: str) -> dict[str, Any]:
    folder = golden_root() / "vectors"
    known = sorted(path.stem for path in folder.glob("*.json"))
    if op not in known:
        raise wanted("op", "check_op", f"one of {', '.join(known)}", op)
    return json.loads((folder / f"{op}.json").read_text())


def _call(fn, inputs: dict[str, Any]) -> Any:
    arrays = {name: np.array(value, np.float64) if isinstance(value, list) else value for name, value in inputs.items()}
    names = f"some of {', '.join(inputs)}, by which it is called (by keyword, never by place)"
    try:
        known = inspect.signature(fn).parameters
    except (TypeError, ValueError):  # compiled ones do not always tell
        raise wanted("fn", "check_op", "a function whose parameters can be read, as of a lambda", fn) from None
    for one in known.values():
        needed = one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
        if needed and (one.name not in inputs or one.kind is one.POSITIONAL_ONLY):
            raise wanted("parameter of fn", "check_op", names, one.name)
    if not any(one.kind is one.VAR_KEYWORD for one in known.values()):
        arrays = {name: value for name, value in arrays.items() if name in known}
    with np.errstate(all="ignore"):
        return fn(**arrays)


def _equal(answer, row: dict[str, Any]) -> bool:
    array = _numbers(answer)
    if array is None or array.shape != np.shape(row["expected"]):
        return False
    tolerance = {name: row["tolerance"][name] for name in ("atol", "rtol")}
    return bool(np.allclose(array, row["expected"], **tolerance))


def _told(document, row, answer, flags) -> str:
    lines = [f"{document['op']}, {row['comment'] or row['id']}"]
    lines += [f"  {name} = {_short(value)}" for name, value in row["inputs"].items()]
    lines += _apart(row["expected"], answer)
    for flag in flags:
        known = document["flags"][flag]
        lines.append(f"as {flag}: {known['description']} {known['effect']}")
    return "\n".join(lines)


def _apart(right: Any, answer: Any) -> list[str]:
    """Write what was wanted and got; of large arrays the row that differs most."""
    wanted_, got = _numbers(right), _numbers(answer)
    if wanted_ is not None and got is not None and wanted_.shape == got.shape and wanted_.size > SMALL:
        with np.errstate(all="ignore"):
            apart = np.nan_to_num(np.abs(wanted_ - got.astype(np.float64)), nan=np.inf)
        place = np.unravel_index(int(apart.argmax()), apart.shape)[:-1]
        return [f"at {list(map(int, place))} wanted {_short(wanted_[place])}", f"got {_short(got[place])}"]
    return [f"wanted {_short(right)}", f"got    {_short(answer)}"]


def _short(value: Any) -> str:
    """Write a value on few lines; of a large array its shape."""
    array = _numbers(value)
    if array is None or not array.ndim:
        return repr(value)
    if array.size > SMALL or array.ndim > 2:
        return f"array {list(array.shape)}, beginning {_short(array.reshape(-1)[:4])}"
    return np.array2string(array, precision=6, separator=", ", max_line_width=110).replace("\n", "\n       ")
