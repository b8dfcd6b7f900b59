"""Judge many sparse dumps of clean runs, and as many with one tap corrupted; prints counts and each false verdict.

python tests/bench/sparse.py [FIRST] [COUNT]
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.judged import as_dump
from support.sparse import corrupted, drawn

import ref
from ref import compare


def main(first: int = 0, count: int = 2000) -> None:
    """Run seeds first .. first + count."""
    loaded, alarms, missed = ref.load("tiny"), 0, 0
    for seed in range(first, first + count):
        passes, kept, rng = drawn(seed)
        report = compare(as_dump(passes, kept), loaded=loaded)
        if report["verdict"] != "match":
            alarms += 1
            print(f"seed {seed}: clean, {report['verdict']}, {report['first']}", flush=True)
        if seed % 4 == 0:
            wrong, number, tap = corrupted(passes, kept, rng)
            if compare(as_dump(wrong, kept), loaded=loaded)["verdict"] != "bug":
                missed += 1
                print(f"seed {seed}: {tap} of pass {number} corrupted, not found", flush=True)
    print(f"{count} clean: {alarms} alarms; {-(-count // 4)} corrupted: {missed} missed")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
