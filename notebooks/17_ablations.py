# %% [markdown]
# # 17 Ablations: what does each choice buy?
#
# - **You will see** the loss along a text when window, pattern and rotation change, and what memory and crops cost.
# - **You need** 02, 03, 06, 07, 10.
# - **Shown from** `ref/config.py`, `ref/model/text.py`, `ref/quant/memory.py`, `ref/prompt/images.py`.

# %%
# %matplotlib inline
import tempfile
from pathlib import Path

import numpy as np
from skimage import data

import ref
from ref.config import CROPS, SIGLIP, SIZES
from ref.model.taps import Recorder
from ref.model.text import How, place_tokens
from ref.ops import KERNEL
from ref.quant.memory import kv_bytes, weights_bytes
from ref.show.image_plots import plot_crops
from ref.show.kv_memory import plot_kv_memory
from ref.show.plots import plot_positions
from ref.show.words import source, verdict
from ref.testing import break_port, check_like, exercise

# %% [markdown]
# ## Changed at inference, not retrained
#
# The report trains a model anew for each choice. **Nothing is trained here**: the weights of the real 270M run with
# another configuration. So the curves show what *these weights* were trained for, not which design is better. Layers
# are *local* (they see a window) or *global* (all); the base is how fast RoPE turns. Here the configuration acts:

# %%
loaded = ref.load("270m", "float32")
config = loaded.params.config
for name, one in (("as trained", config), ("changed", config._replace(global_every=3, window=128, rope_factor=8.0))):
    kinds = [f"{i} sees {one.window_of(i) or 'all'}, base {one.rope(i)[0]:,.0f} x {one.rope(i)[1]:g}" for i in (2, 5)]
    print(f"{name:<11} layer", "; ".join(kinds))
source(place_tokens, doc=False)

# %% [markdown]
# The text is the beginning of this repository's `README.md`. At every sixth position: the negative logarithm of the
# probability that the true next token got, in nats; 0 is certain. The exponential of its mean is the *perplexity*.

# %%
ids = loaded.tokenizer().encode((Path(ref.__file__).parents[1] / "README.md").read_text("utf-8"))[:1441]
places = np.arange(5, len(ids) - 1, 6)
changes = {"as trained": {}, "window 128": {"window": 128}, "window 1,024": {"window": 1024}}
changes |= {"2:1, not 5:1": {"global_every": 3}, "no global layer": {"global_every": 19}}
changes |= {"local base 1,000,000": {"rope_base_local": 1e6}, "global base 10,000": {"rope_base_global": 1e4}}
changes |= {"global factor 8": {"rope_factor": 8.0}}
lost = {}
for name, change in changes.items():
    params, last = loaded.params._replace(config=config._replace(**change)), Recorder("text.layer.17.out")
    ref.forward(params, [ids[:-1]], How(logits="none", taps=last))  # logits of all positions would take 1.5 GB
    rows = KERNEL.rms_norm(last.values["text.layer.17.out"][:, places], params.final_norm, config.rms_eps)
    logits = KERNEL.linear(rows, params.embedding)[0]
    logits -= logits.max(axis=-1, keepdims=True)
    lost[name] = np.log(np.exp(logits).sum(axis=-1)) - logits[np.arange(len(places)), np.array(ids)[places + 1]]
    early, late = lost[name][places < 512].mean(), lost[name][places >= 512].mean()
    print(f"{name:<22} up to 512 {early:.2f}   beyond {late:.2f}   perplexity {np.exp(lost[name].mean()):6.1f}")

# %%
parts = {"window": slice(1, 3), "pattern": slice(3, 5), "rotation": slice(5, 8)}
panels = {title: {name: lost[name] for name in ["as trained", *list(lost)[part]]} for title, part in parts.items()}
plot_positions(panels, places, "nats a token", smooth=32, mark=config.window)

