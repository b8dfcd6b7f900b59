"""The first layers of a large made-up model, captured from transformers and judged: `large.py SIZE LAYERS TOKENS`.

Only these layers are built, so that 27B fits where its 54 GB do not; the dump says that it is of the whole model. It
takes minutes, and prints seconds and the most memory that the judge's process held.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np


def captured(size: str, layers: int, tokens: int, folder: Path) -> None:
    """Write a dump of the first layers, in bfloat16, every tap."""
    import ref
    from ref.capture.transformers import build_from, capture

    loaded = ref.load(f"synthetic:{size}")
    config = loaded.params.config
    some = loaded.params._replace(
        config=config._replace(layers=layers), layers=[loaded.params.layers[i] for i in range(layers)]
    )
    model = build_from(loaded._replace(params=some, vision=None), "bfloat16")
    ids = [2, *np.random.default_rng(18).integers(1000, 200_000, tokens - 1).tolist()]
    capture(model, ids, folder, weights=f"synthetic:{size}", taps=["text.embed", "text.layer.*"])
    content = json.loads((folder / "dump.json").read_text())
    content["model"]["config"] |= {"layers": config.layers}
    last = f"text.layer.{layers}."  # the final norm's input is no layer's
    for one in content["passes"]:
        one["tensors"] = {name: entry for name, entry in one["tensors"].items() if not name.startswith(last)}
    (folder / "dump.json").write_text(json.dumps(content))


def main(size: str, layers: int, tokens: int) -> None:
    with TemporaryDirectory() as place:
        made = [sys.executable, __file__, "capture", size, str(layers), str(tokens), f"{place}/dump"]
        subprocess.run(made, check=True)
        held = sum(file.stat().st_size for file in Path(place, "dump").iterdir()) / 1e9
        start = time.perf_counter()
        asked = [sys.executable, "-m", "ref", "compare", f"{place}/dump", "--layers", f"embed,0-{layers - 1}"]
        with Path(place, "report").open("w+") as report:
            judge = subprocess.Popen(asked, stdout=report)
            _, _, used = os.wait4(judge.pid, 0)
            seconds = time.perf_counter() - start
            report.seek(0)
            print(report.read().splitlines()[-1])
    what = f"{size}, layers 0-{layers - 1}, {tokens} tokens, a dump of {held:.2f} GB"
    print(f"{what}: {seconds:.0f} s, {used.ru_maxrss / 1e6:.2f} GB")


if __name__ == "__main__":
    if sys.argv[1:2] == ["capture"]:
        captured(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]))
    else:
        main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
