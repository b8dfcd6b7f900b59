"""Plant every mistake of tests/support/injections.py into transformers' 270M, one at a time, and judge the result.

python tests/bench/injected.py [float32 bfloat16]      prints what is not caught, located and named; then the counts
"""

import copy
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from support.injections import INJECTIONS, place

import ref
from ref import compare
from ref.capture.transformers import build_model, capture

SHORT, LONG = 48, 520  # tokens; the window is 512
LACKS = ("vision", "factor", "heads", "scalar")  # what the 270M has not: a tower, a factor, two key heads ...
LAYERS = {"norm_eps_1e-5": 0}  # where mean squares are near 1; from layer 3 on they are above 300, and nothing changes


def main(dtype: str) -> None:
    """Plant and judge, and print what went wrong."""
    loaded = ref.load("270m")
    text, clean = loaded.tokenizer().encode(Path("LICENSE").read_text()), build_model("270m", dtype, "eager")
    planted = caught = located = named = 0
    for injection in INJECTIONS:
        if injection.needs in LACKS or (injection.float32_only and dtype != "float32"):
            continue
        model = copy.deepcopy(clean)
        layer = LAYERS.get(injection.mutant, place(injection, loaded.params.config))
        ids = text[: LONG if injection.needs == "long" else SHORT]
        with tempfile.TemporaryDirectory() as temporary:
            undo = injection.plant(model, layer)
            with torch.no_grad():
                capture(model, ids, temporary + "/dump", weights="270m")
            if callable(undo):
                undo()
            report = compare(temporary + "/dump", loaded=loaded)
        tap, first = injection.tap.format(i=layer), report["first"] and report["first"]["tap"]
        names = {row["mutant"] for row in report["diagnosis"] if row["verdict"] in ("named", "tied")}
        right = bool(names & {injection.mutant, *injection.also})
        planted, caught = planted + 1, caught + (report["verdict"] == "bug")
        located, named = located + (first == tap), named + right
        if first != tap or not right:
            print(f"  {injection.mutant}: wanted at {tap}; {report['verdict']} at {first}, {sorted(names)}", flush=True)
    print(f"{dtype}: {planted} planted, {caught} caught, {located} located, {named} named", flush=True)


if __name__ == "__main__":
    for dtype in sys.argv[1:] or ("float32", "bfloat16"):
        main(dtype)
