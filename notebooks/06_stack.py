# %% [markdown]
# # 06 The stack: every layer adds to one stream
#
# - **You will see** what a layer adds to a token's row, and which word the row stands for at each depth.
# - **You need** 01 to 05, the parts of a layer.
# - **Shown from** `ref/model/block.py`, `ref/show/lens.py`.

# %%
# %matplotlib inline
import tempfile

import numpy as np

import ref
from ref.model.block import attention, block, feed_forward
from ref.model.taps import Recorder, Scope
from ref.model.text import How, place_tokens
from ref.ops import DEFINITION
from ref.show.lens import Lens, logit_lens, plot_lens
from ref.show.plots import plot_depth
from ref.show.words import source, verdict
from ref.testing import assert_matches, break_port, exercise

# %% [markdown]
# ## The definition
#
# A layer has two halves. Each reads a normalised copy of the stream `x`, and adds what it found, normalised again.

# %%
source(block)

# %% [markdown]
# ## Small enough to read
#
# `tiny` has random weights, 7 layers and rows of 36 numbers. Here are the first four of one token in layer 0: two sums,
# and the next layer is given the second as it is.

# %%
tiny, ids = ref.load("tiny"), [2, 33, 5, 80, 7, 9, 11, 40, 41]
seen = Recorder()
ref.forward(tiny.params, [ids], How(taps=seen))
for tap in ("0.in", "0.attn.post_norm", "0.mid", "0.ffn.post_norm", "0.out", "1.in"):
    print(f"layer {tap:<18}", "".join(f"{x:8.3f}" for x in seen.values[f"text.layer.{tap}"][0, 1, :4]))

# %% [markdown]
# ## On the real weights: 37 terms
#
# So the last row of Gemma 3 270M is a plain sum, up to float32's rounding: the embedding and two terms of each layer.

# %%
loaded = ref.load("270m")
tokenizer, layers = loaded.tokenizer(), range(loaded.params.config.layers)
ids_france = tokenizer.encode("The capital of France is Paris. The capital of Japan is")
seen = Recorder("text.*")
logits, _ = ref.forward(loaded.params, [ids_france], How(taps=seen))


def of_layers(tap):
    """Stack one tap of all layers: [L, T, D] in float64."""
    return np.stack([seen.values[f"text.layer.{i}.{tap}"][0] for i in layers]).astype(np.float64)


attn, ffn, outs = of_layers("attn.post_norm"), of_layers("ffn.post_norm"), of_layers("out")
total = seen.values["text.embed"][0] + attn.sum(axis=0) + ffn.sum(axis=0)
off, largest = np.abs(total - outs[-1]).max(), np.abs(outs[-1]).max()
print(f"{1 + len(attn) + len(ffn)} terms; the sum is off by {off:.3f}, where values reach {largest:,.0f}")

# %% [markdown]
# How much does each half add to the last token's row, beside what was there? Attention in the first two layers adds
# more than the stream held. Later the terms are mostly a small part of it: layers correct, they do not start anew.

# %%
taps = ("in", "attn.post_norm", "mid", "ffn.post_norm")
before, by_attn, mid, by_ffn = (np.linalg.norm(of_layers(tap)[:, -1], axis=-1) for tap in taps)
shares = {"attention adds": by_attn / before, "feed-forward adds": by_ffn / mid}
plot_depth(shares, "part of the stream's length", every=6)

# %% [markdown]
# ## The logit lens
#
# Only the last row is meant for the head. But since layers only add, all rows of the stream live in one space, and the
# head can be asked at any depth: what would the model say if it stopped here? With h the stream of one depth, it is
# softmax(rms_norm(h) @ embedding.T).

# %%
source(logit_lens, doc=False)

# %%
streams = np.concatenate([of_layers("in")[:1], outs]).astype(np.float32)
lens = logit_lens(loaded.params, streams)
best = [[tokenizer.decode([int(token)]) for token in row] for row in lens.ids[:, -7:, 0]]
plot_lens(Lens(lens.ids[:, -7:], lens.probs[:, -7:]), tokenizer.pieces(ids_france)[-7:], best)

# %% [markdown]
# Read the last column from the top. The embedding says the token itself. Then come rows that mean nothing to the head:
# the lens shows only a next word, not what a later layer makes of a row. After layer 11 it says Washington, from 12 on
# Tokyo.
#
# At the last depth the lens is the model's own prediction, ids and probabilities:

# %%
last = logits[0].astype(np.float64)
probs = np.exp(last - last.max(axis=-1, keepdims=True))
probs /= probs.sum(axis=-1, keepdims=True)
np.testing.assert_array_equal(lens.ids[-1, :, 0], last.argmax(axis=-1))
np.testing.assert_allclose(lens.probs[-1, :, 0], probs.max(axis=-1), rtol=1e-4)
for token, prob in zip(lens.ids[-1, -1, :3], lens.probs[-1, -1, :3], strict=True):
    print(f"{prob:6.1%}  {tokenizer.decode([int(token)])!r}")

# %% [markdown]
# ## Broken on purpose
#
# A port runs both halves of layer 9 side by side: feed-forward reads the stream from before attention, as in GPT-J.

# %%
short = tokenizer.encode("The capital of France is")
port = break_port(f"{tempfile.mkdtemp()}/port", loaded, short, "parallel_block", layer=9)
print(verdict(port.path, loaded))

# %% [markdown]
# ## Exercise
#
# A layer put together from the definitions. Its outer norms stand where the first Transformer had its: after the sums.
# Mend it, until all its taps match.


# %%
def my_layer(x, p, place, c, ops, tap):
    """Add, then norm the sum."""
    found, _ = attention(ops.rms_norm(x, p.pre_attn_norm, c.rms_eps), p, place, None, c, ops, tap)
    mid = tap("mid", ops.rms_norm(x + found, p.post_attn_norm, c.rms_eps))
    found = feed_forward(ops.rms_norm(mid, p.pre_ffn_norm, c.rms_eps), p, ops, tap)
    return tap("out", ops.rms_norm(mid + found, p.post_ffn_norm, c.rms_eps))


given, mine, c = Recorder("text.layer.3.in"), Recorder(), tiny.params.config
ref.forward(tiny.params, [ids], How(taps=given))
place = place_tokens(c, 3, np.zeros((1, len(ids)), np.int64), 0, How())
x, tap = given.values["text.layer.3.in"], Scope(mine, "text.layer.3.")
my_layer(x, tiny.params.layers[3], place, c, DEFINITION, tap)
exercise(assert_matches, given.values | mine.values, weights="tiny", ids=ids)

# %% [markdown]
# | paper | function | test |
# |---|---|---|
# | Gemma 3 report, section 2 | `ref.model.block.block` | `tests/model/test_model.py` |
# | nostalgebraist 2020, the logit lens | `ref.show.lens.logit_lens` | `tests/show/test_explore.py` |
#
# **Next:** 07, how the next token is made without running the others again.
