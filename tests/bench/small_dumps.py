"""Judge small dumps of transformers: correct ones, which must match, and each planted mistake of tests/support.

python tests/bench/small_dumps.py [clean] [planted] [float32 bfloat16]      on the 270M; prints sizes, ratios, counts

A planted mistake is *caught* where the verdict is a bug, and *placed* where the first tap that is called one is the
planted one.
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
from ref.dump.sketching import sketching

SHORT, LONG = 48, 520  # tokens; the window is 512
LACKS = ("vision", "factor", "heads", "scalar")  # what the 270M has not
LAYERS = {"norm_eps_1e-5": 0}  # where mean squares are near 1
PROMPTS = ("The capital of France is", "def f(x):\n    return x + 1  # 17 * 23 = 391 你好", "Aaaaa aaaa aaa aa a")


def clean(dtype: str, loaded) -> None:
    """Judge correct captures; the largest ratio says how near the limit they come."""
    text = loaded.tokenizer().encode(Path("LICENSE").read_text())
    short = [loaded.tokenizer().encode(one) for one in PROMPTS]
    runs = [(ids, {"steps": 1}) for ids in short] + [(text[:SHORT], {"steps": 2}), (text[:130], {}), (text[:LONG], {})]
    runs += [([[0] * 4 + short[0], text[: 4 + len(short[0])]], {"left_pads": [4, 0]})]
    for attention in ("eager", "sdpa"):
        model = build_model("270m", dtype, attention)
        for number, (ids, more) in enumerate(runs):
            report, size = _judged(model, ids, loaded, **more)
            rows = [row for row in report["taps"] if row["local"] is None and row["inherited_ratio"] is not None]
            worst = max(rows, key=lambda row: row["inherited_ratio"])
            told = f"{report['verdict']}, {worst['inherited_ratio']:.2f} at {worst['tap']}, {size / 1e6:.1f} MB"
            print(f"clean {dtype} {attention} {number}: {told}", flush=True)


def planted(dtype: str, loaded) -> None:
    """Plant each mistake and judge, and print what was not caught or not placed."""
    text, model = loaded.tokenizer().encode(Path("LICENSE").read_text()), build_model("270m", dtype, "eager")
    count = caught = placed = 0
    for injection in INJECTIONS:
        if injection.needs in LACKS or (injection.float32_only and dtype != "float32"):
            continue
        wrong, layer = copy.deepcopy(model), LAYERS.get(injection.mutant, place(injection, loaded.params.config))
        ids = text[: LONG if injection.needs == "long" else SHORT]
        undo = injection.plant(wrong, layer)
        report, _ = _judged(wrong, ids, loaded)
        if callable(undo):
            undo()
        tap, first = injection.tap.format(i=layer), report["first"] and report["first"]["tap"]
        count, caught, placed = count + 1, caught + (report["verdict"] == "bug"), placed + (first == tap)
        if first != tap:
            print(f"  {injection.mutant}: wanted at {tap}; {report['verdict']} at {first}", flush=True)
    print(f"planted {dtype}: {count}, {caught} caught, {placed} placed", flush=True)


def _judged(model, ids, loaded, **more):
    """Return the report on a small dump, and its bytes."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "dump"
        with torch.no_grad(), sketching():
            capture(model, ids, folder, weights="270m", **more)
        return compare(folder, loaded=loaded), sum(file.stat().st_size for file in folder.iterdir())


if __name__ == "__main__":
    words = sys.argv[1:]
    weights = ref.load("270m")
    for dtype in [one for one in words if one.startswith(("float", "bfloat"))] or ("float32", "bfloat16"):
        for name, job in (("clean", clean), ("planted", planted)):
            if name in words or not {"clean", "planted"} & set(words):
                job(dtype, weights)
