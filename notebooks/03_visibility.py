# %% [markdown]
# # 03 Visibility: what a token may see
#
# - **You will see** one range of keys for each token: causal, in a window, open inside an image, closed to padding.
# - **You need** 02.
# - **Shown from** `ref/ops/visibility.py`.

# %%
# %matplotlib inline
import tempfile
from pathlib import Path

import numpy as np

import ref
from ref.model.multimodal import soft_token_id
from ref.model.taps import Recorder
from ref.model.text import How
from ref.ops.visibility import as_matrix, image_blocks, visible_keys, visible_ranges
from ref.show.plots import plot_depth, plot_visibility
from ref.show.words import source, verdict
from ref.testing import break_port, check_visibility, exercise

# %% [markdown]
# ## The definition
#
# A token's *query* looks at *keys*, its own among them (04). Others keep a table of booleans for what it may see, the
# *mask*. Here it is two integers, since the keys that a query of Gemma 3 sees always stand side by side:

# %%
source(visible_keys, doc=False)

# %% [markdown]
# ## Small enough to read
#
# Text is *causal*: a token sees itself and what came before, since it was trained to guess what comes next. A global
# layer sees all of that. A local layer sees a *window*: W keys, its own included. A row is a query, blue is seen.

# %%
words = ["<bos>", "the", "cat", "sat", "on", "the", "mat", "and", "slept"]
first = np.zeros((1, len(words)), np.int64)
seen = {name: visible_ranges(first, 0, W)[0] for name, W in (("global", None), ("local, W = 4", 4))}
print("start and stop of 'mat' in the local layer:", seen["local, W = 4"][6])
plot_visibility(seen, words)

# %% [markdown]
# An image is a block of *soft tokens*, 256 in the real model and 4 here. It is given, not guessed: its tokens see each
# other in both directions, but nothing after it. (`composition` above is for blocks longer than W. Implementations
# differ there.) Pads at the left make the rows of a batch equally long: nobody sees them, and they see nothing.

# %%
words = ["<pad>", "<pad>", "<bos>", "look", "I1", "I2", "I3", "I4", "a", "cat"]
first, soft = np.full((1, len(words)), 2), np.array([[word[0] == "I" for word in words]])
blocks = image_blocks(soft, first, 0)
seen = {name: visible_ranges(first, 0, W, blocks)[0] for name, W in (("global", None), ("local, W = 4", 4))}
plot_visibility(seen, words)

# %% [markdown]
# ## Five local layers, then a global one
#
# A local layer needs to keep W keys only, however long the text (07). What is further back comes through the global
# layers, every sixth. The last layer need not be one.

# %%
for name in ("270m", "1b", "4b", "12b", "27b"):
    c = ref.SIZES[name]
    kinds = "".join("G" if c.is_global(i) else "." for i in range(c.layers))
    print(f"{name:<5} W {c.window:4}  {kinds}")

# %% [markdown]
# ## On the real weights
#
# 640 tokens of a licence through Gemma 3 270M, whose window is 512. How much attention goes to keys outside of the
# range? How much goes far back, on average over the heads of the last token?

# %%
loaded = ref.load("270m")
tokenizer = loaded.tokenizer()
ids = tokenizer.encode(Path("../LICENSE").read_text())[:640]
recorder = Recorder("*.attn.probs", "*.attn.visible")
ref.forward(loaded.params, [ids], How(taps=recorder, logits="none"))
outside, back = 0.0, {64: [], 256: [], 512: []}
for i in range(18):
    probs, visible = (recorder.values[f"text.layer.{i}.attn.{name}"][0] for name in ("probs", "visible"))
    outside = max(outside, probs[:, ~as_matrix(visible, 640)].max())
    for distance, shares in back.items():
        shares.append(probs[:, -1, : 640 - distance].sum(-1).mean())
print("most attention to a key outside of the range, all layers:", outside)
plot_depth({f"{d} and more back": shares for d, shares in back.items()}, "share of attention", 6, log=False)

# %% [markdown]
# The 270M has no eyes. `tiny`, a toy with random weights, has: its images become 4 soft tokens, rows 2 to 5 here. This
# is what a head of its first layer, a local one, gives to each key:

# %%
tiny = ref.load("tiny")
image = ref.Images(tiny.vision, np.random.default_rng(0).uniform(-1, 1, (1, 3, 40, 40)).astype(np.float32))
prompt = [2, 3, *[soft_token_id(tiny.params.config)] * 4, 5, 6]
recorder = Recorder("text.layer.0.attn.probs", "text.layer.0.attn.visible")
ref.forward_images(tiny.params, image, np.array([prompt]), How(taps=recorder))
visible, probs = (value[0] for value in recorder.values.values())
print(f"W = {tiny.params.config.window}; outside of the range {probs[:, ~as_matrix(visible, 8)].max()}")
print(probs[0].round(2))

# %% [markdown]
# Pads change nothing but rounding: two prompts in one batch, the shorter one with 3 pads before it, and that one alone.

# %%
short, long = (tokenizer.encode(text) for text in ("The capital of France is", "The cat that sat on the mat fell"))
together, _ = ref.forward(loaded.params, [[0] * 3 + short, long], How(logits="last"), first=[3, 0])
alone, _ = ref.forward(loaded.params, [short], How(logits="last"))
print(f"largest logit {alone.max():.1f}, largest change {abs(together[0] - alone[0]).max():.0e}")

# %% [markdown]
# ## Broken on purpose
#
# A port's window holds W keys *besides* the query's own. With the toy's W of 5, five tokens cannot show it, six cannot
# tell it from a port without any window, twenty can. So judge a port on prompts that are longer than its window.

# %%
for tokens in (5, 6, 20):
    port = break_port(f"{tempfile.mkdtemp()}/port", tiny, [20 + i for i in range(tokens)], "window_plus_one")
    print(f"{tokens} tokens:\n{verdict(port.path, tiny)}\n")

# %% [markdown]
# ## Exercise
#
# This mask is for text, images, pads and several prompts in a row, and it is almost right. Mend it. (`first` is where
# each token's prompt starts, `soft` says which tokens are of an image, `window` is W or None.)


# %%
def my_mask(soft, first, window):
    """Return [T, T] booleans, query by key."""
    query, key = np.arange(len(soft))[:, None], np.arange(len(soft))
    own = (first[:, None] == first) & (key >= first)
    image = soft[:, None] & soft
    return own & (query - key < (window or len(soft))) & ((key <= query) | image)


exercise(check_visibility, my_mask)

# %% [markdown]
# | paper | function | test |
# |---|---|---|
# | Beltagy et al. 2020; Gemma 3 report, section 2 | `ref.ops.visibility.visible_keys` | `tests/ops/test_visibility.py` |
# | transformers 5.23, image masks | `ref.ops.visibility.image_blocks` | `tests/ops/test_image_visibility.py` |
#
# **Next:** 04, how much of what it sees a token takes.
