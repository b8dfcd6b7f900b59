# %% [markdown]
# # 00 The map: one token through the model
#
# - **You will see** every named value between a prompt and the next word, with its shape.
# - **You need** nothing but Python and NumPy; the weights are the real Gemma 3 270M.
# - **Shown from** `ref/model/text.py`, `ref/model/block.py`, `ref/model/taps.py`.

# %%
# %matplotlib inline
import tempfile

import numpy as np

import ref
from ref.model.block import block
from ref.model.taps import Recorder
from ref.model.text import How, forward
from ref.show.plots import plot_depth
from ref.show.words import shapes, source, verdict
from ref.testing import break_port, check_op, exercise

# %% [markdown]
# ## Text becomes numbers
#
# A tokenizer cuts text into pieces of a fixed vocabulary of 262,144; the model sees their numbers only. It puts a
# `<bos>` before the first. (08 is about tokens.)

# %%
loaded = ref.load("270m")
tokenizer = loaded.tokenizer()
ids = tokenizer.encode("The capital of France is")
pieces = tokenizer.pieces(ids)
list(zip(ids, pieces, strict=True))

# %% [markdown]
# ## The whole model
#
# Look the tokens' rows up in the embedding, send them through the layers, normalise, and compare the last row with
# every row of the embedding: the largest product is the likeliest next token. This is all of it:

# %%
source(forward, doc=False)

# %% [markdown]
# `block` is one layer: attention adds to the stream what other tokens know, the feed-forward half adds what this
# token's own row suggests. Both are normalised before *and* after, which is Gemma 3's habit (05).

# %%
source(block, doc=False)

# %% [markdown]
# ## Every value has a name
#
# A *tap* is a named value of a pass; whoever listens gets a copy. Letters are axes, the same everywhere: B batch,
# T tokens, D width, N query heads, K key heads, H head dimension, S keys, F feed-forward width, V vocabulary.

# %%
recorder = Recorder()
logits, _ = ref.forward(loaded.params, [ids], How(taps=recorder))
print(len(recorder.values), "values; outside the layers and in layer 0:\n")
print(shapes(recorder.values, layer=0))

# %% [markdown]
# ## The next word
#
# The logits of the last token, as probabilities. Nothing is drawn here yet (09 does).

# %%
last = logits[0, -1].astype(np.float64)
probs = np.exp(last - last.max())
probs /= probs.sum()
for token in np.argsort(-probs)[:5]:
    print(f"{probs[token]:6.1%}  {tokenizer.decode([int(token)])!r}")

# %% [markdown]
# ## The stream grows
#
# Each layer *adds* to a stream of width D; nothing is ever overwritten. Its length grows a thousandfold,
# which is why bfloat16 has to work hard here (13) and why each half block normalises first (01).

# %%
stream = [np.linalg.norm(recorder.values[f"text.layer.{i}.out"][0, -1]) for i in range(18)]
attention = [np.linalg.norm(recorder.values[f"text.layer.{i}.attn.post_norm"][0, -1]) for i in range(18)]
ffn = [np.linalg.norm(recorder.values[f"text.layer.{i}.ffn.post_norm"][0, -1]) for i in range(18)]
plot_depth({"stream": stream, "attention adds": attention, "feed-forward adds": ffn}, "length of the row", every=6)

# %% [markdown]
# ## Broken on purpose
#
# A port forgot to multiply the embedding's rows by the root of the width, 25.3 here. The judge runs each operation
# again on the port's own inputs, so that it can say where it went wrong first:

# %%
port = break_port(f"{tempfile.mkdtemp()}/port", loaded, ids, "embed_unscaled")
print(verdict(port.path, loaded))

# %% [markdown]
# ## Exercise
#
# The answer below is a port's. Mend it until the check says *Right*. The numbers that it is checked by were made by
# other implementations (`golden/vectors/embed_scale.json`).

# %%
exercise(check_op, lambda ids, table: table[ids.astype(int)] * table.shape[1], "embed_scale")

# %% [markdown]
# | paper | function | test |
# |---|---|---|
# | Gemma 3 report, section 2 | `ref.model.text.forward` | `tests/model/test_model.py` |
# | Gemma report (2024), embedding scale | `ref.ops.linear.embed` | `tests/ops/test_linear.py` |
#
# **Next:** 01 takes the smallest piece, RMSNorm, apart.
