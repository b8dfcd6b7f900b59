# %% [markdown]
# # 07 The cache: a new token without the old work
#
# - **You will see** keys and values kept from pass to pass, a ring that turns, and what both cost in memory.
# - **You need** 03 and 04: which keys a token sees, and how it mixes their values.
# - **Shown from** `ref/model/cache.py`, `ref/quant/memory.py`.

# %%
# %matplotlib inline
import tempfile
from pathlib import Path
from unittest.mock import patch

import numpy as np

import ref
from ref.config import SIZES
from ref.dump.trace import trace
from ref.model.cache import LayerCache, chronological, empty_cache, extend
from ref.model.text import How
from ref.quant.memory import kv_bytes
from ref.show.kv_memory import plot_kv_memory
from ref.show.words import source, verdict
from ref.testing import check_like, exercise

# %% [markdown]
# ## The definition
#
# A token's keys and values depend on it and on the tokens before it, never on later ones. So they are computed once and
# kept. A global layer needs them all; a local layer needs the newest W, its window, and writes over the oldest: a ring.

# %%
source(LayerCache)

# %%
source(extend, doc=False)

# %% [markdown]
# ## Small enough to read
#
# `tiny` has a window of 5. One token per pass. Each slot shows the position of the token whose key is in it; `-` is
# empty. The local layer's sixth key goes to slot 0. To one new token, which sees them all, the order of the slots does
# not matter: a key has its position in it, since it was rotated before it was kept (02).

# %%
tiny, ids = ref.load("tiny"), [2, 33, 5, 80, 7, 9, 11, 40, 41]
how = How(dtype=np.float64)
cache, steps = empty_cache(tiny.params.config, [0], context=9, dtype=np.float64), []
for token in ids:
    logits, cache = ref.forward(tiny.params, [[token]], how, cache)
    steps.append(logits[0, 0])
    rows = [cache.layers[i].positions[0] for i in (0, 5)]  # layer 5 is global
    local, all_keys = (" ".join("-" if p < 0 else str(p) for p in row) for row in rows)
    print(f"token {cache.written - 1}    local  {local}    global  {all_keys}")

# %% [markdown]
# Decoding has to give what one pass over all tokens gives:

# %%
full, _ = ref.forward(tiny.params, [ids], how)
print(f"logits up to {np.abs(full).max():.1f}, largest difference {np.abs(full[0] - steps).max():.0e}")

# %% [markdown]
# ## On the real weights
#
# Gemma 3 270M has a window of 512, so a longer text is needed for its rings to turn: the words that `help(ref)` begins
# with. One pass takes all tokens but the last, one decodes the last.

# %%
loaded = ref.load("270m")
c, text = loaded.params.config, ref.__doc__ * 2
ids_long = loaded.tokenizer().encode(text)[:560]
last_only = How(logits="last")
whole, _ = ref.forward(loaded.params, [ids_long], last_only)
cache = empty_cache(c, [0], context=1024, dtype=np.float32)
_, cache = ref.forward(loaded.params, [ids_long[:-1]], How(logits="none"), cache)
decoded, cache = ref.forward(loaded.params, [ids_long[-1:]], last_only, cache)
for i in (0, 5):
    k, positions = cache.layers[i].k, cache.layers[i].positions[0]
    print(f"layer {i}: keys {k.shape}; slots 46 to 49 hold the tokens {positions[46:50]}")
print(f"logits up to {np.abs(whole).max():.1f}, largest difference {np.abs(whole - decoded).max():.0e}")

# %% [markdown]
# ## What it costs
#
# A token costs 2 (key and value) x K heads x H numbers in each layer. Five local layers to a global one is why Gemma 3
# can afford a long context: a cache of 32,768 tokens in bfloat16 is five to six times as large with all layers global.

# %%
held = sum(layer.k.nbytes + layer.v.nbytes for layer in cache.layers)
assert held == kv_bytes(c, 1024, "float32")
print(f"the cache above: {held:,} bytes, as kv_bytes counts\n")
print("        rings  all global   (GB, 32,768 tokens)")
for size in ("270m", "1b", "4b", "12b", "27b"):
    rings, everything = (kv_bytes(SIZES[size], 32_768, all_global=which) / 1e9 for which in (False, True))
    print(f"{size:<5}{rings:8.2f}{everything:12.2f}   {everything / rings:.1f} x")

# %%
plot_kv_memory("4b")

# %% [markdown]
# ## Broken on purpose
#
# A port's function that should put a ring in the order of time leaves it in the order of its slots. A pass of one new
# token never asks for the order. A pass of two does: each must leave the oldest keys out, and leaves out others. The
# judge needs no such pass, since it compares the kept keys themselves.


# %%
def as_it_lies(cache):
    """Take slots for time."""
    positions = chronological(cache)[2]
    kept = positions.shape[1]
    return cache.k[:, :kept], cache.v[:, :kept], positions


port = Path(tempfile.mkdtemp()) / "port"
with patch("ref.model.cache.chronological", as_it_lies), patch("ref.model.block.chronological", as_it_lies):
    for new in (1, 2):
        cache = empty_cache(tiny.params.config, [0], context=9, dtype=np.float64)
        _, cache = ref.forward(tiny.params, [ids[:7]], how, cache)
        logits, _ = ref.forward(tiny.params, [ids[7 : 7 + new]], how, cache)
        print(f"new tokens: {new}, largest difference {np.abs(logits[0] - full[0, 7 : 7 + new]).max():.1g}")
    trace(tiny, [ids], port, How(), ["*"], steps=1)  # a dump of 9 tokens and one decoded
print(verdict(port, tiny))

# %% [markdown]
# ## Exercise
#
# How many bytes does a cache take in bfloat16? This is a formula of older models. Mend it for every size and context.


# %%
def my_kv_bytes(size, context):
    """Count 2 bytes for keys and values, in every layer, at full width."""
    c = SIZES[size]
    return 2 * 2 * c.layers * c.width * context


cases = [("270m", 1), ("270m", 512), ("270m", 513), ("1b", 32_768), ("4b", 1000), ("27b", 5000)]
exercise(check_like, my_kv_bytes, lambda size, context: kv_bytes(SIZES[size], context), cases)

# %% [markdown]
# | paper | function | test |
# |---|---|---|
# | Gemma 3 report, section 2 | `ref.model.cache.extend` | `tests/model/test_cache.py` |
# | Gemma 3 report, figures 5 and 6 | `ref.quant.memory.kv_bytes` | `tests/quant/test_memory.py` |
#
# **Next:** 08, how a text becomes the ids that all this begins with.
