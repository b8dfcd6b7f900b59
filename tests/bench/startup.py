"""Start-up and memory: `python tests/bench/startup.py`. Each figure is of a process of its own.

Prints `import ref`, default weights to the first token with a warm and with an empty kernel cache, all kernels of
`verify --weights tiny` compiled from nothing, and the peak memory of `generate`.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time

IMPORT = "import time; t = time.perf_counter(); import ref; print(time.perf_counter() - t)"
GENERATE = [sys.executable, "-m", "ref", "generate", "The capital of France is", "--greedy"]


def seconds(command, **environment):
    """Run a command and return how long it took."""
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=os.environ | environment)
    return time.perf_counter() - start


def main():
    """Measure and print."""
    imports = [float(subprocess.check_output([sys.executable, "-c", IMPORT])) for _ in range(3)]
    print(f"import ref                              {min(imports):6.2f} s")
    one = [*GENERATE, "--max-new-tokens", "1"]
    with tempfile.TemporaryDirectory() as empty:
        cold = seconds(one, NUMBA_CACHE_DIR=empty)
        print(f"first token, no kernel compiled yet     {cold:6.1f} s")
        warm = min(seconds(one, NUMBA_CACHE_DIR=empty) for _ in range(3))
        print(f"first token, kernels cached             {warm:6.2f} s")
    verify = [sys.executable, "-m", "ref", "verify", "--weights", "tiny"]
    with tempfile.TemporaryDirectory() as empty:
        print(f"verify tiny, no kernel compiled yet     {seconds(verify, NUMBA_CACHE_DIR=empty):6.1f} s")
    subprocess.run([*GENERATE, "--max-new-tokens", "64"], check=True, capture_output=True)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print(f"largest peak memory of all these        {peak / 1e6:6.2f} GB")


if __name__ == "__main__":
    main()
