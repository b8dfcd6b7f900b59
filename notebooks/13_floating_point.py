# %% [markdown]
# # 13 Floating point: how far apart may correct ports be?
#
# - **You will see** what bfloat16 keeps, why the order of a sum matters, why two correct ports write different texts.
# - **You need** 00, 01.
# - **Shown from** `ref/ops/rounding.py`, `ref/emulate/arithmetic.py`, `ref/measure/floor.py`.

# %%
# %matplotlib inline
import tempfile

import ml_dtypes
import numpy as np

import ref
from ref import compare
from ref.dump.open import open_dump
from ref.emulate.arithmetic import TRUTH, emulate
from ref.emulate.policy import members_of
from ref.golden_files.sampled import relative_l2
from ref.model.generate import Sampling
from ref.ops.rounding import bfloat16_values, round_bfloat16
from ref.show.plots import plot_depth
from ref.show.words import source, verdict
from ref.testing import break_port, check_like, exercise

# %% [markdown]
# ## What a format keeps
#
# A float is a sign, a power of two, and bits that say where between this power and the next. The distance to the next
# float is one *ULP*, a unit in the last place. It doubles at each power of two.

# %%
print(f"{'format':<9}{'largest':>10}{'ULP at 1':>10}{'at 20':>10}{'at 300':>10}")
for name in ("float16", "bfloat16", "float32", "float64"):
    most, step = float(ml_dtypes.finfo(name).max), float(ml_dtypes.finfo(name).eps)
    print(f"{name:<9}{most:>10.1e}{step:>10.1e}{16 * step:>10.1e}{256 * step:>10.1e}")

# %% [markdown]
# bfloat16 is float32 without its lower 16 bits: the same range, far fewer digits. After 300 comes 302. What lies
# between goes to the nearest; a tie goes to the neighbour whose last bit is 0, so that ties do not all go one way.

# %%
for x in (300.9, 301.0, 303.0, 303.1):
    print(f"{x} becomes {bfloat16_values(np.float32(x)):.0f}, bits {int(round_bfloat16(np.float32(x))):016b}")
source(round_bfloat16)

# %% [markdown]
# float16 has finer steps, but ends at 65,504. Does the residual stream of the real 270M? A *correct* port in bfloat16
# (its mistake is None) writes every value of a pass:

# %%
loaded = ref.load("270m")
tokenizer = loaded.tokenizer()
ids = tokenizer.encode("The boat was old. He rowed for an hour, then stopped to look at the sky, and thought of home.")
port = break_port(f"{tempfile.mkdtemp()}/port", loaded, ids, None, dtype="bfloat16")
dump = open_dump(port.path).passes[0].tensors
largest = [float(np.abs(dump[f"text.layer.{i}.out"].load()).max()) for i in range(18)]
plot_depth({"largest value of the stream": largest, "largest float16": [65_504] * 18}, "size")

# %% [markdown]
# ## The order of a sum
#
# Each addition rounds, so the order decides what is lost. First three numbers in float32. Then a product of the 270M
# (queries of layer 0, sums of 640 terms) in six *valid* runs: orders of summation, and places of rounding, that real
# implementations have. The truth is the same in float64.

# %%
one, big = np.float32([1, 1e8])
print("(1e8 + 1) - 1e8 =", (big + one) - big, "    (1e8 - 1e8) + 1 =", (big - big) + one, "\n")
x, weight = dump["text.layer.0.attn.pre_norm"].load(), loaded.params.layers[0].q
truth = TRUTH.linear(x.astype(np.float64), weight)
for kind in ("float32", "bfloat16"):
    runs = [emulate(policy, order).linear(x, weight) for policy, order in members_of(kind)]
    errors, same = [relative_l2(run, truth) for run in runs], np.mean(np.array(runs[1:]) == runs[0])
    print(f"{kind:<9} errors {min(errors):.2e} to {max(errors):.2e}; {same:7.2%} of values are those of the first run")

