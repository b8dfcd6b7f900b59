"""Runs side by side: results in order, threads that stay, failures that leave nothing running."""

import os
import signal
import threading
import time
import warnings

import numpy as np
import pytest
from support.threads import TWO_THREADS, threads

from ref.measure.parallel import at_once, blas_for_runs, side_by_side


@pytest.fixture(autouse=True)
def numbas_pool_is_known():
    with blas_for_runs():
        yield


def thread_of(_):
    """Return which thread calls; slow enough that one alone does not take all."""
    time.sleep(0.01)
    return threading.get_ident()


@pytest.mark.parametrize("count", [0, 1, 2, 13])
def test_results_come_in_the_order_of_the_items(count):
    slow_first = lambda one: (time.sleep(0.002 * (2 - one % 3)), one)[1]  # noqa: E731
    assert side_by_side(slow_first, range(count)) == list(range(count))


@TWO_THREADS
def test_threads_stay_and_are_as_many_as_numba_has():
    many = set(side_by_side(thread_of, range(12)))
    assert len(many) == at_once() > 1
    assert set(side_by_side(thread_of, range(12))) == many
    with threads(1):
        assert set(side_by_side(thread_of, range(3))) == {threading.get_ident()}


@TWO_THREADS
def test_a_call_inside_of_a_call_stays_on_its_thread():
    def inner(_):
        return {threading.get_ident(), *side_by_side(thread_of, range(3))}

    assert {len(one) for one in side_by_side(inner, range(6))} == {1}


def test_the_first_failure_is_raised_when_nothing_runs_any_more():
    running = []

    def work(one):
        running.append(one)
        time.sleep(0.01 * one)
        running.remove(one)
        if one < 2:
            raise ValueError(one)

    with pytest.raises(ValueError, match="0"):
        side_by_side(work, range(6))
    assert running == []


def test_numbers_out_of_range_are_silent():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert side_by_side(lambda one: float(np.float64(one) / 0), [1, 2]) == [np.inf, np.inf]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
def test_a_forked_child_has_threads_of_its_own():
    side_by_side(thread_of, range(4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Python 3.12 on: a process with threads forks
        child = os.fork()
    if not child:
        signal.alarm(60)  # rather than wait for threads that are not there
        os._exit(0 if side_by_side(str, range(4)) == list("0123") else 1)
    assert os.waitpid(child, 0)[1] == 0
