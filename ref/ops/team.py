"""Threads for kernels: a team that is there already, so that dividing a kernel among them costs microseconds.

    a kernel k(start, stop, ...)  ->  k(0, 64, ...), k(64, 128, ...), ... each by whichever thread comes first

OpenMP's threads and those of a BLAS library wait for their own work by spinning, and take the processor from each other
for milliseconds at a time. Here there is one team, it spins for a fraction of a millisecond and then sleeps, and the
caller takes part: it waits for nobody who has not begun. Whoever calls while the team is at work does all by itself.

How work passes, all in machine code and without Python's lock:

    caller:  write jobs, OPEN = their number   take pieces ...   OPEN = 0   wait until INSIDE = 0
    others:  see OPEN   INSIDE + 1   still open? take pieces ...   INSIDE - 1

A piece is taken by adding to a job's NEXT, so no two threads have the same. Whoever finds no more of one job goes on
with the next: several kernels that do not need each other's results start the team once (`together`).
"""

import os
import platform
import threading
from collections.abc import Callable
from functools import cache, update_wrapper
from types import FunctionType
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import config, types
from numba.core.cgutils import get_or_insert_function
from numba.extending import intrinsic, register_jitable

from ref.ops.jit import kernel

LINE = 16  # numbers of 64 bits: two cache lines, which is how much processors fetch at once
OPEN, INSIDE, BUSY, FIRST_JOB = range(0, 4 * LINE, LINE)  # no two on one line, but what is read or written together
JOBS, SEATS, NUMBER = OPEN + 1, INSIDE + 1, BUSY + 1
# of a job, from its place on
NEXT, CODE, SIZE, STEP, FAILED, ARGUMENTS = 0, LINE, LINE + 1, LINE + 2, LINE + 3, 2 * LINE
MOST_JOBS, JOB = 3, 16 * LINE  # how many go together; from one's place to the next, its arguments included
PATIENCE = 20_000  # looks at OPEN before a thread sleeps: a fraction of a millisecond
INT64, I32 = ir.IntType(64), ir.IntType(32)
X86 = platform.machine().lower() in ("x86_64", "amd64")
IN_PYTHON = bool(getattr(config, "DISABLE_JIT", False))  # kernels run as they are written, and nothing is divided


# pyright does not know that an intrinsic is called without its first parameter
# pyright: reportCallIssue=false


def _cell(context, builder, signature, args):
    return builder.gep(context.make_array(signature.args[0])(context, builder, args[0]).data, [args[1]])


@intrinsic
def _add(typing, a, i, n):
    """Add to a[i] and return what it was, as one step."""

    def write(context, builder, signature, args):
        return builder.atomic_rmw("add", _cell(context, builder, signature, args), args[2], "seq_cst")

    return types.int64(a, types.intp, types.int64), write


@intrinsic
def _swap(typing, a, i, n):
    """Write a[i] and return what it was, as one step."""

    def write(context, builder, signature, args):
        return builder.atomic_rmw("xchg", _cell(context, builder, signature, args), args[2], "seq_cst")

    return types.int64(a, types.intp, types.int64), write


@intrinsic
def _read(typing, a, i):
    """Return a[i] as other threads last wrote it."""

    def write(context, builder, signature, args):
        return builder.load_atomic(_cell(context, builder, signature, args), "seq_cst", 8)

    return types.int64(a, types.intp), write


@intrinsic
def _pause(typing):
    """Tell a processor that this thread only waits."""

    def write(context, builder, signature, args):
        if X86:
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])
        return context.get_dummy_value()

    return types.void(), write


@intrinsic
def _run(typing, state, job):
    """Call the code of the job at a place, which takes pieces of it."""

    def write(context, builder, signature, args):
        place = _cell(context, builder, signature, args)
        kind = ir.FunctionType(ir.VoidType(), [place.type])
        code = builder.load(builder.gep(place, [INT64(CODE)]))
        builder.call(builder.inttoptr(code, kind.as_pointer()), [place])
        return context.get_dummy_value()

    return types.void(state, types.intp), write


def _take_pieces(builder, job, call):
    """Write a loop that takes pieces and calls `call(begin, end)`, which returns whether it failed."""
    function, number = builder.function, lambda place: builder.gep(job, [INT64(place)])
    size, step = builder.load(number(SIZE)), builder.load(number(STEP))
    again, work, done = (function.append_basic_block(name) for name in ("again", "work", "done"))
    builder.branch(again)
    builder.position_at_end(again)
    begin = builder.atomic_rmw("add", number(NEXT), step, "monotonic")
    builder.cbranch(builder.icmp_signed("<", begin, size), work, done)
    builder.position_at_end(work)
    end = builder.add(begin, step)
    failed = call(begin, builder.select(builder.icmp_signed("<", end, size), end, size))
    builder.atomic_rmw("or", number(FAILED), builder.zext(failed, INT64), "monotonic")
    builder.branch(again)
    builder.position_at_end(done)
    builder.ret_void()


