"""Jobs: pieces of a judgement by name, so that any process that has the files can do them."""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numba
import numpy as np

from ref.dump.opened import Dump
from ref.emulate.stages import Stage
from ref.errors import wanted
from ref.judge.ask import ask
from ref.judge.boundary import Boundary
from ref.judge.case import Case
from ref.judge.choice import ALL, Choice
from ref.judge.shard import Shard, judge_stage, pass_through
from ref.measure.parallel import blas_for_runs, threads_of
from ref.ops.linear import take_rows, widen
from ref.ops.visibility import Composition

if TYPE_CHECKING:
    from ref.weights.resolve import Loaded

EDGE = 2**20  # bytes at each end of a file that its fingerprint is of


class Names(NamedTuple):
    """What is judged, by names that mean the same in every process that has the files."""

    dump: str
    weights: str | None
    ids: tuple[Any, ...] | None
    names: str | None
    mmproj: str | None
    adapter: str | None
    family: str | None
    held: str | None
    composition: Composition | None
    choice: Choice = ALL
    fingerprint: str = ""  # of dump and weights: another file of the same name is another question


class Job(NamedTuple):
    """One stage of some sequences: to be judged, or passed through by the runs of some lanes."""

    names: Names
    stage: Stage
    sequences: tuple[int, ...]
    made: tuple[int, ...]  # numbers of the valid runs from the prompt that are made
    lanes: tuple[int, ...] | None = None  # None: it is judged
    shown: tuple[str, ...] = ()  # names of mutants that have shown elsewhere
    leave: bool = False  # whether a judged stage returns what it leaves
    threads: int = 0  # 0: those that the worker has


def judge_shard(job: Job, boundary: Boundary) -> Shard:
    """Do one job. What comes out is a function of the arguments, and of the files that they name.

    Args:
        job: which stage, of which dump and weights.
        boundary: what the stage before left.

    Raises:
        BadInput: dump or weights are not there, or not those that the fingerprint is of.
    """
    case, lock = _case_of(job.names)
    with lock, blas_for_runs(), threads_of(job.threads or numba.get_num_threads()):  # a case's runs serve one at a time
        if job.lanes is None:
            return judge_stage(case, job.stage, boundary, job.made, job.sequences, job.shown, job.leave)
        return Shard((), pass_through(case, job.stage, boundary, job.lanes, job.made, job.sequences))


@lru_cache(maxsize=1)
def _case_of(names: Names) -> tuple[Case, threading.Lock]:
    """Open a dump and its weights once for all jobs that name them; they lie in memory maps."""
    how = names._asdict()
    fingerprint, choice = how.pop("fingerprint"), how.pop("choice")
    asked = ask(**how)
    found = fingerprint_of(asked.opened, asked.loaded)
    if found != fingerprint:
        want = f"the same content as where the judgement began ({fingerprint[:12]})"
        raise wanted("dump or weights", names.dump, want, found[:12])
    return Case(asked.question._replace(choice=choice), asked.family), threading.Lock()


def names_of(
    dump: Any,
    weights: str | None,
    loaded: "Loaded | None",
    mmproj: str | None,
    adapter: str | Path | None,
    ids: Sequence[Any] | None,
    names: str | None,
    held: str | None,
    composition: Composition | None,
) -> Names:
    """Return what is judged by names, with paths that do not depend on where a process runs.

    Raises:
        BadInput: arrays or weights in memory, which have none.
    """
    if loaded is not None or isinstance(dump, (Mapping, Dump)):
        got = "weights in memory" if loaded is not None else "a dump in memory"
        raise wanted("what workers judge", "compare", "dump and weights by name, which each opens itself", got)
    paths = [None if one is None else _absolute(str(one)) for one in (dump, weights, mmproj, adapter)]
    rows = None if ids is None else json.loads(json.dumps(np.asarray(ids, dtype=object).tolist()))
    return Names(str(paths[0]), paths[1], _tuples(rows), names, paths[2], paths[3], None, held, composition)


def _tuples(rows: Any) -> Any:
    return tuple(map(_tuples, rows)) if isinstance(rows, list) else rows


def _absolute(name: str) -> str:
    return str(Path(name).absolute()) if Path(name).exists() else name


def fingerprint_of(dump: Dump, loaded: "Loaded") -> str:
    """Return a digest that tells dumps and weights apart: of files their sizes and ends, of weights some rows.

    Made-up weights are what their name says.
    """
    digest, where = hashlib.sha256(loaded.name.encode() if not loaded.files else b""), Path(dump.where)
    for file in sorted(one for one in where.rglob("*") if one.is_file()) if where.is_dir() else [where]:
        digest.update(f"{file.name} {file.stat().st_size} ".encode())
        digest.update(_ends(file))
    for part in _parts(loaded) if loaded.files else ():
        digest.update(np.ascontiguousarray(part, np.float32).tobytes())
    return digest.hexdigest()


def _ends(file: Path) -> bytes:
    with file.open("rb") as content:
        first = content.read(EDGE)
        content.seek(max(0, file.stat().st_size - EDGE))
        return first + content.read(EDGE)


def _parts(loaded: "Loaded") -> Iterator[np.ndarray]:
    params = loaded.params
    yield widen(take_rows(params.embedding, slice(0, 4)))
    yield widen(params.final_norm)
    for layer in params.layers:
        yield widen(layer.pre_attn_norm)
        yield widen(layer.post_ffn_norm)
