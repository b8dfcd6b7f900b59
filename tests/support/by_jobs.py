"""A judgement in this process beside the same by jobs, whose arguments and results go through pickle as to a worker."""

import os
import pickle
import signal
from concurrent.futures import Future
from pathlib import Path

from ref.judge import jobs
from ref.judge.advice import Advice
from ref.judge.ask import ask
from ref.judge.capture_command import Source
from ref.judge.case import Case
from ref.judge.jobs import Names
from ref.judge.judgement import judge_dump
from ref.judge.make_report import found_in
from ref.judge.shard import Shard, judge_stage, pass_through
from ref.judge.spread import ALONE, Helped

NAMES = Names("dump", None, None, None, None, None, None, None, None)


class InJobs:
    """Does jobs at once, in a case of its own: nothing but what a job names and its boundary gets there."""

    def __init__(self, question, workers=2):
        self.question, self.workers, self.threads = question, workers, 0
        self.of_lanes = self.all_threads = 0
        self.cases, self.count = {}, 0

    def submit(self, job, boundary):
        job, boundary = pickle.loads(pickle.dumps((job, boundary)))
        family = job.names.family
        if family not in self.cases:
            self.cases = {family: Case(self.question, family)}
        case, future = self.cases[family], Future()
        if job.lanes is None:
            shard = judge_stage(case, job.stage, boundary, job.made, job.sequences, job.shown, job.leave)
        else:
            shard = Shard((), pass_through(case, job.stage, boundary, job.lanes, job.made, job.sequences))
        future.set_result(pickle.loads(pickle.dumps(shard)))
        self.count += 1
        return future

    def result(self, future):
        return future.result()

    def alive(self):
        pass


def report_of(dump, loaded, workers=0, **how):
    """Judge a dump, by jobs of so many workers; return what a report says of it, without times."""
    asked = ask(dump, loaded=loaded, **how)
    by = Helped(InJobs(asked.question, workers)) if workers else ALONE
    judged = judge_dump(asked.question, asked.family, NAMES if workers else None, by)
    report = found_in(judged, loaded, Advice(judged, asked.opened, Source(loaded.name, None, False, None, False)))
    for row in report["taps"]:
        row.pop("seconds", None)
    coverage = judged.hearing.coverage.lines(judged.all_runs, judged.findings)
    report |= {"coverage": coverage, "finding": judged.finding, "partly": judged.partly, "family": judged.family}
    return report, judged.profiles, by.doer


def dies_once(job, boundary, flag):
    """Do a job, but the first time that a stage behind the third layer is judged end the process in the middle."""
    if job.lanes is None and (job.stage.layer or 0) > 2 and not Path(flag).exists():
        Path(flag).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return jobs.judge_shard(job, boundary)


def always_dies(job, boundary):
    """End the process."""
    os.kill(os.getpid(), signal.SIGKILL)


def has_no_weights(job, boundary):
    """Refuse as a worker does that has no weights."""
    from distributed import get_worker

    from ref.judge.on_dask import Refused

    return Refused(get_worker().address, "--weights: wanted a file, got no such file")
