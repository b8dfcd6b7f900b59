"""What does the jobs of a judgement: processes of this machine, or any executor; for Dask's workers see `on_dask`."""

import multiprocessing
from collections import Counter
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from contextlib import suppress
from typing import Any

import numba

from ref.errors import BadInput, one_line, wanted
from ref.judge.boundary import Boundary
from ref.judge.heap import keep_freed_memory
from ref.judge.jobs import Job, judge_shard
from ref.judge.shard import Shard

LANES = 3  # that go ahead of what is judged: the truth and the two runs that make most floors
TRIES = 3  # of one job whose worker dies


class Doing:
    """Does jobs by an executor.

    Args:
        executor: any of `concurrent.futures`.
        workers: how many jobs it does at one time.
        threads: of a job, where workers share this machine; 0 where they do not.
        of_lanes: the same of a lane's job, which others wait for.
        all_threads: of all workers together; 0 where they do not share this machine.
        renew: makes another executor where this one has broken; None: it cannot be made again.
    """

    def __init__(
        self,
        executor: Executor,
        workers: int,
        threads: int = 0,
        of_lanes: int = 0,
        all_threads: int = 0,
        renew: Callable[[], Executor] | None = None,
    ):
        self.executor, self.workers, self.threads, self.renew = executor, workers, threads, renew
        self.of_lanes, self.all_threads = of_lanes, all_threads
        self.tries: Counter[tuple[Any, ...]] = Counter()
        self.jobs: dict[Future[Any], tuple[Job, Executor]] = {}

    def submit(self, job: Job, boundary: Boundary) -> Future[Any]:
        """Begin a job."""
        try:
            future = self.executor.submit(judge_shard, job, boundary)
        except BrokenExecutor as error:
            self._renewed(self.executor, error)
            future = self.executor.submit(judge_shard, job, boundary)
        self.jobs[future] = job, self.executor
        return future

    def result(self, future: Future[Any]) -> Shard | None:
        """Return what a job has found; None where it is to be begun once more.

        Raises:
            BadInput: what the job refuses; a job whose workers die again and again.
        """
        job, executor = self.jobs.pop(future)
        try:
            return future.result()
        except BrokenExecutor as error:
            self.tries[job[1:]] += 1
            if self.tries[job[1:]] >= TRIES:
                raise _died(job, f"{TRIES} that died: {one_line(error)}") from None
            self._renewed(executor, error)
            return None

    def alive(self) -> None:
        """Refuse to wait for what is gone; an executor of this machine says so by its futures."""

    def close(self) -> None:
        """End the executor, without waiting for what has not begun."""
        self.executor.shutdown(wait=True, cancel_futures=True)

    def _renewed(self, broken: Executor, error: BrokenExecutor) -> None:
        """Take another executor in the place of one that is broken, once for all of its jobs."""
        if broken is not self.executor:
            return
        if self.renew is None:
            raise wanted("executor", "compare", "one that goes on", f"{type(error).__name__}: {error}") from None
        with suppress(Exception):
            broken.shutdown(wait=False, cancel_futures=True)
        self.executor = self.renew()


def _died(job: Job, got: str) -> BadInput:
    layer = "" if job.stage.layer is None else f" {job.stage.layer}"
    want = "a worker that finishes it (fewer workers have more memory each)"
    return wanted(f"{job.stage.name}{layer}", "workers", want, got)


def processes(count: int) -> Doing:
    """Return what does jobs in processes of this machine, which share the threads of this one.

    Args:
        count: how many.
    """
    threads = numba.get_num_threads()
    each = max(1, threads // count)

    def made() -> Executor:
        context = multiprocessing.get_context("spawn")  # threads do not live on in a fork
        return ProcessPoolExecutor(count, context, begin_worker, (each,))

    return Doing(made(), count, each, max(each, threads // LANES), threads, made)


def begin_worker(threads: int) -> None:
    """Set the threads of a worker, and have it keep the memory that it frees."""
    keep_freed_memory()
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
