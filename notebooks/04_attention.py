# %% [markdown]
# # 04 Attention: what a token takes from others
#
# - **You will see** scores, probabilities and their mix, heads that share keys, and where idle heads look.
# - **You need** 03.
# - **Shown from** `ref/ops/attention.py`, `ref/model/block.py`.

# %%
# %matplotlib inline
import tempfile

import numpy as np

import ref
from ref.model.block import attention
from ref.model.taps import Recorder
from ref.model.text import How
from ref.ops.attention import mix, scores, softmax
from ref.show.plots import plot_attention, plot_depth
from ref.show.words import source, verdict
from ref.testing import break_port, check_op, exercise

# %% [markdown]
# ## The definition
#
# Each token makes a *query*, a *key* and a *value* of its row. A query is compared with the keys that it may see, the
# *scores* become shares that sum to 1 (*softmax*), and the values are added up by them (*mix*). `_mix` does all three.

# %%
source(attention, doc=False)

# %%
source(scores, doc=False)

# %%
source(softmax, doc=False)

# %% [markdown]
# ## Small enough to read
#
# Three tokens, one head of two channels; queries are keys here. Tokens 1 and 2 are alike, token 0 is not. Token 0 sees
# itself only. A smaller scale makes shares more even.

# %%
q = k = np.array([[1.0, 0], [0, 2], [0, 2]]).reshape(1, 3, 1, 2)
v = np.array([[1.0], [10], [100]]).reshape(1, 3, 1, 1)
for scale in (1.0, 0.1):
    probs = softmax(scores(q, k, scale), np.array([[[0, 1], [0, 2], [0, 3]]]))
    print(f"scale {scale}: shares {probs[0, 0].round(3).tolist()}   mix {mix(probs, v)[0, :, 0, 0].round(2)}")

# %% [markdown]
# ## Heads share keys, and the scale is a number of its own
#
# N query heads look in N ways at once, but only K heads of keys and values are made, and kept for later tokens (07):
# query head n reads key head n // (N / K). The scale is *not* head_dim ** -0.5 everywhere, and a port that derives it
# is wrong in the 27B only. Nor is it (D / N) ** -0.5, which is right there only.

# %%
print("       N   K  head_dim   scale  head_dim ** -0.5   (D / N) ** -0.5")
for name in ("270m", "1b", "4b", "12b", "27b"):
    c = ref.SIZES[name]
    print(f"{name:<5} {c.query_heads:2}  {c.kv_heads:2}       {c.head_dim}  {c.query_scale:.4f}", end="  ")
    print(f"{c.head_dim**-0.5:16.4f}  {(c.width / c.query_heads) ** -0.5:16.4f}")

# %% [markdown]
# ## Norms take the lengths out
#
# A score is at most the product of two lengths and the scale. Queries and keys are normalised head by head before they
# are turned (*qk-norm*), so that directions and learnt gains decide, not how long a row happens to be. Gemma 2 squeezed
# its scores by a tanh instead. What do lengths allow in the 270M, without and with norms, and what is the largest made?

# %%
loaded = ref.load("270m")
tokenizer, scale = loaded.tokenizer(), loaded.params.config.query_scale
ids = tokenizer.encode("The capital of France is Paris. The capital of Italy is Rome. The capital of Japan is")
recorder = Recorder("*.attn.*")
ref.forward(loaded.params, [ids], How(taps=recorder, logits="none"))
tap = {}
for name in ("q", "k", "v", "q_norm", "k_norm", "scores", "probs"):
    tap[name] = np.stack([recorder.values[f"text.layer.{i}.attn.{name}"][0] for i in range(18)])
most = {name: np.linalg.norm(tap[name], axis=-1).max((1, 2)) for name in ("q", "k", "q_norm", "k_norm")}
raw, normed = scale * most["q"] * most["k"], scale * most["q_norm"] * most["k_norm"]
plot_depth({"without norms": raw, "with norms": normed, "made": abs(tap["scores"]).max((1, 2, 3))}, "largest score", 6)

# %% [markdown]
# ## What a real layer looks at
#
# Layer 5 is global. A row is a query. In the last row, where an answer has to be found, heads 1 and 3 look at the ones
# that the text gave before:

# %%
probs, pieces = tap["probs"][5], tokenizer.pieces(ids)
for head in (1, 3):
    last = probs[head, -1]
    print(f"head {head}:", ", ".join(f"{pieces[s]} {last[s]:.0%}" for s in np.argsort(-last)[:3]))
plot_attention(probs, pieces, "layer 5 of Gemma 3 270M")

# %% [markdown]
# ## The sink
#
# The bright column at the left is `<bos>`. Shares must sum to 1, so a head that finds nothing has to put its share
# somewhere, and has learnt to put it there (an *attention sink*, Xiao et al. 2023). That adds less than the share says,
# since its value is short. Take it away, and the prompt itself surprises the model more: it gives its tokens a smaller p.

# %%
length = np.linalg.norm(tap["v"][:, :, 0], axis=-1)  # layer, token
print(f"its value is {(length[:, 0] / length[:, 1:].mean(-1)).mean():.0%} as long as the others', on average")
for kind, prompt in {"with <bos>": ids[:6], "without": ids[1:6]}.items():
    logits = ref.forward(loaded.params, [prompt])[0][0].astype(np.float64)
    logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    told, following = -logp[[-4, -3, -2], prompt[-3:]].mean(), tokenizer.decode([int(logp[-1].argmax())])
    print(f"{kind:<10} mean -log p of 'of France is' {told:.1f}, likeliest next {following!r}")
plot_depth({"share of <bos>": tap["probs"][:, :, 1:, 0].mean((1, 2))}, "share", every=6, log=False)

# %% [markdown]
# ## Broken on purpose
#
# A port derives the scale from head_dim. On the 270M that is no mistake, as the table shows. `tiny`, a toy with random
# weights, has a scale that nothing can derive, so there it shows:

# %%
tiny = ref.load("tiny")
print(f"head_dim {tiny.params.config.head_dim}, scale {tiny.params.config.query_scale:.4f}")
port = break_port(f"{tempfile.mkdtemp()}/port", tiny, [20 + i for i in range(12)], "scale_of_head_dim")
print(verdict(port.path, tiny))

# %% [markdown]
# ## Exercise
#
# It works on the 270M, where K is 1. Mend it for K of 2 and more.


# %%
def my_attention(q, k, v, visible, scale):
    """Attend: q [T, N, H], k and v [S, K, H], visible [T, S] of 0 and 1."""
    k, v = (np.tile(x, (1, q.shape[1] // x.shape[1], 1)) for x in (k, v))
    weights = visible * np.exp(scale * np.einsum("tnh,snh->nts", q, k))
    return np.einsum("nts,snh->tnh", weights / weights.sum(-1, keepdims=True), v)


exercise(check_op, my_attention, "gqa_attention")

# %% [markdown]
# | paper | function | test |
# |---|---|---|
# | Vaswani et al. 2017; Ainslie et al. 2023 (GQA) | `ref.ops.attention.scores` | `tests/ops/test_attention.py` |
# | Gemma 3 report, section 2 (qk-norm) | `ref.model.block.attention` | `tests/model/test_model.py` |
#
# **Next:** 05, the other half of a layer.
