"""What the benches share: run a part of a script in a process of its own, and read its time and its peak memory."""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]
OURS = {"OMP_WAIT_POLICY": "passive", "OPENBLAS_THREAD_TIMEOUT": "4"}  # what `import ref` sets where it comes first


def in_process(script, *arguments, ours=True):
    """Run a script and return the JSON object that it prints on its last line.

    NumPy's BLAS and torch's OpenMP read how threads wait when they are loaded: ours wait as `ref` has it, others as
    they do by themselves.
    """
    command = [sys.executable, script, *arguments]
    environment = {name: value for name, value in os.environ.items() if name not in OURS} | (OURS if ours else {})
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def timed(run):
    """Return (seconds, result) of one call."""
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result


def peak_gigabytes():
    """Return the most memory that this process ever held, in 1e9 bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
