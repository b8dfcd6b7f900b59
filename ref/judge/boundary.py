"""Boundaries: what the runs of a judgement know between two stages, by name, so that it can move between processes."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator

import numpy as np

from ref.emulate.graph import Run
from ref.judge.case import Chain
from ref.measure.pass_runs import PassRuns

TRUTH = -1  # the lane of the truth; those of valid runs have their numbers
RANK = "rank"  # label of what a rank of the dump sees that is not what the first sees
SPAN = "span"  # label of what is no value: the taps that the dump lacks on the way to one, as JSON
Boundary = dict[str, np.ndarray]  # "PASS LABEL TAP" -> value; labels are own, local, own.0 .. own.5, local.0 .. local.5


def lane_of(key: str) -> int:
    """Return the lane of a value: runs of one lane need nothing of others to go on."""
    part, _, number = key.split(" ")[1].partition(".")
    return int(number) if number and part != RANK else TRUTH


def part_of(key: str) -> str:
    """Return what a value is of: `own`, a run from the prompt; else one on the dump's own inputs."""
    return key.split(" ")[1].split(".")[0]


def only(boundary: Boundary, lanes: Iterable[int]) -> Boundary:
    """Return what some lanes know."""
    wanted = set(lanes)
    return {key: value for key, value in boundary.items() if lane_of(key) in wanted}


def put(chains: Iterable[Chain], boundary: Boundary, made: Iterable[int]) -> None:
    """Have the runs know what a boundary says and nothing else.

    Args:
        chains: the sequences that the boundary is of.
        boundary: what was left by the stage before.
        made: numbers of the valid runs from the prompt that it is of.
    """
    known: dict[str, list[tuple[str, str, np.ndarray]]] = defaultdict(list)
    for key, value in boundary.items():
        number, label, tap = key.split(" ")
        known[number].append((label, tap, value))
    for pass_runs in (one for chain in chains for one in chain):
        pass_runs.made = tuple(sorted(made))
        pass_runs.loaded.clear()
        runs = dict(_labelled(pass_runs))
        for run in runs.values():
            run.memo, run.inputs = {}, {}
        here, pass_runs.left_on = known[str(pass_runs.number)], {}
        for label, tap, value in here:
            if label.startswith(RANK):
                pass_runs.left_on.setdefault(int(label.partition(".")[2]), {})[tap] = value
            elif label == SPAN:
                pass_runs.local.inputs[tap] = dict.fromkeys(json.loads(value.tobytes()))
            else:
                runs[label].memo[tap] = value
        pass_runs.carried = {tap for _, tap, _ in here}


def left_in(chains: Iterable[Chain], lanes: Iterable[int] | None = None) -> Boundary:
    """Return what the runs know, as `put` takes it.

    Args:
        chains: the sequences.
        lanes: those that count; None: all whose runs are made.
    """
    known: Boundary = {}
    wanted = None if lanes is None else set(lanes)
    for pass_runs in (one for chain in chains for one in chain):
        for label, run in _labelled(pass_runs):
            for tap, value in run.memo.items():
                key = f"{pass_runs.number} {label} {tap}"
                if wanted is None or lane_of(key) in wanted:
                    known[key] = value
        if wanted is not None and TRUTH not in wanted:
            continue
        for rank, left in pass_runs.left_on.items():
            known |= {f"{pass_runs.number} {RANK}.{rank} {tap}": value for tap, value in left.items()}
        for tap in pass_runs.local.memo:
            if not pass_runs.local.is_given(tap):
                span = json.dumps(pass_runs.local.span_of(tap)).encode()
                known[f"{pass_runs.number} {SPAN} {tap}"] = np.frombuffer(span, np.uint8)
    return known


def same(a: Boundary, b: Boundary) -> bool:
    """Tell whether two boundaries say the same, bit for bit."""
    return a.keys() == b.keys() and all(np.array_equal(a[key], b[key], equal_nan=a[key].dtype.kind == "f") for key in a)


def bytes_of(boundary: Boundary) -> int:
    """Return how large a boundary is."""
    return sum(value.nbytes for value in boundary.values())


def _labelled(pass_runs: PassRuns) -> Iterator[tuple[str, Run]]:
    yield "own", pass_runs.own
    yield "local", pass_runs.local
    for i, run in enumerate(pass_runs.every):
        yield f"own.{i}", run
    for i, run in enumerate(pass_runs.locals):
        yield f"local.{i}", run
