# %% [markdown]
# # 14 Debug a port: which operations are wrong?
#
# - **You will see** how to find two mistakes that you have not planted, one of them hidden behind the other.
# - **You need** 00, 02 (rotation), 13 (the noise floor).
# - **Shown from** `ref/judge/compare.py`, `ref/emulate/graph.py`, `ref/diagnosis/evidence.py`.

# %%
# %matplotlib inline
import tempfile

import numpy as np

import ref
from ref.diagnosis.evidence import project
from ref.dump.open import open_dump
from ref.emulate.arithmetic import emulate
from ref.emulate.graph import Run
from ref.emulate.policy import members_of
from ref.golden_files.files import golden_root
from ref.golden_files.sampled import LIMIT, relative_l2
from ref.model.taps import tap_row
from ref.mutants.ffn import gelu_erf
from ref.ops import KERNEL
from ref.show.plots import plot_floors
from ref.show.words import source, verdict
from ref.testing import break_port_blindly, check_like, exercise

# %% [markdown]
# ## A port with two mistakes that nobody tells you
#
# A seed chooses them. The port runs the real 270M in float32 and writes down every named value (*tap*) of a pass. What it
# would say next (first line; the reference's below) does not look wrong:

# %%
loaded, folder = ref.load("270m"), tempfile.mkdtemp()
ids = (tokenizer := loaded.tokenizer()).encode("The capital of France is")
port = break_port_blindly(f"{folder}/port", loaded, ids, seed=5, mistakes=2)
dump = open_dump(port.path).passes[0].tensors
for logits in (dump["text.logits"].load()[0, -1], ref.forward(loaded.params, [ids])[0][0, -1]):
    print("  ".join(f"{tokenizer.decode([int(i)])!r} {logits[i]:.2f}" for i in np.argsort(-logits)[:5]))

# %% [markdown]
# ## Two errors of each tap
#
# *Inherited*: how far the value is from that of a run from the prompt in float64. *Local*: how far it is from the same
# operation, run on the port's *own* inputs, which the judge takes from the dump (below). Both are in multiples of the
# noise floor (13). Up to the dashed line, 2 floors, a tap matches.

# %%
source(Run.recompute)

# %%
report = ref.compare(port.path, loaded=loaded)
plot_floors(rows := report["taps"], LIMIT)

# %% [markdown]
# The inherited error first: from one tap on every value is made of wrong ones. It rises and falls on the way; is that a
# second mistake, or the first one growing? The local error tells: it is high at few dots. Which operations are they?

# %%
bad = [number for number, row in enumerate(rows) if row["local_ratio"] > LIMIT]
for row in (rows[near] for near in sorted({number + by for number in bad for by in (-1, 0, 1)})):
    print(f"{row['tap']:<28} local {row['local_ratio']:<10.3g} inherited {row['inherited_ratio']:<10.3g}", end="")
    print(tap_row(row["tap"]).op, "of", *tap_row(row["tap"]).inputs)
print(f"\ntaps above {LIMIT:g} floors: local {len(bad)}, inherited {sum(r['inherited_ratio'] > LIMIT for r in rows)}")

# %% [markdown]
# ## The first mistake: a hypothesis
#
# The inherited error starts at the first of them, `gelu(gate) * up`, whose inputs match. Divided by `up` it shows what
# the port made of the gate. Beside it is the tanh GELU that Gemma wants.

# %%
gate, up, act = (dump[f"text.layer.4.ffn.{name}"].load() for name in ("gate", "up", "act"))
right = KERNEL.geglu(gate, up)
for at in (np.unravel_index(np.abs(gate - want).argmin(), gate.shape) for want in (-2, -1, 1, 2)):
    made, gelu = act[at] / up[at], right[at] / up[at]
    print(f"gate {gate[at]:6.3f}   port {made:7.4f}   GELU {gelu:7.4f}   port / gate {made / gate[at]:.4f}")
away = relative_l2(gate / (1 + np.exp(-gate)) * up, act), relative_l2(right, act)
print("relative distance of the port to SiLU {:.1e}, to GELU {:.1e}".format(*away))

