"""Kernels compiled for processors with less than this one has: they run, and give what the definitions give."""

import os
import platform
import subprocess
import sys

import pytest
from numba import config

X86 = platform.machine().lower() in ("x86_64", "amd64")
HASWELL = "+sse,+sse2,+sse3,+ssse3,+sse4.1,+sse4.2,+popcnt,+avx,+avx2,+fma,+f16c,+bmi,+bmi2,+lzcnt,+movbe,+cx16,+64bit"
KERNELS = """
import numpy as np
from ref.ops import DEFINITION, KERNEL
from ref.ops.blocks import FORMATS, Blocks
from ref.ops.dot_blocks import DOTS
from ref.ops.simd import BYTES

r = np.random.default_rng(0)

def near(got, wanted, size):
    assert np.isfinite(wanted).all()
    assert np.abs(got - wanted).max() <= 32 * 2.0**-24 * size, (got, wanted)

for rows in (2, 40):
    x = r.standard_normal((rows, 512), np.float32)
    for name in DOTS:
        data = r.integers(0, 60, (37, 512 // FORMATS[name].length * FORMATS[name].size), np.uint8)
        weight = Blocks(data, name)
        size = (np.abs(x) @ np.abs(KERNEL.linear(np.eye(512, dtype=np.float32), weight))).max()
        near(KERNEL.linear(x, weight), DEFINITION.linear(x.astype(float), weight), size)
    bits = r.integers(0x3C00, 0x3F80, (37, 512), np.uint16)
    near(KERNEL.linear(x, bits), DEFINITION.linear(x.astype(float), bits), 512)
for T in (1, 30):
    q, k = r.standard_normal((1, T, 4, 80), np.float32), r.standard_normal((1, 200, 2, 80), np.float32)
    visible = np.array([[[t, 170 + t] for t in range(T)]])
    near(KERNEL.attend(q, k, k, visible, 0.1), DEFINITION.attend(q.astype(float), k, k, visible, 0.1), 8)
print(BYTES)
"""


@pytest.mark.skipif(not X86 or config.DISABLE_JIT, reason="names of x86 processors; kernels are compiled")
@pytest.mark.parametrize(("name", "features"), [("haswell", HASWELL), ("generic", None)])
def test_kernels_of_processors_without_avx_512(name, features, tmp_path):
    chosen = {"NUMBA_CPU_NAME": name, "NUMBA_CACHE_DIR": str(tmp_path)}
    chosen |= {"NUMBA_CPU_FEATURES": features} if features else {}
    done = subprocess.run(
        [sys.executable, "-c", KERNELS], env=os.environ | chosen, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["64"]
