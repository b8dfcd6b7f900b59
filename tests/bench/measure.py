"""What the benches share: run a part of a script in a process of its own, and read its time and its peak memory."""

import json
import resource
import subprocess
import sys
import time


def in_process(script, *arguments):
    """Run `script --part ...` and return the JSON object that it prints on its last line."""
    done = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, check=False)
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
