# %% [markdown]
# # 01 RMSNorm and the +1
#
# - **You will see** one row divided by its length, multiplied by 1 + w, and what happens without the 1.
# - **You need** 00.
# - **Shown from** `ref/ops/norm.py`.

# %%
# %matplotlib inline
import tempfile

import numpy as np

import ref
from ref.model.taps import Recorder
from ref.model.text import How
from ref.ops.norm import rms_norm, rms_norm_jit
from ref.show.plots import plot_depth
from ref.show.words import source, verdict
from ref.testing import break_port, check_op, exercise

# %% [markdown]
# ## The definition

# %%
source(rms_norm)

# %% [markdown]
# ## Small enough to read
#
# The row 3, 4 has a mean square of 12.5; divided by its root, 3.54, it has a mean square of 1, whatever its length was.
# A gain of 0 leaves it so. A gain of 1 *doubles* it: the file stores how far the gain is from 1.

# %%
row = np.array([[3.0, 4.0]])
for gain in ([0.0, 0.0], [1.0, 0.0]):
    print(gain, rms_norm(row, np.array(gain), 1e-6), rms_norm(1000 * row, np.array(gain), 1e-6))

# %% [markdown]
# Its kernel does the same in loops that Numba compiles. Both are tested equal; users run the kernel, readers read the
# definition.

# %%
source(rms_norm_jit)

# %%
np.testing.assert_array_equal(rms_norm(row, np.zeros(2), 1e-6), rms_norm_jit(row, np.zeros(2), 1e-6))

# %% [markdown]
# ## Stepping
#
# With `NUMBA_DISABLE_JIT=1` in the environment the kernel is plain Python: put `breakpoint()` into `_norm_row` of
# `ref/ops/norm.py`, start Python so, and step through the loop. The numbers are the same.

# %% [markdown]
# ## On the real weights
#
# What are the gains of Gemma 3 270M? Before attention they are large: the norm's output is far from unit length.

# %%
loaded = ref.load("270m")
layers = range(loaded.params.config.layers)
gains = {
    field: [float(np.mean(1 + getattr(loaded.params.layers[i], field))) for i in layers]
    for field in ("pre_attn_norm", "post_attn_norm", "pre_ffn_norm", "post_ffn_norm")
}
plot_depth(gains, "mean of 1 + w", every=6)

# %%
ids = loaded.tokenizer().encode("The capital of France is")
recorder = Recorder("text.layer.0.in", "text.layer.0.attn.pre_norm")
ref.forward(loaded.params, [ids], How(taps=recorder))
before, after = recorder.values["text.layer.0.in"], recorder.values["text.layer.0.attn.pre_norm"]
np.testing.assert_array_equal(rms_norm_jit(before, loaded.params.layers[0].pre_attn_norm, 1e-6), after)
print("length of each token's row before", np.linalg.norm(before[0], axis=-1).round())
print("and after                        ", np.linalg.norm(after[0], axis=-1).round())

# %% [markdown]
# ## Broken on purpose
#
# A port multiplies by w, in the norms of one layer. The judge finds the layer and names the mistake; *c* is how much
# of it is there: 1 is this mistake, 0 is none of it.

# %%
port = break_port(f"{tempfile.mkdtemp()}/port", loaded, ids, "norm_without_plus_one", layer=7)
print(verdict(port.path, loaded))

# %% [markdown]
# ## Exercise
#
# A norm as in another model. Mend it. Then put eps outside of the root, and read what the check says of that.


# %%
def my_rms_norm(x, scale, eps):
    """Divide by the standard deviation."""
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt(np.mean(centred**2, axis=-1, keepdims=True) + eps) * (1 + scale)


exercise(check_op, my_rms_norm, "rms_norm")

# %% [markdown]
# | paper | function | test |
# |---|---|---|
# | Zhang & Sennrich 2019; Gemma 3 report, section 2 | `ref.ops.norm.rms_norm` | `tests/ops/test_norm.py` |
#
# **Next:** 02, how a token knows where it stands.
