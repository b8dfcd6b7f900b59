# %% [markdown]
# # 05 Feed-forward: GeGLU between its norms
#
# - **You will see** a gate open and close channels, two forms of one curve, and norms that decide how much a half adds.
# - **You need** 01 and 04.
# - **Shown from** `ref/ops/gelu.py`, `ref/model/block.py`.

# %%
# %matplotlib inline
import tempfile

import numpy as np

import ref
from ref.model.block import block, feed_forward
from ref.model.taps import Recorder
from ref.model.text import How
from ref.mutants.ffn import gelu_erf
from ref.ops.gelu import geglu, gelu_tanh
from ref.ops.norm import rms_norm
from ref.ops.rounding import bfloat16_values
from ref.show.plots import plot_depth, plot_lines
from ref.show.words import source, verdict
from ref.testing import break_port, check_op, exercise

# %% [markdown]
# ## The definition
#
# Attention moved something between tokens; this half works on each token alone. Two projections make F channels each,
# *gate* and *up*. The gate goes through a curve, GELU, and multiplies up. A third projection leads back to width D.
# (The `if` is for long texts: it sends some tokens through at a time.)

# %%
source(feed_forward, doc=False)

# %%
source(gelu_tanh, doc=False)

# %%
source(geglu, doc=False)

# %% [markdown]
# ## Small enough to read
#
# A gate well below 0 closes its channel, whatever up says. One well above 0 opens it, by as much as it is above. GELU
# is smooth between them, and unlike ReLU, which is 0 below 0, it lets a little of the negative side through.

# %%
gate, up = np.array([-4.0, -1, 0, 1, 4]), np.full(5, 10.0)
for row in zip(gate, gelu_tanh(gate), up, geglu(gate, up), strict=True):
    print("gate {:4.0f}   gelu(gate) {:6.3f}   up {:3.0f}   product {:7.3f}".format(*row))

# %% [markdown]
# ## Two forms of one curve
#
# The *exact* GELU is x times the normal distribution's cumulative probability, by the function erf. Gemma 3 has a
# formula by tanh that comes close. How close? And rounded to bfloat16 (02), how often are they two numbers at all?
# Below 0 often, but there both are next to nothing.

# %%
x = np.linspace(-5, 5, 10_001)
apart = gelu_tanh(x) - gelu_erf(x)
print(f"at most {abs(apart).max():.2e} apart, at {x[abs(apart).argmax()]:.2f}")
differ = bfloat16_values(gelu_tanh(x)) != bfloat16_values(gelu_erf(x))
print(f"rounded to bfloat16 they differ in {differ[x > 0].mean():.1%} above 0, in {differ[x < 0].mean():.1%} below")
plot_lines(x, {"gelu_tanh": gelu_tanh(x), "1000 (gelu_tanh - exact)": 1000 * apart}, "gate", "gelu(gate)")

# %% [markdown]
# ## On the real weights
#
# In Gemma 3 270M, F is 2,048. How many gates are below 0, and how much of the squared length of gelu(gate) * up is in
# its 20 largest channels? Few channels do most of the work.

# %%
loaded = ref.load("270m")
ids = loaded.tokenizer().encode("The capital of France is")
recorder = Recorder("*.mid", "*.ffn.*")
ref.forward(loaded.params, [ids], How(taps=recorder, logits="none"))
for i in (0, 5, 11, 17):
    gate, act = (recorder.values[f"text.layer.{i}.ffn.{name}"][0] for name in ("gate", "act"))
    energy = np.sort(act**2, axis=-1)
    share = (energy[:, -20:].sum(-1) / energy.sum(-1)).mean()
    print(f"layer {i:2}: gates below 0 {(gate < 0).mean():.0%}   in the 20 largest channels {share:.0%}")

# %% [markdown]
# ## Four norms
#
# Each half has a norm before it and one after it, before it is added:

# %%
source(block, doc=False)

# %% [markdown]
# The first makes the half blind to how long the stream has grown. The second decides how much is added: whatever the
# length of what the half made, the norm's learnt gains set it. Ten times as much makes no difference:

# %%
made, gain = recorder.values["text.layer.9.ffn.out"], loaded.params.layers[9].post_ffn_norm
once, tenfold = rms_norm(made, gain, 1e-6), rms_norm(10 * made, gain, 1e-6)
print(f"length {np.linalg.norm(once[0, -1]):.1f}, of ten times as much {np.linalg.norm(tenfold[0, -1]):.1f}")
lines = {"stream": "mid", "normed": "ffn.pre_norm", "made": "ffn.out", "normed again, and added": "ffn.post_norm"}
for label, name in lines.items():
    lines[label] = [np.linalg.norm(recorder.values[f"text.layer.{i}.{name}"][0, -1]) for i in range(18)]
plot_depth(lines, "length of the last token's row", every=6)

# %% [markdown]
# ## Broken on purpose
#
# A port has the exact GELU, which is torch's default, in one layer of 18. The judge finds the layer. In *c*, 1 is this
# mistake, whole, and 0 is none of it.

# %%
port = break_port(f"{tempfile.mkdtemp()}/port", loaded, ids, "gelu_erf", layer=9)
print(verdict(port.path, loaded))

# %% [markdown]
# ## Exercise
#
# This is the gate of Llama (SwiGLU). Mend it. Then take `gelu_erf`, and see in which digit the check finds it.


# %%
def my_geglu(gate, up):
    """Gate up by the SiLU of gate."""
    return gate / (1 + np.exp(-gate)) * up


exercise(check_op, my_geglu, "geglu")

# %% [markdown]
# | paper | function | test |
# |---|---|---|
# | Hendrycks & Gimpel 2016 | `ref.ops.gelu.gelu_tanh` | `tests/ops/test_gelu.py` |
# | Shazeer 2020 | `ref.ops.gelu.geglu` | `tests/ops/test_gelu.py` |
# | Gemma 3 report, section 2 (pre- and post-norm) | `ref.model.block.block` | `tests/model/test_model.py` |
#
# **Next:** 06, the layers on top of each other.
