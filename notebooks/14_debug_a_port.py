# %% [markdown]
# # 14 Debug a port: which operation is wrong?
#
# - **You will see** how to find a mistake that you have not planted: the first bad tap, a hypothesis, a test of it.
# - **You need** 00, 13 (the noise floor).
# - **Shown from** `ref/judge/compare.py`, `ref/emulate/graph.py`, `ref/diagnosis/evidence.py`.

# %%
# %matplotlib inline
import tempfile

import numpy as np

import ref
from ref import compare
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
from ref.report.words import verdict_line
from ref.show.plots import plot_floors
from ref.show.words import source, verdict
from ref.testing import break_port_blindly, check_like, exercise

# %% [markdown]
# ## A port with a mistake that nobody tells you
#
# A seed chooses the mistake and the layer. The port runs the real 270M in float32 and writes down every named value
# (*tap*) of a pass. What it would say next does not look wrong:

# %%
loaded, folder = ref.load("270m"), tempfile.mkdtemp()
tokenizer = loaded.tokenizer()
ids = tokenizer.encode("The capital of France is")
port = break_port_blindly(f"{folder}/port", loaded, ids, seed=5)
dump = open_dump(port.path).passes[0].tensors
for who, logits in (("port", dump["text.logits"].load()), ("reference", ref.forward(loaded.params, [ids])[0])):
    best = np.argsort(-logits[0, -1])[:5]
    print(f"{who:<10}", "  ".join(f"{tokenizer.decode([int(i)])!r} {logits[0, -1, i]:.2f}" for i in best))

# %% [markdown]
# ## Two errors of each tap
#
# *Inherited*: how far the value is from that of a run from the prompt in float64. *Local*: how far it is from the same
# operation, run on the port's *own* inputs. For that the judge takes what the dump holds of an operation's inputs:

# %%
source(Run.recompute)

# %% [markdown]
# Both in multiples of the noise floor (13). Up to the dashed line, 2 floors, a tap matches.

# %%
report = compare(port.path, loaded=loaded)
plot_floors(rows := report["taps"], LIMIT)

# %% [markdown]
# The inherited error spreads: from one tap on, every value is made of wrong ones. The local error does not: one dot is
# high up, and every other operation does its own work well. Which tap is it?

# %%
bad = [number for number, row in enumerate(rows) if row["local_ratio"] > LIMIT]
for row in rows[bad[0] - 3 : bad[0] + 4]:
    print(f"{row['tap']:<28} local {row['local_ratio']:<10.3g} inherited {row['inherited_ratio']:<10.3g}", end="")
    print(tap_row(row["tap"]).op, "of", *tap_row(row["tap"]).inputs)
print(f"\ntaps with a local error above {LIMIT:g} floors: {len(bad)} of {len(rows)}")

# %% [markdown]
# ## A hypothesis
#
# The tap is `gelu(gate) * up`. Its inputs match, so the operation is wrong. Divided by `up`, the tap shows what the port
# made of the gate. Beside it is the tanh GELU that Gemma wants.

# %%
prefix = f"text.layer.{rows[bad[0]]['layer']}.ffn."
gate, up, act = (dump[prefix + name].load() for name in ("gate", "up", "act"))
right = KERNEL.geglu(gate, up)
for want in (-4, -2, -1, -0.5, 0.5, 1, 2):
    at = np.unravel_index(np.abs(gate - want).argmin(), gate.shape)
    print(f"gate {gate[at]:6.3f}   port {act[at] / up[at]:7.4f}   GELU {right[at] / up[at]:7.4f}", end="   ")
    print(f"port / gate {act[at] / up[at] / gate[at]:.4f}")

# %% [markdown]
# The port's last column is between 0 and 1, and the numbers at -1 and 1 add up to 1: a sigmoid of the gate. GELU
# multiplies the gate by such a step, too, but a steeper one. Activations of this kind, tested on all values of the tap:

# %%
for name, answer in (("ReLU", gate * (gate > 0) * up), ("GELU", right), ("SiLU", gate / (1 + np.exp(-gate)) * up)):
    print(f"{name}: relative distance to the port {relative_l2(answer, act):.1e}")

# %% [markdown]
# One of them is the port's, to the last digits of float32. Only now ask the judge, and see what was planted:

# %%
print(verdict_line(report).replace("; ", ";\n"), f"\n\nplanted: {port.mistake} in layer {port.layer}")

# %% [markdown]
# ## A mistake smaller than the noise
#
# Two dumps of transformers in bfloat16 lie in `golden/dumps`; one has the exact GELU (erf) in layer 5. Its error is
# 1.11 floors, where 2 are allowed. But noise points anywhere, and this mistake in one direction. Project the error on
# that (`project`, below the numbers): *c* is 1 for the mistake, 0 without it. Rounding has a part in that direction,
# too; six valid runs on the same inputs tell how large.

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
source(project, doc=False)

# %% [markdown]
# ## Exercise
#
# Three blind ports of `tiny`. Write what finds every tap whose own operation is wrong, and none that only follows. This
# answer takes the tap that is most off. When it is Right, test a hypothesis for each port, then see `ports[1].mistake`.

# %%
tiny = ref.load("tiny")
ports = {seed: break_port_blindly(f"{folder}/{seed}", tiny, list(range(3, 27)), seed) for seed in (1, 4, 19)}
reports = {seed: compare(port.path, loaded=tiny) for seed, port in ports.items()}


def all_bad(rows):
    """List the names of the taps whose own operation is wrong."""
    return [max(rows, key=lambda row: row["inherited_ratio"])["tap"]]


bugs = {n: [row["tap"] for row in report["taps"] if row["verdict"] == "bug"] for n, report in reports.items()}
exercise(check_like, lambda n: all_bad(reports[n]["taps"]), bugs.get, [(n,) for n in ports])

# %% [markdown]
# | paper | function | test |
# |---|---|---|
# | own: local and inherited | `ref.judge.compare.compare`, `ref.emulate.graph.Run` | `tests/judge/test_compare.py` |
# | matched filter | `ref.diagnosis.evidence.project`, `ref.diagnosis.below_floor.BelowFloor` | `tests/judge/test_compare.py` |
#
# **Next:** 15, weights in few bits.