def _lend(context, builder, kind, place, path=()):
    """Write over the counts of who uses an argument's memory: those end with the call that lays a job."""
    if isinstance(kind, types.Array):  # whose first field it is
        counted = builder.gep(place, [I32(0), *path, I32(0)])
        builder.store(ir.Constant(counted.type.pointee, None), counted)
    elif isinstance(kind, types.BaseTuple):
        for i in range(len(kind)):
            _lend(context, builder, kind[i], place, (*path, I32(i)))  # type: ignore[reportArgumentType]
    elif context.data_model_manager[kind].contains_nrt_meminfo():
        raise TypeError(f"argument of a job: wanted arrays, numbers and tuples of them, got {kind}")


def _lay_of(compiled):
    """Return an intrinsic that writes into a job's place what runs a kernel, and the arguments to run it with."""

    @intrinsic
    def lay(typing, state, job, arguments):
        signature = types.Dispatcher(compiled).get_call_type(typing, (types.intp, types.intp, *arguments), {})

        def write(context, builder, own, args):
            made = compiled.overloads[signature.args]
            context.active_code_library.add_linking_library(made.library)
            if context.get_abi_sizeof(args[2].type) > 8 * (JOB - ARGUMENTS):
                raise ValueError(f"{made.fndesc.qualname}: more arguments than a job has room for")
            kept = args[2].type.as_pointer()
            kind = ir.FunctionType(ir.VoidType(), [INT64.as_pointer()])
            name = builder.module.get_unique_name(f"pieces_of_{made.fndesc.mangled_name}")
            function = ir.Function(builder.module, kind, name)
            function.linkage = "internal"
            inner = ir.IRBuilder(function.append_basic_block("entry"))
            packed = inner.load(inner.bitcast(inner.gep(function.args[0], [INT64(ARGUMENTS)]), kept))
            items = [inner.extract_value(packed, i) for i in range(len(arguments))]

            def call(begin, end):
                callee = context.declare_function(inner.module, made.fndesc)
                sent = [begin, end, *items]
                status, _ = context.call_conv.call_function(
                    inner, callee, made.fndesc.restype, made.fndesc.argtypes, sent
                )
                return status.is_error

            _take_pieces(inner, function.args[0], call)
            place = _cell(context, builder, own, args)
            builder.store(builder.ptrtoint(function, INT64), builder.gep(place, [INT64(CODE)]))
            lent = builder.bitcast(builder.gep(place, [INT64(ARGUMENTS)]), kept)
            builder.store(args[2], lent)
            _lend(context, builder, arguments, lent)
            return context.get_dummy_value()

        return types.void(state, types.intp, arguments), write

    return lay


@register_jitable
def _run_all(state):
    for job in range(state[JOBS]):
        _run(state, FIRST_JOB + job * JOB)


@kernel
def _serve(state, patience, last):
    # take part in jobs until there was none for a while; return the number of the last
    idle = 0
    while idle < patience:
        job = _read(state, OPEN)
        if job not in (0, last):
            _add(state, INSIDE, 1)
            if _read(state, OPEN) == job:
                last, idle = job, 0
                if _add(state, SEATS, -1) > 0:
                    _run_all(state)
            _add(state, INSIDE, -1)
        else:
            _pause()
            idle += 1
    return last


@register_jitable
def _share(state, seats, jobs):
    # the caller's part; return whether a job failed
    failed = False
    state[JOBS], state[SEATS] = jobs, seats
    state[NUMBER] += 1
    _swap(state, OPEN, state[NUMBER])
    _run_all(state)
    _swap(state, OPEN, 0)
    while _read(state, INSIDE) > 0:
        _pause()
    for job in range(jobs):
        failed |= state[FIRST_JOB + job * JOB + FAILED] != 0
    _swap(state, BUSY, 0)
    return failed


DONE, FAILED_IN_A_THREAD, NOBODY_FREE, LAID = range(4)
_lay: Any = None  # in the copies below: `_lay_of` a kernel


def _drive(state, seats, job, jobs, size, step, *arguments):
    # write a job; the last of them starts the team
    if job == 0 and _swap(state, BUSY, 1) != 0:
        return NOBODY_FREE
    place = FIRST_JOB + job * JOB
    _lay(state, place, arguments)
    state[place + SIZE], state[place + STEP], state[place + NEXT], state[place + FAILED] = size, step, 0, 0
    if job + 1 < jobs:
        return LAID
    return FAILED_IN_A_THREAD if _share(state, seats, jobs) else DONE


