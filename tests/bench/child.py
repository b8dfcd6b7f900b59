"""A process that is measured: it prepares a job and then answers each line on stdin with one run of it, as JSON.

    {"prepare": "rows.text:prefill", "given": {...}}  ->  {"versions": {...}}
    {"time": true}                                    ->  {"seconds": 1.2, "cores": 2.3, "peak": 1900000000}

Seconds are the clock's, `cores` those of all cores together, `peak` is the most bytes that the process ever held. It
imports nothing but the standard library: NumPy reads how threads wait when it is loaded, and `ref` sets that.
"""

import gc
import json
import os
import re
import resource
import sys
import time
from importlib import import_module
from pathlib import Path

from .environment import versions
from .row import Job


def main() -> None:
    """Answer until stdin ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer
    job = Job(lambda: None)
    for line in sys.stdin:
        try:
            asked = json.loads(line)
            if "prepare" in asked:
                job = prepare(asked["prepare"], asked["given"])
                answer = {"versions": versions()}
            else:
                answer = timed(job)
        except Exception as error:  # whatever it is, the other entries go on
            answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
        print(json.dumps(answer), file=answers)


def prepare(job: str, given: dict) -> Job:
    """Call the function that makes a job."""
    module, function = job.split(":")
    made = getattr(import_module(f".{module}", __package__), function)(**given)
    return made if isinstance(made, Job) else Job(made)


def timed(job: Job) -> dict[str, float]:
    """Run a job once."""
    job.before()
    gc.collect()
    cores, start = of_cores(), time.perf_counter()
    result = job.run()
    seconds = time.perf_counter() - start
    used = of_cores() - cores
    del result
    return {"seconds": seconds, "cores": used, "peak": peak()}


def of_cores() -> float:
    """Return the seconds that this process and those it has waited for had of all cores."""
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in both)


def peak() -> int:
    """Return the most bytes that this process, or one that it has waited for, held, pages of files too."""
    child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    status = Path("/proc/self/status")  # Linux; its figure does not begin with that of the process which forked
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    own = int(found[1]) if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return max(own, child) * 1024


if __name__ == "__main__":
    main()
