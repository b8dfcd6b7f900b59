"""What each format does to the real 270M: errors of taps and next-token KL, against the weights it was made of.

python tests/bench/formats.py [TOKENS]         the first tokens of LICENSE (200); a table for README
python tests/bench/formats.py --next FILE ...  GGUF files of ours: lines of JSON that tests/bench/llama_next.py reads

The errors are what `compare` says of a dump of the quantised model. Local: the operation on the dump's own inputs, so
what its own weights cost. Inherited: what has gathered since the prompt.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np

import ref
from ref import compare
from ref.dump.trace import trace
from ref.emulate.arithmetic import TRUTH, emulate
from ref.emulate.graph import Run
from ref.emulate.one_pass import pass_of
from ref.emulate.policy import POLICIES
from ref.emulate.stages import prepare_stage, stage_weights, stages_of, taps_of
from ref.model.text import How
from ref.quant.write import quantize

LOCAL = ("attn.q", "attn.out", "ffn.gate", "ffn.out")
FORMATS = [(kind, keep) for kind in ("Q8_0", "SFP8", "Q4_0", "INT4") for keep in (True, False)]
PROMPTS = ("The capital of France is", "def fibonacci(n):", "Once upon a time", "In 1905, Albert Einstein")
STEPS = 8


def row(kind, keep, ids):
    """Quantise, run, compare; return the figures."""
    with tempfile.TemporaryDirectory() as temporary:
        weights = quantize(ref.load("270m"), kind, Path(temporary) / "weights", keep)
        size = sum(file.stat().st_size for file in (Path(temporary) / "weights").iterdir())
        trace(ref.load(str(weights)), [ids], Path(temporary) / "dump", How(), ["*"], 0)
        taps = {one["tap"]: one for one in compare(Path(temporary) / "dump", "270m")["taps"]}
    out = {"format": kind, "embedding kept": keep, "MB": size / 1e6}
    for name in LOCAL:
        out[name] = sum(taps[f"text.layer.{i}.{name}"]["local"] for i in range(18)) / 18
    last = taps["text.logits"]
    return out | {
        "out": taps["text.layer.17.out"]["inherited"],
        "kl": last["metrics"]["kl"],
        "top1": last["metrics"]["top1"],
    }


def table(tokens):
    """Print a row a format."""
    ids = ref.load("270m").tokenizer().encode(Path("LICENSE").read_text())[:tokens]
    print(
        f"| format | MB | {' | '.join(LOCAL)} | last layer | KL, nats | top-1 |\n|---|---|{'---|' * (len(LOCAL) + 3)}"
    )
    for kind, keep in FORMATS:
        r = row(kind, keep, ids)
        name = f"{kind}{', embedding kept' if keep else ''}"
        local = " | ".join(f"{r[one]:.1%}" for one in LOCAL)
        print(f"| {name} | {r['MB']:.0f} | {local} | {r['out']:.0%} | {r['kl']:.3g} | {r['top1']:.0%} |", flush=True)


def llama_error(loaded, ids):
    """Return the largest error of logits at each position that llama.cpp's arithmetic makes, by our emulation of it."""
    one_pass = pass_of(loaded, ids)
    truth, run = Run(one_pass, TRUTH), Run(one_pass, emulate(POLICIES["llama.cpp"], 1))
    for stage in stages_of(one_pass):
        truth.enter(stage, prepare_stage(loaded, stage, "file", np.float64))
        run.enter(stage, stage_weights(loaded, stage))
        left = [f"text.layer.{stage.layer}.out"] if stage.name == "layer" else taps_of(stage, False, False)
        for one in (truth, run):
            for tap in left:
                one.value(tap)
            one.forget(left)
    return np.abs(truth.value("text.logits") - run.value("text.logits"))[0].max(-1)


def next_tokens(files):
    """Print, for each file and prompt, 8 positions: our arg-max, its margin, and the error that llama.cpp must make."""
    for file in files:
        loaded = ref.load(file)
        for prompt in PROMPTS:
            ids = loaded.tokenizer().encode(prompt)
            start = len(ids) - 1
            for _ in range(STEPS):
                ids.append(int(ref.forward(loaded.params, [ids])[0][0, -1].argmax()))
            given, wanted = ids[:-1], ids[start + 1 :]
            two = np.sort(ref.forward(loaded.params, [given])[0][0, start:], axis=-1)[:, -2:]
            row = {"file": file, "ids": given, "next": wanted, "margins": (two[:, 1] - two[:, 0]).tolist()}
            print(json.dumps(row | {"errors": llama_error(loaded, given)[start:].tolist()}), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--next"]:
        next_tokens(sys.argv[2:])
    else:
        table(int(sys.argv[1]) if sys.argv[1:] else 200)
