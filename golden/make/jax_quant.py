"""Run in an environment with jax and google-deepmind/gemma; writes golden/make/jax_quant.json, which vectors.py reads.

python golden/make/jax_quant.py

Weights, and what google-deepmind/gemma makes of them: codes and scales of int4, the values that int4 and SFP8 are
simulated as. Nothing of `ref/` is imported.
"""

import json
from importlib.metadata import version
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from gemma.peft import _quantization, _quantization_utils

HERE = Path(__file__).resolve().parent
OUTPUTS, INPUTS = 4, 64


def weights():
    """Return (comment, [O, I] float32): a channel is a row here, a column there."""
    random = np.random.default_rng(46)
    normal = np.round(random.standard_normal((OUTPUTS, INPUTS)) * [[0.02], [1], [30], [0.5]], 3)
    normal[1, :2] = [-8.0024, 3.5008]  # a boundary of Q4_0 that moves with the scale's rounding to float16
    ties = np.round(random.integers(-14, 15, (OUTPUTS, INPUTS)) / 2.0, 1)
    ties[:, 0] = [7, -7, 7, -7]  # scale 1 for int4, where halves are ties
    small = (
        np.exp2(-random.integers(0, 24, (OUTPUTS, INPUTS)).astype(float))
        * random.integers(-15, 16, (OUTPUTS, INPUTS))
        / 8
    )
    small[:, 0] = 1.875  # scale 1 for SFP8: powers of two times eighths down to 2^-23
    eights = random.integers(-16, 17, (OUTPUTS, INPUTS)) / 2.0
    eights[:, ::32] = [[8], [-8], [127], [-127]]  # d is a whole number in Q4_0 or in Q8_0, where halves are ties
    return [
        ("normal numbers, channels of other sizes", normal.astype(np.float32)),
        ("halves beside a largest magnitude of 7, in two channels negative", ties.astype(np.float32)),
        ("halves beside 8 and 127", eights.astype(np.float32)),
        ("eighths of powers of two below 1.875", small.astype(np.float32)),
    ]


def main():
    """Write the file."""
    rows = []
    for comment, weight in weights():
        x = jnp.asarray(weight.T)  # [I, O], as its Dense kernels are
        per_channel = _quantization_utils.QuantizationGranularity.PER_CHANNEL
        codes, scale = _quantization_utils.uniform_quantize(x, bitwidth=4, granularity=per_channel, axis_to_reduce=0)
        made = {
            "int4_codes": np.asarray(codes.astype(jnp.int8)).T.tolist(),
            "int4_scale": np.asarray(scale).reshape(-1).astype(float).tolist(),
            "int4": np.asarray(_quantization.simulate_quantize(x, "int4", axis_to_reduce=0)).T.astype(float).tolist(),
            "sfp8": np.asarray(_quantization.simulate_quantize(x, "sfp8")).T.astype(float).tolist(),
        }
        rows.append({"comment": comment, "weight": weight.astype(float).tolist()} | made)
    head = {"gemma": version("gemma"), "jax": version("jax"), "command": "python golden/make/jax_quant.py"}
    lines = ",\n".join(json.dumps(row) for row in rows)
    (HERE / "jax_quant.json").write_text(json.dumps(head)[:-1] + ', "rows": [\n' + lines + "\n]}\n")


if __name__ == "__main__":
    main()
