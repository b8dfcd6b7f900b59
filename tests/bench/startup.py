"""Start-up and memory: `python tests/bench/startup.py`. Each figure is of a process of its own.

Prints `import ref`, opening the default weights with their tokenizer, default weights to the first token with a warm
and with an empty kernel cache, all kernels of `verify --weights tiny` compiled from nothing, and the peak memory of
`generate`. In brackets CPU seconds, which say more where others use the machine, too. `compile_times.py` beside this
says which kernel costs what. PYTHONDONTWRITEBYTECODE, if set, adds what Python takes to compile `ref` each time.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time

CLOCK = "import time; {}; t = time.perf_counter(); {}; print(time.perf_counter() - t)"
IMPORT = CLOCK.format("pass", "import ref")
LOAD = CLOCK.format("from ref import load", "load('270m').tokenizer()")
GENERATE = [sys.executable, "-m", "ref", "generate", "The capital of France is", "--greedy"]


def seconds(command, times=1, **environment):
    """Run a command; write how long it took at best, and its CPU seconds."""
    best = [float("inf")] * 2
    for _ in range(times):
        start, used = time.perf_counter(), cpu()
        subprocess.run(command, check=True, capture_output=True, env=os.environ | environment)
        best = [min(best[0], time.perf_counter() - start), min(best[1], cpu() - used)]
    return f"{best[0]:6.2f} s ({best[1]:.2f})"


def cpu():
    """Return the CPU seconds of all processes that ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def inside(code):
    """Run Python code that prints seconds; write the fewest of some."""
    return f"{min(float(subprocess.check_output([sys.executable, '-c', code])) for _ in range(5)):6.3f} s"


def main():
    """Measure and print."""
    print(f"import ref                              {inside(IMPORT)}")
    one = [*GENERATE, "--max-new-tokens", "1"]
    with tempfile.TemporaryDirectory() as empty:
        print(f"first token, no kernel compiled yet     {seconds(one, NUMBA_CACHE_DIR=empty)}")
        print(f"first token, kernels cached             {seconds(one, 5, NUMBA_CACHE_DIR=empty)}")
    print(f"weights opened, tokenizer made before   {inside(LOAD)}")
    verify = [sys.executable, "-m", "ref", "verify", "--weights", "tiny"]
    with tempfile.TemporaryDirectory() as empty:
        print(f"verify tiny, no kernel compiled yet     {seconds(verify, NUMBA_CACHE_DIR=empty)}")
    subprocess.run([*GENERATE, "--max-new-tokens", "64"], check=True, capture_output=True)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print(f"largest peak memory of all these        {peak / 1e6:6.2f} GB")


if __name__ == "__main__":
    main()
