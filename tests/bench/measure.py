"""What `capture.py` and `needed.py` share: run a part of a script in a process of its own, and read what it found."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]
OURS = {"OMP_WAIT_POLICY": "passive", "OPENBLAS_THREAD_TIMEOUT": "4"}  # what `import ref` sets where it comes first


def in_process(script, *arguments):
    """Run a script and return the JSON object that it prints on its last line.

    NumPy's BLAS and torch's OpenMP read how threads wait when they are loaded: they wait as `ref` has it.
    """
    command = [sys.executable, script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | OURS)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])
