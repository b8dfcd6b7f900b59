# %% [markdown]
# # 02 RoPE: where a token stands
#
# - **You will see** queries and keys turned by their position, so that a score depends on the distance only.
# - **You need** 01.
# - **Shown from** `ref/ops/rope.py`.

# %%
# %matplotlib inline
import tempfile
from pathlib import Path

import numpy as np

import ref
from ref.model.taps import Recorder
from ref.model.text import How
from ref.ops.rope import rope_table, rotate
from ref.ops.rounding import bfloat16_values
from ref.show.plots import plot_lines, plot_rope
from ref.show.words import source, verdict
from ref.testing import break_port, check_op, exercise

# %% [markdown]
# ## The definition
#
# Attention compares a *query* (what a token looks for) with *keys* (what tokens offer) by a product (04). A product
# knows no order. So each is first turned by an angle that grows with its position; a channel of the first half and
# one of the second half are the two coordinates of a point that turns.

# %%
source(rope_table, doc=False)

# %%
source(rotate)

# %% [markdown]
# ## Small enough to read
#
# Four channels are two points: channels 0 and 2, channels 1 and 3. The *base*, 100 here, makes the second point turn
# ten times slower. Position 0 does not turn. No point's length changes: its square stays 2.

# %%
ones, positions = np.ones((1, 3, 1, 4)), np.arange(3)[None]
turned = rotate(ones, *rope_table(positions, 4, 100, 1, np.float64))[0, :, 0]
for position, y in enumerate(turned):
    print(f"position {position}: {y.round(4)}   lengths squared {(y[:2] ** 2 + y[2:] ** 2).round(4)}")

# %% [markdown]
# ## Two bases
#
# Local layers, which see a window only (03), have the base 10,000. Global layers have 1,000,000: their slow pairs turn
# so little that far tokens still differ. From 4B on, global angles are also divided by a *factor* of 8, for the context
# there is longer. Both belong to the layer's kind; 270M and 1B have no factor.

# %%
for name in ("270m", "1b", "4b", "12b", "27b"):
    c = ref.SIZES[name]
    print(f"{name:<5} (base, factor): local {c.rope(0)}   global {c.rope(5)}   context {c.max_positions:,}")

# %% [markdown]
# Each wheel is a pair of channels, each dot a position from 0 (dark) to 63 (bright). Pair 0 spins the same in both
# kinds, one radian per token, unless the factor slows it. At the right, how many tokens a whole turn takes; the dashed
# line is the 64 tokens that are drawn.

# %%
rope, rope_4b = ref.SIZES["270m"].rope, ref.SIZES["4b"].rope
kinds = {"local": rope(0), "global, 270M": rope(5), "global, 4B": rope_4b(5)}
plot_rope(256, kinds, 64)

# %% [markdown]
# ## Only the distance counts
#
# If a query turns by its position p and a key by its position p - d, the angle between them is that of d. We take what
# layer 0 of Gemma 3 270M made of 600 tokens of a licence, before the rotation, and move all positions by 1,000:

# %%
loaded = ref.load("270m")
config, ids = loaded.params.config, loaded.tokenizer().encode(Path("../LICENSE").read_text())[:600]
recorder = Recorder("text.layer.0.attn.[qk]_norm", "text.layer.0.attn.visible")
ref.forward(loaded.params, [ids], How(taps=recorder, logits="none"))
q, k, visible = (recorder.values[f"text.layer.0.attn.{name}"] for name in ("q_norm", "k_norm", "visible"))
count, scores = np.arange(600), {}
for name, places in {"as it is": count, "moved": count + 1000, "bfloat16": bfloat16_values(count)}.items():
    table = rope_table(places[None], config.head_dim, *config.rope(0), np.float32)
    scores[name] = ref.KERNEL.scores(ref.KERNEL.rotate(q, *table), ref.KERNEL.rotate(k, *table), config.query_scale)
print(f"largest score {scores['as it is'].max():.1f}, change {abs(scores['moved'] - scores['as it is']).max():.0e}")

# %% [markdown]
# A query and a key that are alike, all ones again, score less the further apart they are; with a larger base, or the
# factor, they keep more of their score. So near tokens have an advantage, and in global layers a smaller one:

# %%
distance = np.arange(2048)
alike = {kind: rope_table(distance, 256, *angle, np.float64)[0].mean(-1) for kind, angle in kinds.items()}
plot_lines(distance, alike, "distance, tokens", "share of the score at 0")

# %% [markdown]
# ## Why positions die in bfloat16
#
# A bfloat16 has 8 significant bits: it holds each whole number up to 256, then every second, then every fourth.
# Positions that are rounded so are shared by neighbours. In the 600 tokens above, scored with such positions, how often
# does a head then look most at another token than it should?

# %%
print("250 .. 269 become", *bfloat16_values(np.arange(250, 270)).astype(int))
for tokens in (256, 512, 32_768, 131_072):
    print(f"{tokens:7,} positions become {len(np.unique(bfloat16_values(np.arange(tokens)))):5,}")
right, coarse = (ref.KERNEL.softmax(scores[name], visible)[0].argmax(-1) for name in ("as it is", "bfloat16"))
for start, stop in ((0, 257), (257, 400), (400, 512), (512, 600)):
    print(f"queries {start:3} to {stop - 1}: {(right != coarse)[:, start:stop].mean():5.1%} look elsewhere")

# %% [markdown]
# ## Broken on purpose
#
# A port keeps positions in bfloat16. A prompt of 257 tokens cannot show it, one of 300 does. Here the weights are those
# of `tiny`, a toy with random ones: on the 270M the judge would take long for that many tokens.

# %%
tiny = ref.load("tiny")
prompt = [20 + i % 70 for i in range(300)]
for tokens in (257, 300):
    port = break_port(f"{tempfile.mkdtemp()}/port", tiny, prompt[:tokens], "rope_positions_bfloat16")
    print(f"{tokens} tokens:\n{verdict(port.path, tiny)}\n")

# %% [markdown]
# ## Exercise
#
# It turns points, but of which channels? Mend it until the check says *Right*. Then multiply by the factor instead of
# dividing, and read what the check says of that.


# %%
def my_rope(x, positions, base, factor):
    """Rotate x [T, H]."""
    angles = positions[:, None] / (factor * base ** (np.arange(0, x.shape[-1], 2) / x.shape[-1]))
    even, odd, cos, sin = x[:, 0::2], x[:, 1::2], np.cos(angles), np.sin(angles)
    return np.stack([even * cos - odd * sin, odd * cos + even * sin], axis=-1).reshape(x.shape)


exercise(check_op, my_rope, "rope")

# %% [markdown]
# | paper | function | test |
# |---|---|---|
# | Su et al. 2021 (RoFormer) | `ref.ops.rope.rotate` | `tests/ops/test_rope.py` |
# | Chen et al. 2023; Gemma 3 report, section 2 | `ref.ops.rope.rope_table` | `tests/ops/test_rope.py` |
#
# **Next:** 03, which tokens a token may see at all.