class Team:
    """Threads that take part in jobs."""

    def __init__(self, others: int):
        self.state = np.zeros(FIRST_JOB + MOST_JOBS * JOB, np.int64)
        self.calls = self.asleep = 0
        self.bed = threading.Semaphore(0)
        for _ in range(others):
            threading.Thread(target=self._live, name="gemma3-ref", daemon=True).start()

    def _live(self) -> None:
        last = 0
        while True:
            calls = self.calls
            last = _serve(self.state, PATIENCE, last)
            if calls == self.calls:  # both under Python's lock: no call falls between this look and the sleep
                self.asleep += 1
                self.bed.acquire()

    def call(self) -> None:
        """Wake those who sleep: there will be work."""
        self.calls += 1
        if self.asleep:
            asleep, self.asleep = self.asleep, 0
            self.bed.release(asleep)


@cache
def _team() -> Team:
    return Team(getattr(config, "NUMBA_NUM_THREADS", 1) - 1)


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_team.cache_clear)  # threads do not live on in a child


def frozen(array: np.ndarray) -> np.ndarray:
    """Return a contiguous array as read-only: Numba would compile anew for memory maps, and for arrays of our own."""
    flags = array.flags
    if flags.c_contiguous and not flags.writeable:
        return array
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view


def specialised(function: Any, name: str, like: Any = None, **names: Any) -> Any:
    """Copy a function for one meaning of some of its global names, under a name of its own and in the file of `like`.

    A closure would do the same, but Numba cannot tell one from the next when it looks for what it has compiled before.
    """
    like = like or function
    place = {"co_filename": like.__code__.co_filename, "co_firstlineno": like.__code__.co_firstlineno}
    code = function.__code__.replace(co_name=name, co_qualname=name, **place)
    copy = FunctionType(code, function.__globals__ | names, name)
    copy.__module__ = like.__module__
    return copy


class Divided:
    """A kernel of the rows start .. stop, and its call that divides all rows among threads; a decorator."""

    def __init__(self, compiled: Any, pieces: int | None = None):
        rows = getattr(compiled, "py_func", compiled)
        self.kernel, self.pieces, self.__name__ = compiled, pieces, rows.__name__
        update_wrapper(self, rows)
        self.drive: Any = None if IN_PYTHON else _drive_of(compiled, rows)

    def __call__(self, size: int, step: int, *arguments: Any) -> None:
        """Run the kernel on all of 0 .. size, `step` rows at a time or, made by `in_pieces`, at least so many.

        Raises:
            RuntimeError: the kernel failed in a thread.
        """
        if size <= step:  # small ones are called hundreds of times a token
            self.kernel(0, size, *arguments)
        else:
            together((self, size, step, *arguments))

    def step_of(self, size: int, step: int, threads: int) -> int:
        """Return how many rows a thread takes at a time."""
        return max(step, -(-size // (self.pieces * threads))) if self.pieces else step


def in_pieces(pieces: int) -> Callable[[Any], Divided]:
    """Return the decorator `Divided` for kernels of which a thread takes few large pieces, not many small ones."""
    return lambda compiled: Divided(compiled, pieces)


def together(*jobs: tuple) -> None:
    """Run kernels that do not need each other's results, and start the team once for up to MOST_JOBS of them.

    Args:
        jobs: for each a `Divided`, and the arguments of its call.

    Raises:
        RuntimeError: a kernel failed in a thread.
    """
    seats = numba.get_num_threads() - 1
    for first in range(0, len(jobs), MOST_JOBS):
        some = jobs[first : first + MOST_JOBS]
        if not seats or IN_PYTHON or not _done_by_the_team(some, seats):
            for divided, size, _, *arguments in some:
                divided.kernel(0, size, *arguments)


def _done_by_the_team(jobs, seats):
    team, done = _team(), NOBODY_FREE
    team.call()
    for i, (divided, size, step, *arguments) in enumerate(jobs):
        step = divided.step_of(size, step, seats + 1)
        try:
            done = divided.drive(team.state, seats, i, len(jobs), size, step, *arguments)
        except BaseException:  # it could not be compiled for these arguments
            if i:
                team.state[BUSY] = 0
            raise
        if done == NOBODY_FREE:
            return False
    if done == FAILED_IN_A_THREAD:
        raise RuntimeError(f"{', '.join(job[0].__name__ for job in jobs)}: failed in a thread")
    return True


def _drive_of(compiled, rows):
    drive = specialised(_drive, f"{rows.__name__}_divided", like=rows, _lay=_lay_of(compiled))
    return kernel(drive)
