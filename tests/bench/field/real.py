"""The real 270M: short texts, texts longer than its window of 512, and cached steps."""

from functools import cache
from pathlib import Path

import ref

from .of_transformers import row

ROOT = Path(__file__).resolve().parents[3]
TEXTS = {
    "france": "The capital of France is",
    "licence": (ROOT / "LICENSE").read_text()[:180],
    "code": "def f(x):\n    return [x * i for i in range(10)]\n",
    "scripts": "Γειά σου Κόσμε, 你好，世界, नमस्ते, 🙂",
    "numbers": "3.14159 26535 8979 -1e-10 0x7fff 1,000,000 = 10^6",
    "turn": "<start_of_turn>user\nWhy is the sky blue?<end_of_turn>\n<start_of_turn>model\n",
    "nothing": "",
}
LONG = 640  # tokens, of which the last 128 no longer see the first
JOBS = {"steps": ("france", 3), "long": ("long", 0), "long-steps": ("long", 2)}


@cache
def encoded(text: str) -> list[int]:
    """Return the ids of a text of the table; `long` is the licence's first."""
    tokenizer = ref.load("270m").tokenizer()
    if text == "long":
        return tokenizer.encode((ROOT / "LICENSE").read_text())[:LONG]
    return tokenizer.encode(TEXTS[text])


def rows():
    """Yield the rows. In float16 the truth itself passes 65,504, so that nothing need match there."""
    jobs = {text: (text, 0) for text in TEXTS} | JOBS
    for dtype in ("float32", "bfloat16", "float16"):
        for attention in ("eager", "sdpa"):
            for what, (text, steps) in jobs.items():
                ids = lambda loaded, text=text: encoded(text)  # noqa: E731
                quick = (dtype, attention, what) == ("float32", "eager", "france")
                counted = dtype != "float16"
                yield row("torch", "270m", dtype, attention, what, ids, steps=steps, counted=counted, nightly=quick)
