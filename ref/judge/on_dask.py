"""Jobs on Dask's workers: its scheduler chooses where, and begins again where a worker dies."""

import logging
import warnings
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import numba
from distributed import Client, get_worker

from ref.errors import BadInput, one_line, wanted
from ref.judge.boundary import Boundary
from ref.judge.doers import Doing
from ref.judge.jobs import Job, judge_shard
from ref.judge.shard import Shard

ANSWER, CLOSE = 15.0, 2.0  # seconds in which a scheduler must answer
RESOURCE = "gemma3-ref"  # workers that were started with it do the jobs, where any was


class Refused(NamedTuple):
    """A job that a worker cannot do."""

    worker: str
    why: str


def judge_on_worker(job: Job, boundary: Boundary) -> Shard | Refused:
    """Do one job on a worker of Dask, with as many threads as it has."""
    worker = get_worker()
    numba.set_num_threads(min(worker.state.nthreads, numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
    try:
        return judge_shard(job, boundary)
    except BadInput as error:
        return Refused(worker.address, str(error))


class DoingOnDask(Doing):
    """Does jobs on the workers of a scheduler; one that has no weights or another dump is not asked again.

    Args:
        client: of the scheduler.
        address: of it, for refusals.

    Raises:
        BadInput: a scheduler without workers.
    """

    def __init__(self, client: Client, address: str):
        known = client.scheduler_info(n_workers=-1)["workers"]
        able = {name for name, one in known.items() if RESOURCE in one.get("resources", {})}
        self.client, self.address, self.refused = client, address, dict[str, str]()
        self.resources = {RESOURCE: 1} if able else None
        count = len(able or known)
        if not count:
            raise wanted("--scheduler", "compare", "a scheduler that has workers", f"{address}, which has none")
        super().__init__(client.get_executor(pure=False, resources=self.resources), count)

    def submit(self, job: Job, boundary: Boundary) -> "Future[Any]":
        """Begin a job."""
        with warnings.catch_warnings():  # a boundary is as large as it is, and a copy on one worker dies with it
            warnings.filterwarnings("ignore", message="Sending large graph")
            try:
                future = self.executor.submit(judge_on_worker, job, boundary, **self._where())
            except Exception as error:
                raise self._lost(error) from None
        self.jobs[future] = job, self.executor
        return future

    def result(self, future: "Future[Any]") -> Shard | None:
        """Return what a job has found; None where it is to be begun once more, by another worker.

        Raises:
            BadInput: no worker can do it; the scheduler is gone.
        """
        self.jobs.pop(future)
        try:
            found = future.result()
        except (CancelledError, Exception) as error:
            raise self._lost(error) from None
        if not isinstance(found, Refused):
            return found
        self.refused[found.worker] = found.why
        if not self._able():
            raise BadInput(f"{found.why} (on worker {found.worker}; {len(self.refused)} cannot do it)")
        return None

    def alive(self) -> None:
        """Refuse to wait for a scheduler that is gone.

        Raises:
            BadInput: it is.
        """
        if self.client.status != "running":
            raise self._lost(ConnectionError(f"its client is {self.client.status}"))

    def close(self) -> None:
        """Drop what has not begun."""
        self.executor.shutdown(wait=False)

    def _able(self) -> list[str]:
        known = self.client.scheduler_info(n_workers=-1)["workers"]
        return [name for name in known if name not in self.refused]

    def _where(self) -> dict[str, list[str]]:
        return {"workers": self._able()} if self.refused else {}

    def _lost(self, error: BaseException) -> BadInput:
        got = f"{self.address}, {type(error).__name__}: {one_line(error)[:100]}"
        return wanted("--scheduler", "compare", "a scheduler and workers that stay until the end", got)


@contextmanager
def scheduler(address: str) -> Iterator[DoingOnDask]:
    """Return what does jobs on the workers of a Dask scheduler.

    Args:
        address: as `dask scheduler` prints it, such as `tcp://10.0.0.1:8786`.

    Raises:
        BadInput: no scheduler there, or none that has workers.
    """
    log, level = logging.getLogger("distributed"), logging.getLogger("distributed").level
    log.setLevel(logging.CRITICAL)  # what it says of a lost scheduler is a page; we say a line
    try:
        client = Client(address, timeout=ANSWER, set_as_default=False)
    except Exception as error:  # OSError, TimeoutError, ValueError of an address: each version has its own
        got = f"{address}, {type(error).__name__}: {one_line(error)[:100]}"
        log.setLevel(level)
        raise wanted("--scheduler", "compare", "the address of a Dask scheduler that answers", got) from None
    try:
        yield DoingOnDask(client, address)
    finally:
        with suppress(Exception):
            client.close(timeout=CLOSE)
        log.setLevel(level)