# %% [markdown]
# Many float32 values differ in their last bits, yet all runs are right. In bfloat16 the last rounding hides the order.
#
# ## The noise floor
#
# So the judge has no fixed tolerance. It makes six such runs of the whole model; their largest distance from the truth
# is the *floor*. *Local* is the error of one operation on the port's own inputs, *inherited* what has gathered since
# the prompt. This is the correct port:

# %%
report = compare(port.path, loaded=loaded)
rows = {row["tap"]: row for row in report["taps"]}
print("verdict:", report["verdict"])
for tap in ("text.layer.0.ffn.act", "text.layer.9.ffn.act", "text.logits"):
    print(f"{tap:<21} in floors: local {rows[tap]['local_ratio']:.2f}, inherited {rows[tap]['inherited_ratio']:.2f}")
lines = {kind: [rows[f"text.layer.{i}.ffn.act"][kind] for i in range(18)] for kind in ("local", "inherited", "floor")}
plot_depth(lines, "relative error of ffn.act")

# %% [markdown]
# ## Why correct ports write different texts
#
# A greedy text takes the largest logit. Where the *gap* of the two largest is less than the error, either may win. The
# other port is the reference in float32, on the same weights in bfloat16; *moved* is how far apart the two gaps are.

# %%
wide = ref.forward(ref.load("270m", "bfloat16").params, [ids])[0][0]
narrow = dump["text.logits"].load()[0]
best = np.argsort(-wide, axis=-1)[:, :2]
gap, other = (np.take_along_axis(logits, best, -1) @ np.array([1, -1]) for logits in (wide, narrow))
moved, flips = np.abs(other - gap), np.flatnonzero(wide.argmax(-1) != narrow.argmax(-1))
print(f"{len(ids)} tokens: median gap {np.median(gap):.2f}, median moved {np.median(moved):.3f}", end="; ")
print(f"in bfloat16 exact ties: {(other == 0).sum()}, other likeliest tokens: {len(flips)}\n")
for t in np.argsort(gap)[:4]:
    first, second, ours = (tokenizer.decode([int(token)]) for token in (*best[t], narrow[t].argmax()))
    print(f"gap {gap[t]:.4f}, moved {moved[t]:.4f}: float32 {first!r}, then {second!r}; bfloat16 {ours!r}")

# %% [markdown]
# From one such token on, each goes its own way. Neither is wrong, so equal texts are no test of a port.

# %%
t = int(flips[-1]) if len(flips) else int(np.argmin(gap))
prompts = [[*ids[: t + 1], int(token)] for token in best[t]]
steps = ref.generate(loaded.params, prompts, 9, Sampling(greedy=True), stop=())
for prompt, *new in zip(prompts, *steps, strict=True):
    print(tokenizer.decode(ids[t - 3 : t + 1]), repr(tokenizer.decode([prompt[-1], *new])))

# %% [markdown]
# ## Broken on purpose
#
# A float32 port of `tiny` forms one norm's gain in bfloat16. Float32 need not cost that much, so the judge sees it:

# %%
tiny = ref.load("tiny")
port = break_port(f"{tempfile.mkdtemp()}/port", tiny, list(range(3, 27)), "norm_gain_bfloat16", layer=2)
print(verdict(port.path, tiny))

# %% [markdown]
# ## Exercise
#
# Round to bfloat16 and return the bits. The answer below cuts them off. Add half an ULP first; then mind the ties.

# %%
cases = [(np.array(values, np.float32),) for values in ([1, -2], [300.9, 303.1], [301, 303, 305, -301])]
exercise(check_like, lambda x: (x.view(np.uint32) >> 16).astype(np.uint16), round_bfloat16, cases)

# %% [markdown]
# | paper | function | test |
# |---|---|---|
# | IEEE 754; Goldberg 1991 | `ref.ops.rounding.round_bfloat16` | `tests/ops/test_rounding.py` |
# | own: six valid runs | `ref.measure.floor.floor_of`, `ref.emulate.arithmetic.emulate` | `tests/judge/test_compare.py` |
#
# **Next:** 14, a mistake that you have not planted.
