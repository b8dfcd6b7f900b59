# %% [markdown]
# # 09 Sampling: from logits to one token
#
# - **You will see** logits made into probabilities, the unlikely ones cut off, and a token drawn by a number.
# - **You need** 00, and 08 for what a token is.
# - **Shown from** `ref/ops/sampling.py`, `ref/model/generate.py`.

# %%
# %matplotlib inline
import numpy as np

import ref
from ref.model.generate import Sampling, generate
from ref.ops.sampling import draw, filtered_probs
from ref.show.plots import plot_choices
from ref.show.words import source
from ref.testing import check_op, exercise

np.set_printoptions(precision=3, suppress=True)

# %% [markdown]
# ## The definition

# %%
source(filtered_probs)

# %%
source(draw)

# %% [markdown]
# ## Small enough to read
#
# Five tokens. A *temperature* divides the logits: a low one favours the likeliest, a high one makes all alike. *Top-k*
# keeps the k likeliest. *Top-p* keeps the fewest that together reach p. What is left is made to sum to 1 again.

# %%
small = np.array([5.0, 4.0, 3.0, 2.0, 1.0])
for settings in ({}, {"temperature": 0.5}, {"temperature": 2.0}, {"top_k": 2}, {"top_p": 0.8}):
    print(f"{settings or 'as it is'!s:<22}", filtered_probs(small, **settings))

# %% [markdown]
# A uniform number in 0 .. 1 points at a token: walk along the probabilities, in the order of ids, until it is passed.

# %%
probs = filtered_probs(small, top_k=3)
print("passed at", np.cumsum(probs))
for uniform in (0.1, 0.7, 0.95):
    print(f"{uniform} draws token {draw(probs, uniform)}")

# %% [markdown]
# ## On the real weights
#
# What comes after *Once upon a time, there was a*? The temperature first:

# %%
loaded = ref.load("270m")
tokenizer = loaded.tokenizer()
ids = tokenizer.encode("Once upon a time, there was a")
logits = ref.forward(loaded.params, [ids])[0][0, -1]
likely = np.argsort(-logits)[:12]
by_temperature = {f"temperature {t}": filtered_probs(logits, t)[likely] for t in (0.5, 1.0, 2.0)}
plot_choices(by_temperature, tokenizer.pieces(likely))

# %% [markdown]
# How many of the 262,144 tokens can be drawn? Top-k keeps the same number everywhere, top-p few where the model is
# sure. The released settings are both, k first: temperature 1, k 64, p 0.95.

# %%
ways = ((0, 0.95), (64, 1.0), (64, 0.95))
print(f"{'tokens left by':<31}p 0.95   k 64   both   the likeliest has")
for text in ("Roses are red, violets are", "Two plus two is", "Once upon a time, there was a"):
    here = ref.forward(loaded.params, [tokenizer.encode(text)])[0][0, -1]
    counts = [np.count_nonzero(filtered_probs(here, 1.0, k, p)) for k, p in ways]
    print(f"{text:<30}", "".join(f"{count:6} " for count in counts), f"  {filtered_probs(here).max():.0%}")

# %% [markdown]
# Why cut at all? Each unlikely token is rare, but there are a quarter of a million. This much is theirs:

# %%
for temperature in (1.0, 2.0):
    beyond = np.sort(filtered_probs(logits, temperature))[:-64].sum()
    print(f"temperature {temperature}: {beyond:.0%} lies outside of the 64 likeliest")

# %% [markdown]
# *Greedy* takes the likeliest token every time and needs no number. Otherwise numbers come from a generator that starts
# at a *seed*: the same seed, the same text.

# %%
ways = {"greedy": Sampling(greedy=True), "seed 0": Sampling(seed=0), "seed 1": Sampling(seed=1)}
ways |= {"seed 0 again": Sampling(seed=0), "no cut, temperature 2": Sampling(False, 2.0, 0, 1.0, seed=3)}
for name, sampling in ways.items():
    new = [step[0] for step in generate(loaded.params, [ids], 10, sampling)]
    print(f"{name:<23}{tokenizer.decode(new)!r}")

# %% [markdown]
# ## Broken on purpose
#
# A port cuts by p before k, as gemma_pytorch does. The judge of one operation is its golden vectors, numbers that other
# implementations made. They know this mistake:


# %%
def top_p_first(logits, temperature, top_k, top_p):
    """Cut by p among all tokens, then by k."""
    kept = filtered_probs(logits, temperature, 0, top_p)
    return filtered_probs(np.log(kept), 1.0, top_k)


exercise(check_op, top_p_first, "sampling")

# %% [markdown]
# ## Exercise
#
# Another port's filter. It answers some vectors as two known mistakes do. Which of them is it? Mend it.


# %%
def my_probs(logits, temperature, top_k, top_p):
    """Temperature, then k, then p."""
    probs = np.exp((logits - logits.max()) / temperature)
    if 0 < top_k < len(probs):
        probs[probs < np.sort(probs)[-top_k]] = 0
    probs /= probs.sum()
    order = np.argsort(-probs, kind="stable")
    probs[order[np.cumsum(probs[order]) > top_p]] = 0
    return probs / probs.sum()


exercise(check_op, my_probs, "sampling")

# %% [markdown]
# | paper | function | test |
# |---|---|---|
# | Fan et al. 2018, top-k; Holtzman et al. 2020, top-p | `ref.ops.sampling.filtered_probs` | `tests/ops/test_sampling.py` |
# | inverse transform sampling | `ref.ops.sampling.draw` | `tests/ops/test_sampling.py` |
# | released `generation_config.json` | `ref.model.generate.generate` | `tests/model/test_generate.py` |
#
# **Next:** 10, how a photo becomes the squares that the model looks at.
