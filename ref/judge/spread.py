"""How a judgement is spread over workers."""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

from ref.errors import pip_install, wanted
from ref.judge.ahead import Ahead, Doer
from ref.judge.case import Case
from ref.judge.doers import Doing, processes
from ref.judge.in_turn import InTurn
from ref.judge.jobs import Names
from ref.judge.needed_memory import check_workers, threads_that_fit
from ref.judge.store import Keeping, Store
from ref.measure.parallel import threads_of

MOST_WORKERS = 1024


class Spread(NamedTuple):
    """Who does the jobs of a judgement; without any of these this process, one stage after the other."""

    workers: int | None = None  # processes of this machine; of an executor, how many jobs it does at one time
    scheduler: str | None = None  # address of Dask's
    executor: Executor | None = None
    resume: Path | None = None  # folder of finished jobs

    @property
    def is_none(self) -> bool:
        """Whether all is judged in this process."""
        return self.scheduler is None and self.executor is None and (self.workers or 1) == 1


HERE = Spread()


def check_spread(spread: Spread) -> None:
    """Refuse what contradicts itself.

    Raises:
        BadInput: workers that are no number of workers; both an executor and a scheduler.
    """
    if spread.workers is not None and not 1 <= spread.workers <= MOST_WORKERS:
        raise wanted("--workers", "compare", f"1 to {MOST_WORKERS}", spread.workers)
    if spread.scheduler is not None and spread.executor is not None:
        raise wanted("executor", "compare", "an executor or a scheduler", "both")
    if spread.scheduler is not None and spread.workers is not None:
        raise wanted("--workers", "compare", "none beside --scheduler, whose workers do the jobs", spread.workers)


class Helped(NamedTuple):
    """What stands by a judgement."""

    doer: Doer | None = None  # None: nobody but this process
    store: Store | None = None


ALONE = Helped()


@contextmanager
def helped(spread: Spread) -> Iterator[Helped]:
    """Return what does jobs, and what keeps them."""
    check_spread(spread)
    store = Store(spread.resume) if spread.resume else None
    with _doing(spread) as doer:
        yield Helped(doer, store)


@contextmanager
def _doing(spread: Spread) -> Iterator[Doing | None]:
    if spread.is_none:
        yield None
        return
    if spread.scheduler is not None:
        with _scheduler()(spread.scheduler) as doer:
            yield doer
        return
    if spread.executor is not None:
        yield Doing(spread.executor, spread.workers or getattr(spread.executor, "_max_workers", 2))
        return
    doer = processes(spread.workers or 1)
    try:
        yield doer
    finally:
        doer.close()


def _scheduler() -> Callable[[str], AbstractContextManager[Doing]]:
    try:
        from ref.judge.on_dask import scheduler
    except ImportError:
        raise wanted("--scheduler", "compare", f"Dask: {pip_install('cluster')}", "none installed") from None
    return scheduler


@contextmanager
def source_of(case: Case, names: Names | None, by: Helped) -> Iterator[InTurn | Ahead]:
    """Return what judges the stages of a case.

    Args:
        case: dump and weights.
        names: the same by names; None where nobody else judges, and nothing is kept.
        by: who does; this process has fewer threads where there is not enough memory for all.

    Raises:
        BadInput: there is not enough memory, or not for so many workers.
    """
    memory, names = case.question.memory, names and names._replace(family=case.family)
    if by.doer is None or names is None:
        with threads_of(threads_that_fit(case.all_runs, memory)):
            yield InTurn(case, names, by.store)
        return
    if by.doer.threads:
        check_workers(case.all_runs, by.doer.workers, by.doer.threads, memory)
    source = Ahead(case, names, Keeping(by.doer, by.store) if by.store else by.doer)
    try:
        yield source
    finally:
        source.close()
