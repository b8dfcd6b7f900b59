"""How long each kernel takes to compile: `python tests/bench/compile_times.py [ARGUMENTS OF gemma3-ref]`.

Runs the command (without one: the first token of the default weights) in this process with an empty kernel cache,
and prints, the slowest first, the CPU seconds of each kernel and signature without those of the kernels it calls.
"""

import os
import sys
import tempfile
import time

from numba.core import event

from ref.cli import main as run

FIRST_TOKEN = ["generate", "The capital of France is", "--greedy", "--max-new-tokens", "1"]


class Stopwatch(event.Listener):
    """Times compilations, which nest."""

    def __init__(self):
        self.rows, self._open = [], []

    def on_start(self, event):
        """Begin with a kernel."""
        self._open.append([time.process_time(), 0.0])

    def on_end(self, event):
        """Give its time to it and, as what is not theirs, to the kernel that calls it."""
        start, called = self._open.pop()
        whole = time.process_time() - start
        if self._open:
            self._open[-1][1] += whole
        function = event.data["dispatcher"].py_func
        self.rows.append((whole - called, f"{function.__module__}.{function.__name__}", event.data["args"]))


def main():
    """Measure and print."""
    stopwatch = Stopwatch()
    with tempfile.TemporaryDirectory() as empty, event.install_listener("numba:compile", stopwatch):
        os.environ["NUMBA_CACHE_DIR"] = empty
        run(sys.argv[1:] or FIRST_TOKEN)
    for seconds, name, types in sorted(stopwatch.rows, key=lambda row: -row[0]):
        print(f"{seconds:6.2f} s  {name}  ({', '.join(map(str, types))})"[:160])
    compiling = sum(row[0] for row in stopwatch.rows)
    print(f"{compiling:6.2f} s  in {len(stopwatch.rows)} compilations; {time.process_time():.2f} s in all")


if __name__ == "__main__":
    main()
