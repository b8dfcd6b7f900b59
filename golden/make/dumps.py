"""Make golden/dumps: small dumps of transformers, each once as it is and once with a mistake planted.

    python golden/make/dumps.py            with the extra [witness]; about a minute

`tiny` has every tap of a prompt with two images, in float32; `270m-bfloat16` has a local and a global layer of the real
weights. The mistakes stand in `PLANTED`; the good and the bad dump of a pair differ in nothing else.
"""

import shutil
import sys
from pathlib import Path

import numpy as np
import torch

import ref
from ref.capture.transformers import capture
from ref.capture.transformers.model import build_model
from ref.golden_files.sampled import made_pixels

OUT = Path(__file__).resolve().parents[1] / "dumps"
TEXT = "Five of six layers see the last 512 tokens only."
LAYERS = (4, 5)  # a local and a global one
TINY = [5, 7, *[97] * 4, 9, *[97] * 4, 30, 31, 32, 33, 34]
PLANTED = {
    "tiny": "layer 3's local window is one key longer than it should be",
    "270m-bfloat16": "layer 5's GELU is the exact one instead of the tanh form: below the noise floor of bfloat16",
}


def plant_window(model):
    """Let each query of one layer see one key more."""
    attention, window = model.model.language_model.layers[3].self_attn, model.config.get_text_config().sliding_window
    original = attention.forward

    def run(hidden_states, position_embeddings=None, attention_mask=None, **kwargs):
        T = hidden_states.shape[1]
        q, k = torch.arange(T)[:, None], torch.arange(T)[None]
        extra = (q - k == window)[None, None]
        return original(hidden_states, position_embeddings, attention_mask.masked_fill(extra, 0.0), **kwargs)

    attention.forward = run


def plant_gelu(model):
    """Put the exact GELU into one layer."""
    model.model.layers[5].mlp.act_fn = torch.nn.GELU()


def make(name, model, ids, taps=("*",), **more):
    """Capture one dump in the place of an older one."""
    shutil.rmtree(OUT / name, ignore_errors=True)
    capture(model, ids, OUT / name, taps=taps, **more)
    print(name, sum(f.stat().st_size for f in (OUT / name).iterdir()), "bytes")


def main():
    """Make all four."""
    OUT.mkdir(exist_ok=True)
    pixels = torch.from_numpy(made_pixels(2, 40))
    for name, plant in (("tiny", None), ("tiny-bug", plant_window)):
        model = build_model("tiny", "float32", "eager")
        if plant:
            plant(model)
        make(name, model, np.array(TINY), weights="tiny", pixel_values=pixels)
    ids = np.array(ref.load("270m").tokenizer().encode(TEXT))
    for name, plant in (("270m-bfloat16", None), ("270m-bfloat16-bug", plant_gelu)):
        model = build_model("270m", "bfloat16", "eager")
        if plant:
            plant(model)
        make(name, model, ids, [f"text.layer.{i}.*" for i in LAYERS], weights="270m")
    return 0


if __name__ == "__main__":
    sys.exit(main())
