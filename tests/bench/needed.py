"""Estimated and measured memory of the judge: `python tests/bench/needed.py [WEIGHTS TOKENS [TAPS]]`, minutes.

Each figure is of a process of its own: what it holds at most beyond what it held before, kernels compiled.
"""

import json
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread

from measure import in_process

CASES = [("tiny", 1000, "text.layer.0.out"), ("tiny", 700, "*"), ("270m", 512, "text.layer.1.*")]


def anonymous() -> int:
    """Return the bytes of memory that this process holds and that are no file's."""
    line = next(one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


def peak_of(run) -> int:
    """Return the most bytes that a call holds at one time, looked at every few milliseconds."""
    before, most, done = anonymous(), [0], Event()

    def watch():
        while not done.wait(0.005):
            most[0] = max(most[0], anonymous())

    thread = Thread(target=watch)
    thread.start()
    try:
        run()
    finally:
        done.set()
        thread.join()
    return most[0] - before


def traced(weights: str, tokens: int, taps: str, folder: Path):
    """Write a dump of the reference's own."""
    import ref
    from ref.dump.trace import trace
    from ref.model.text import How

    loaded = ref.load(weights)
    trace(loaded, [[2] + [5 + i * 7 % 90 for i in range(tokens - 1)]], folder, How(), [taps], 0)
    return loaded


def measured(weights: str, tokens: int, taps: str) -> dict[str, float]:
    """Return what was estimated and what was needed, in bytes."""
    from ref.judge import compare as comparison
    from ref.judge import needed_memory

    estimates = []
    check = needed_memory.needed
    needed_memory.needed = lambda *of: estimates.append(check(*of)) or estimates[-1]
    with TemporaryDirectory() as place:
        small, large = Path(place) / "small", Path(place) / "large"
        loaded = traced(weights, 8, taps, small)
        traced(weights, tokens, taps, large)
        comparison.compare(small, loaded=loaded)
        start = time.perf_counter()
        peak = peak_of(lambda: comparison.compare(large, loaded=loaded))
    return {"estimated": estimates[-1][0], "measured": peak, "seconds": time.perf_counter() - start}


if __name__ == "__main__":
    if sys.argv[1:2] == ["in-process"]:
        print(json.dumps(measured(sys.argv[2], int(sys.argv[3]), sys.argv[4])))
        sys.exit()
    given = [(sys.argv[1], int(sys.argv[2]), (sys.argv[3:] or ["*"])[0])] if sys.argv[1:] else CASES
    for weights, tokens, taps in given:
        found = in_process(__file__, "in-process", weights, str(tokens), taps)
        print(
            f"{weights:<8}{tokens:>7} tokens {taps:<20} estimated {found['estimated'] / 1e9:6.2f} GB, "
            f"measured {found['measured'] / 1e9:6.2f} GB, {found['seconds']:.0f} s"
        )
