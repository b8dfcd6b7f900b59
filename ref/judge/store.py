"""Finished jobs in a folder, so that a judgement which ended early goes on where it was."""

import hashlib
import json
import os
import tempfile
from collections import Counter
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import ref
from ref.errors import pip_install, wanted
from ref.judge.boundary import Boundary
from ref.judge.jobs import Job
from ref.judge.shard import Shard, ShardRow

if TYPE_CHECKING:
    from ref.judge.ahead import Doer


class Store:
    """Keeps what jobs have found, each in a file of its own that takes its name when it is complete.

    Args:
        folder: where; it is made if it is not there. What other judgements left in it stays.

    Raises:
        BadInput: it cannot be made or written; msgspec is not installed.
    """

    def __init__(self, folder: Path):
        try:
            import msgspec  # noqa: F401
        except ImportError:
            raise wanted("--resume", "compare", pip_install("cluster"), "no msgspec") from None
        self.folder, self.found = folder, Counter[str]()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            raise wanted("--resume", folder, "a folder that can be written", error.strerror) from None

    def get(self, job: Job) -> Shard | None:
        """Return what a job has found earlier; None where it has not been done, or its file is broken."""
        import msgspec
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        rows, left = self._paths(job)
        try:
            known = load_file(left)
            shard = Shard(msgspec.msgpack.decode(rows.read_bytes(), type=tuple[ShardRow, ...]), known)
        except (OSError, SafetensorError, msgspec.MsgspecError, ValueError):
            return None
        self.found["kept"] += 1
        return shard

    def put(self, job: Job, shard: Shard) -> None:
        """Keep what a job has found.

        Raises:
            BadInput: there is no room.
        """
        import msgspec
        from safetensors.numpy import save

        rows, left = self._paths(job)
        contiguous = {key: np.ascontiguousarray(value) for key, value in shard.left.items()}
        try:
            _write(left, save(contiguous))
            _write(rows, msgspec.msgpack.encode(shard.rows))  # last: with it the job is done
        except OSError as error:
            raise wanted("--resume", self.folder, "room to write", error.strerror) from None

    def _paths(self, job: Job) -> tuple[Path, Path]:
        told = job._replace(shown=(), threads=0)._asdict() | {
            "names": _plain(job.names._asdict()),
            "version": ref.__version__,
        }
        key = hashlib.sha256(json.dumps(_plain(told), sort_keys=True).encode()).hexdigest()[:24]
        name = job.stage.name if job.stage.layer is None else f"{job.stage.name}-{job.stage.layer}"
        return self.folder / f"{name}-{key}.rows", self.folder / f"{name}-{key}.safetensors"


def _plain(value: Any) -> Any:
    """Return a value as JSON has it."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    return [_plain(one) for one in value] if isinstance(value, (list, tuple)) else value


def _write(path: Path, content: bytes) -> None:
    handle, new = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(new).replace(path)
    except BaseException:
        Path(new).unlink(missing_ok=True)
        raise


class Keeping:
    """Does jobs as another does, but for those that were done earlier.

    Args:
        doer: who does the others.
        store: of finished jobs.
    """

    def __init__(self, doer: "Doer", store: Store):
        self.doer, self.store = doer, store
        self.workers, self.threads = doer.workers, doer.threads
        self.of_lanes, self.all_threads = doer.of_lanes, doer.all_threads
        self.jobs: dict[Future[Any], Job] = {}
        self.known: set[Future[Any]] = set()

    def submit(self, job: Job, boundary: Boundary) -> Future[Any]:
        """Begin a job, or return what it has found earlier."""
        shard = self.store.get(job)
        if shard is None:
            future = self.doer.submit(job, boundary)
        else:
            future = Future()
            future.set_result(shard)
            self.known.add(future)
        self.jobs[future] = job
        return future

    def result(self, future: Future[Any]) -> Shard | None:
        """Return what a job has found, and keep it."""
        job = self.jobs.pop(future)
        if future in self.known:
            self.known.remove(future)
            return future.result()
        shard = self.doer.result(future)
        if shard is not None:
            self.store.put(job, shard)
        return shard

    def alive(self) -> None:
        """Refuse to wait for what is gone."""
        self.doer.alive()
