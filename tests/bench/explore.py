"""The explore page of the real 270M: seconds, size, and of how many layers it keeps attention, by length of the prompt.

python tests/bench/explore.py [TOKENS ...]      the first tokens of LICENSE; 64, 250, 400, 700
"""

import json
import re
import sys
import tempfile
import time
from pathlib import Path

import ref
from ref.show.explore import explore
from ref.show.explore_page import write_explore


def made(loaded, ids):
    """Make a page; return a line about it."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        page = write_explore(explore(loaded, ids, loaded.tokenizer()), Path(folder) / "page.html").read_text()
    seconds = time.perf_counter() - start
    kept = json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])["attention"]
    size = len(page.encode()) / 1e6
    return f"{len(ids)} tokens: {seconds:.1f} s, {size:.1f} MB, {len(kept['layers'])} layers in {kept['bits']} bits"


if __name__ == "__main__":
    loaded = ref.load("270m")
    tokens = loaded.tokenizer().encode(Path("LICENSE").read_text())
    made(loaded, tokens[:8])  # kernels compile
    for count in map(int, sys.argv[1:] or (64, 250, 400, 700)):
        print(made(loaded, tokens[:count]), flush=True)
