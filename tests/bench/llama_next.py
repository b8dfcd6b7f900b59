"""Next tokens of llama.cpp on GGUF files that `quantize` wrote, beside ours; for an environment with llama-cpp-python.

python tests/bench/formats.py --next FILE ... > next.jsonl
python tests/bench/llama_next.py next.jsonl

A position is decisive where our margin over the second token is more than twice the error of llama.cpp's arithmetic.
"""

import json
import sys
from pathlib import Path

import numpy as np
from llama_cpp import Llama


def main(path):
    """Print a line a prompt, and the counts."""
    counts = {"positions": 0, "equal": 0, "decisive": 0, "decisive and equal": 0}
    for row in map(json.loads, Path(path).read_text().splitlines()):
        model = Llama(row["file"], n_ctx=512, logits_all=True, verbose=False)
        model.eval(row["ids"])
        start = len(row["ids"]) - len(row["next"])
        got = np.array(model.scores[start : len(row["ids"])]).argmax(-1).tolist()
        same = np.array(got) == row["next"]
        sure = np.array(row["margins"]) > 2 * np.array(row["errors"])
        counts["positions"] += len(same)
        counts["equal"] += int(same.sum())
        counts["decisive"] += int(sure.sum())
        counts["decisive and equal"] += int((same & sure).sum())
        print(row["file"], row["next"], "equal" if same.all() else got)
    print(counts)


if __name__ == "__main__":
    main(sys.argv[1])