# %% [markdown]
# - **Window.** A quarter of it costs little: most of what a local layer uses is near. Twice as much changes nothing up
#   to 512 and breaks beyond: the local layers never met such distances in training.
# - **Pattern.** Without a global layer none sees beyond its window, and layers 5, 11 and 17 turn by a base they were
#   not trained with: that costs more beyond 512 than before. More global layers cost, too, by their new base.
# - **Rotation.** The local base is needed from the first tokens on. The global one, and the factor that the 4B, 12B and
#   27B have for 128K tokens, matter less at this length.
#
# The report, with models trained for it: perplexity changes little up to 7:1 (figure 3), and the window can be reduced
# strongly (figure 4, 2B models with 1:1 and 1:3).
#
# ## What the pattern buys: memory
#
# A local layer keeps its window only. The report, of a 2B model at 32K (figure 5): an overhead of 60 % with global
# layers only, less than 15 % with 1:3 (read as one global to three local) and a window of 1,024. Here the 4B, exactly:

# %%
c = SIZES["4b"]
for name, one in {"global only": c._replace(global_every=1), "1:3": c._replace(global_every=4), "1:5": c}.items():
    size, share = kv_bytes(one, 32_768), kv_bytes(one, 32_768) / weights_bytes(c, "bfloat16")
    print(f"{name:<12} window {c.window}: a cache of {size / 1e9:.2f} GB, {share:.1%} of the weights, in bfloat16")
plot_kv_memory("4b")

# %% [markdown]
# ## What crops buy: detail
#
# A band of a photograph of a retina. The tower sees squares of 896 pixels, and makes 256 soft tokens of each.

# %%
photo = data.retina()[350:1050]
for name, crops in (("off", None), ("on", CROPS["transformers"])):
    seen = ref.preprocess(photo, crops)
    y0, x0, y1, x1 = seen.boxes[0] if len(seen.boxes) else (0, 0, *photo.shape[:2])
    print(f"Pan & Scan {name}: {SIGLIP.soft_tokens * len(seen.pixels)} soft tokens; 14 x 14 pixels of a patch", end=" ")
    print(f"show {(x1 - x0) / SIGLIP.side:.1f} x {(y1 - y0) / SIGLIP.side:.1f} of the photograph")
plot_crops(photo, seen.boxes, seen.pixels)

# %% [markdown]
# Where 14 pixels show more than 14, detail is lost. The report's scores (validation sets; tables 7 and 8):
#
# | | DocVQA | InfoVQA | TextVQA |
# |---|---|---|---|
# | 2B, tower of 256 / 448 / 896 pixels | 31.9 / 45.4 / 59.8 | 23.1 / 31.6 / 33.7 | 44.1 / 53.5 / 58.0 |
# | 4B, without / with Pan & Scan | 72.8 / 81.0 | 44.1 / 57.0 | 58.9 / 60.8 |
# | 27B, without / with Pan & Scan | 85.6 / 90.4 | 59.4 / 76.4 | 68.6 / 70.2 |
#
# ## Broken on purpose
#
# A port that halves the window has made an ablation without meaning to. The judge, on `tiny` (a window of 5):

# %%
tiny = ref.load("tiny")
port = break_port(f"{tempfile.mkdtemp()}/port", tiny, list(range(3, 27)), "window_half")
print(verdict(port.path, tiny))

# %% [markdown]
# ## Exercise
#
# Bytes of the 4B's cache in bfloat16, for `ratio` local layers per global one. Short contexts are asked about, too.


# %%
def my_kv_bytes(ratio, context):
    """Count keys and values of all layers."""
    layers = c.layers / (ratio + 1)
    return 4 * c.kv_heads * c.head_dim * (layers * context + (c.layers - layers) * c.window)


cases = [(1, 32_768), (5, 32_768), (7, 131_072), (5, 100)]
exercise(check_like, my_kv_bytes, lambda ratio, context: kv_bytes(c._replace(global_every=ratio + 1), context), cases)

# %% [markdown]
# | paper | function | test |
# |---|---|---|
# | Gemma 3 report, figures 3 to 6 | `ref.quant.memory.kv_bytes` | `tests/quant/test_memory.py` |
# | tables 7 and 8 | `ref.prompt.images.preprocess` | `tests/prompt/test_images.py` |
#
# **Next:** your own port, with `gemma3-ref compare`; or 00 again: the map is short now.
