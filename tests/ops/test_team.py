"""The team of threads: every piece is done once, whoever calls, and failures are told."""

import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numba import config, njit
from numba.core.errors import TypingError
from support.threads import TWO_THREADS, threads

from ref.ops import team as team_file
from ref.ops.team import Divided, together


@Divided
@njit(cache=True, nogil=True, error_model="numpy")
def count_up(start, stop, x, out):
    for i in range(start, stop):
        out[i] += x[i] + 1


@Divided
@njit(cache=True, nogil=True)
def fail_at(start, stop, where):
    for i in range(start, stop):
        if i == where:
            raise ValueError("here")


def counted(size, step):
    x, out = np.arange(float(size)), np.zeros(size)
    count_up(size, step, x, out)
    return np.array_equal(out, x + 1)


@pytest.mark.parametrize("size", [0, 1, 7, 64, 1000])
@pytest.mark.parametrize("step", [1, 3, 64, 5000])
def test_each_row_is_done_once(size, step):
    assert all(counted(size, step) for _ in range(50))


@TWO_THREADS
def test_a_team_that_sleeps_is_woken():
    counted(1000, 1)
    for _ in range(20):
        deadline = time.monotonic() + 5
        while not team_file._team().asleep and time.monotonic() < deadline:
            time.sleep(0.001)
        assert team_file._team().asleep
        assert counted(1000, 1)


@TWO_THREADS
def test_several_callers_at_once_get_their_own_results():
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda _: counted(1000, 7), range(400)))


@TWO_THREADS
def test_one_thread_does_not_call_the_team():
    counted(10, 1)
    before = team_file._team().calls
    with threads(1):
        assert counted(1000, 1)
    assert team_file._team().calls == before


@TWO_THREADS
def test_others_take_part():
    seen = np.zeros(1)

    @Divided
    @njit(nogil=True)
    def wait_for_two(start, stop, seen):
        # each of two pieces waits until the other has begun
        seen[0] += 1
        patience = 0
        while seen[0] < 2 and patience < 10**9:
            patience += 1

    for _ in range(100):
        seen[:] = 0
        start = time.monotonic()
        wait_for_two(2, 1, seen)
        if time.monotonic() - start < 0.5:
            return
    pytest.fail("no other thread took a piece")


@pytest.mark.skipif(config.DISABLE_JIT, reason="Python tells what failed by itself")
@pytest.mark.parametrize("count", [1, pytest.param(2, marks=TWO_THREADS)])
def test_failures_are_told(count):
    with threads(count), pytest.raises((RuntimeError, ValueError), match=r"fail_at: failed in a thread|here"):
        fail_at(100, 1, 50)
    assert counted(100, 1)  # and the next job is done


@pytest.mark.parametrize("count", [1, pytest.param(2, marks=TWO_THREADS)])
def test_jobs_together_are_each_done_once(count):
    for jobs in ((), ((1000, 7),), ((1000, 7), (3, 64)), ((0, 1), (1, 1), (4000, 30))):
        arrays = [(np.arange(float(size)), np.zeros(size)) for size, _ in jobs]
        with threads(count):
            for _ in range(50):
                together(*((count_up, *job, *arguments) for job, arguments in zip(jobs, arrays, strict=True)))
        for x, out in arrays:
            np.testing.assert_array_equal(out, 50 * (x + 1))


@TWO_THREADS
@pytest.mark.skipif(config.DISABLE_JIT, reason="Python tells what failed by itself")
def test_of_jobs_together_a_failure_is_told_and_one_that_cannot_be_compiled_frees_the_team():
    x, out = np.arange(100.0), np.zeros(100)
    with pytest.raises(RuntimeError, match="count_up, fail_at: failed in a thread"):
        together((count_up, 100, 1, x, out), (fail_at, 100, 1, 50))
    with pytest.raises(TypingError):
        together((count_up, 100, 1, x, out), (count_up, 100, 1, "x", out))
    assert team_file._team().state[team_file.BUSY] == 0
    assert counted(100, 1)


@TWO_THREADS
@pytest.mark.skipif(config.DISABLE_JIT, reason="nothing is compiled")
def test_more_arguments_than_there_is_room_for_are_refused():
    names = ", ".join(f"a{i}" for i in range(40))
    made = {}
    exec(f"def many(start, stop, {names}): pass", made)
    many = Divided(njit(made["many"]))
    with pytest.raises(Exception, match="more arguments than a job has room for"):
        many(100, 1, *(np.zeros(1) for _ in range(40)))
    with pytest.raises(Exception, match="argument of a job: wanted arrays, numbers and tuples of them"):
        Divided(njit(lambda start, stop, names: None))(100, 1, ("names",))


@TWO_THREADS
@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing is forked here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_has_a_team_of_its_own():
    counted(1000, 1)
    child = os.fork()
    if child == 0:
        os._exit(0 if counted(1000, 1) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@TWO_THREADS
def test_threads_of_the_team_are_daemons_with_a_name():
    counted(10, 1)
    ours = [thread for thread in threading.enumerate() if thread.name == "gemma3-ref"]
    assert len(ours) == config.NUMBA_NUM_THREADS - 1
    assert all(thread.daemon for thread in ours)


def test_what_is_compiled_is_found_again_and_each_kernel_has_its_own(tmp_path):
    if config.DISABLE_JIT:
        pytest.skip("nothing is compiled")
    (tmp_path / "two_kernels.py").write_text(
        "import numpy as np\n"
        "from numba import njit\n"
        "from ref.ops.team import Divided\n"
        "JIT = dict(cache=True, nogil=True)\n"
        "@Divided\n@njit(**JIT)\ndef ones(start, stop, out):\n    for i in range(start, stop): out[i] = 1\n"
        "@Divided\n@njit(**JIT)\ndef twos(start, stop, out):\n    for i in range(start, stop): out[i] = 2\n"
        "a, b = np.zeros(9), np.zeros(9)\n"
        "ones(9, 1, a); twos(9, 1, b)\n"
        "assert (a == 1).all() and (b == 2).all()\n"
        "print([sum(one.drive.stats.cache_hits.values()) for one in (ones, twos)])\n"
    )
    import subprocess

    said = []
    for _ in range(2):
        command = [sys.executable, str(tmp_path / "two_kernels.py")]
        environment = os.environ | {"NUMBA_NUM_THREADS": "2", "NUMBA_CACHE_DIR": str(tmp_path)}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=tmp_path)
        said.append(done.stdout.strip())
    assert said == ["[0, 0]", "[1, 1]"]
