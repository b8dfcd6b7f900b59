"""A rule in another language: a child process that answers one line of JSON to each line of JSON."""

import contextlib
import json
import math
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from typing import Any

from ref.errors import wanted
from ref.testing.answers import Ended

LONGEST_LINE = 2**20  # bytes of an answer
LONGEST_NOTE = 2**12  # bytes that are kept of what it says on stderr


class RuleError(Exception):
    """The child answered {"error": ...}: its rule failed, and it says so."""


class Child:
    """A long-lived child process: one question a line on its stdin, one answer a line on its stdout.

    Args:
        command: program and arguments, run without a shell.
        timeout: seconds to wait for each answer.

    Raises:
        BadInput: it cannot be started.

    Only this child, with what it started itself, is ever ended: it leads a process group of its own.
    """

    def __init__(self, command: Sequence[str], timeout: float = 10.0):
        self.command, self.timeout, self.asked = list(command), timeout, 0
        pipe = subprocess.PIPE
        if not command or not command[0]:
            raise wanted("--exec", "child", "a program and its arguments", "none")
        if not (math.isfinite(timeout) and timeout > 0):
            raise wanted("timeout", "child", "seconds, more than 0", timeout)
        try:
            self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)
        except (OSError, ValueError) as error:  # ValueError: a NUL in an argument
            raise wanted("program", command[0], "one that can be started", getattr(error, "strerror", error)) from None
        # bounded: a child that answers without being asked is stopped by its full pipe, not by our memory
        self._lines: queue.Queue[bytes] = queue.Queue(maxsize=4)
        self._questions: queue.Queue[bytes | None] = queue.Queue()
        self._note, self._over = b"", False
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._read, self._write, self._listen)]
        for thread in self._threads:
            thread.start()

    # each stream has a thread of its own, which also closes it: no child can make us wait for longer than we want to

    def _read(self) -> None:
        with contextlib.suppress(OSError), self.process.stdout as stream:  # type: ignore[union-attr]
            while (line := stream.readline(LONGEST_LINE + 1)) and self._hand_over(line):
                pass
        self._hand_over(b"")

    def _hand_over(self, line: bytes) -> bool:
        while not self._over:
            with contextlib.suppress(queue.Full):
                self._lines.put(line, timeout=0.05)
                return True
        return False

    def _write(self) -> None:
        with contextlib.suppress(OSError), self.process.stdin as stream:  # type: ignore[union-attr]
            while (line := self._questions.get()) is not None:
                stream.write(line)  # where it has gone, its missing answer tells
                stream.flush()

    def _listen(self) -> None:
        with contextlib.suppress(OSError), self.process.stderr as stream:  # type: ignore[union-attr]
            while said := stream.read1(LONGEST_NOTE):  # type: ignore[attr-defined]
                self._note = (self._note + said)[-LONGEST_NOTE:]

    def ask(self, question: dict) -> Any:
        """Ask one question and wait for its answer.

        Args:
            question: what JSON holds.

        Returns:
            What the answer's JSON holds.

        Raises:
            RuleError: it answered {"error": ...}.
            Ended: it answered nothing in time, no JSON, more than one line, a line without end, or died.
        """
        asked = json.dumps(question)
        with contextlib.suppress(queue.Empty):
            early = self._lines.get_nowait()
            got = f"{early[:60]!r} after {self.asked} answers"
            raise self._refusal("one line a question", got) if early else self._cut_short(early, asked)
        self.asked += 1
        self._questions.put(asked.encode() + b"\n")
        try:
            line = self._lines.get(timeout=self.timeout)
        except queue.Empty:
            raise self._refusal(f"within {self.timeout:g} s", f"nothing, to {asked}") from None
        if not line.endswith(b"\n"):
            raise self._cut_short(line, asked)
        try:
            answer = json.loads(line)
        except (ValueError, RecursionError):
            raise self._refusal("a line of JSON", f"{line[:60]!r}, to {asked}") from None
        if isinstance(answer, dict) and "error" in answer:
            raise RuleError(answer["error"])
        return answer

    def _cut_short(self, line: bytes, asked: str):
        if len(line) > LONGEST_LINE:
            return self._refusal(f"at most {LONGEST_LINE} bytes a line", f"more, to {asked}")
        if line:
            return self._refusal("a whole line", f"{line[:60]!r} and then the end, to {asked}")
        self._lines.put(b"")  # it will not answer the next question either
        return self._refusal("one line", f"{self._how_it_ended()}, to {asked}")

    def _how_it_ended(self) -> str:
        code = self._exit_code(1.0)
        if code is None:
            return "its output closed"
        self._threads[2].join(timeout=1)
        lines = [line for line in self._note.decode(errors="replace").splitlines() if line.strip()]
        said = f" ({lines[-1].strip()[:100]})" if lines else ""
        return f"{f'exit code {code}' if code >= 0 else signal.strsignal(-code)}{said}"

    def _refusal(self, want: str, got: str):
        return Ended(wanted(f"answer {self.asked}", self.command[0], want, got))

    def close(self) -> None:
        """Say that there are no more questions, and refuse lines that nobody asked for.

        Raises:
            Ended: it had more to say than it was asked.
        """
        self._questions.put(None)
        with contextlib.suppress(queue.Empty):  # it need not end, only to be silent
            if self._lines.get(timeout=min(self.timeout, 3.0)):
                raise self._refusal("no more lines than questions", f"more than {self.asked}")
            self._exit_code(1.0)

    def _exit_code(self, timeout: float) -> int | None:
        """Wait for the child to exit, but leave it unreaped: its number is that of its group, which is still to end.

        Returns:
            Its exit code, or minus the signal that ended it; None where it is still running.
        """
        if not hasattr(os, "waitid"):  # Windows, which has no groups, and older macOS
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self.process.wait(timeout=timeout)
            return None
        deadline = time.monotonic() + timeout
        while (ended := os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is None:
            if time.monotonic() > deadline:
                return None
            time.sleep(0.002)
        return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status

    def end(self) -> None:
        """End the child, whatever it is doing, and what it started and left behind."""
        self._over = True
        self._questions.put(None)
        self._exit_code(0.2)
        if self.process.returncode is None:
            with contextlib.suppress(OSError):  # not reaped yet, so that no other group can have this number
                os.killpg(self.process.pid, signal.SIGKILL) if hasattr(os, "killpg") else self.process.kill()
            self.process.wait()
        for thread in self._threads:
            thread.join(timeout=1)

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_) -> None:
        self.end()