# %% [markdown]
# The last column is between 0 and 1, and the numbers at -1 and 1 add up to 1: a sigmoid of the gate, so SiLU.
#
# ## The second, which the first hides
#
# The other bad taps come from behind the first mistake, and their inputs are wrong, too. The local error takes them as
# they are. A rotation turns the channels (j, j + H/2) by position / base^(2j/H) (02): how far did the port?

# %%
heads = (dump[f"text.layer.9.attn.q_{name}"].load()[0, :, 0] for name in ("norm", "rope"))  # the first: [T, H]
before, after = (x[:, :128] + 1j * x[:, 128:] for x in heads)
for j in (60, 80, 100):
    turned, right = np.angle(after[1:4, j] / before[1:4, j]), 10_000 ** (-j / 128)
    print(f"pair {j:3}: positions 1, 2, 3 turned by {np.round(turned, 5)}, {turned[0] / right:.5f} times {right:.5f}")

# %% [markdown]
# The same number in every pair: no other base, but positions times that number. Only now ask the judge. It lists causes,
# what moves the logits most first, plants them all in the truth and runs it once more: does something else remain?

# %%
for cause in report["causes"]:
    print(f"{cause['mutant']} in layers {cause['layers']}, moves the logits by {cause['moves']:.1%}: {cause['what']}")
print(f"proof: {report['proof']['says']}\n\nplanted:", port.planted)

# %% [markdown]
# ## A mistake smaller than the noise
#
# Two dumps of transformers in bfloat16; one has the exact GELU (erf) in layer 5. But noise points anywhere, this mistake
# in one direction. Projected on that, the error is *c*: 1 for it, 0 without. Six valid runs tell rounding's part.

# %%
for name in ("270m-bfloat16", "270m-bfloat16-bug"):
    dump = open_dump(golden_root() / "dumps" / name).passes[0].tensors
    gate, up, act = (dump[f"text.layer.5.ffn.{part}"].load() for part in ("gate", "up", "act"))
    valid = [emulate(policy, order).geglu(gate, up) for policy, order in members_of("transformers-bfloat16")]
    gate, up = gate.astype(np.float64), up.astype(np.float64)
    right, wrong = KERNEL.geglu(gate, up), gelu_erf(gate) * up
    c, *noise = (project(value, right, wrong)[0] for value in (act, *valid))
    print(f"{name}: c {c:.2f}, less that of valid runs {np.mean(noise):.2f}, is {c - np.mean(noise):.2f}")
    print(verdict(golden_root() / "dumps" / name, loaded), "\n")

# %% [markdown]
# ## Exercise
#
# Three blind ports of `tiny`, two mistakes each. Write what finds every tap whose own operation is wrong, and none that
# only follows. This answer takes the first that is off. When it is Right, test a hypothesis; then `ports[1].planted`.

# %%
tiny, prompt = ref.load("tiny"), list(range(3, 27))
ports = {seed: break_port_blindly(f"{folder}/{seed}", tiny, prompt, seed, 2) for seed in (1, 2, 4)}
reports = {seed: ref.compare(port.path, loaded=tiny) for seed, port in ports.items()}


def all_bad(rows):  # names of the taps whose own operation is wrong
    return [row["tap"] for row in rows if row["inherited_ratio"] > LIMIT][:1]


bugs = {n: [row["tap"] for row in report["taps"] if row["verdict"] == "bug"] for n, report in reports.items()}
exercise(check_like, lambda n: all_bad(reports[n]["taps"]), bugs.get, [(n,) for n in ports])

# %% [markdown]
# | paper | function | test |
# |---|---|---|
# | own: local, inherited, proof | `ref.emulate.graph.Run`, `ref.diagnosis.proof.prove` | `tests/testing/test_exercises.py` |
# | matched filter | `ref.diagnosis.evidence.project`, `ref.diagnosis.below_floor.BelowFloor` | `tests/judge/test_compare.py` |
#
# **Next:** 15, weights in few bits.
