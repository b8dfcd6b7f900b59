"""Time of a comparison: 512 tokens of text through transformers, every tap and all logits of the 270M, then the judge.

python tests/bench/judge.py [float32 bfloat16 ...]      seconds (capturing apart) and peak memory, warm
"""

import os
import resource
import sys
import tempfile
import time
from pathlib import Path

TOKENS = 512


def captured(dtype: str, folder: Path) -> None:
    """Write a dump; in a process of its own, so that its memory does not count."""
    import ref
    from ref.capture.transformers import build_model, capture

    ids = ref.load("270m").tokenizer().encode(Path("LICENSE").read_text())[:TOKENS]
    capture(build_model("270m", dtype, "eager"), ids, str(folder), weights="270m")


def judged(dtype: str, folder: Path) -> None:
    """Judge a dump and print a line."""
    from ref import compare

    start = time.perf_counter()
    report = compare(folder, "270m")
    seconds, peak = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{dtype}: {report['verdict']}, {len(report['taps'])} taps in {seconds:.1f} s, {peak:.2f} GB", flush=True)


def in_child(work, *given) -> None:
    """Call a function in a process of its own and wait."""
    pid = os.fork()
    if not pid:
        work(*given)
        os._exit(0)
    if os.waitpid(pid, 0)[1]:
        sys.exit(f"{work.__name__} failed")


if __name__ == "__main__":
    for dtype in sys.argv[1:] or ("float32", "bfloat16"):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "dump"
            in_child(captured, dtype, folder)
            in_child(judged, dtype, folder)  # kernels compile, files get into memory
            in_child(judged, dtype, folder)
