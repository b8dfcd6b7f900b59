"""Run gemma.cpp's scalar SFP8 functions, out of its own test; writes golden/make/sfp8.json, which vectors.py reads.

python golden/make/gemma_cpp.py CHECKOUT        a git checkout of google/gemma.cpp; needs g++

The two functions are cut out of `compression/sfp_test.cc` and compiled between stand-ins for the few names of Highway
that they use. Nothing of `ref/` is imported, and nothing of gemma.cpp is kept but numbers.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
SOURCE = "compression/sfp_test.cc"
BEFORE = """
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#define HWY_ASSERT(x) if (!(x)) abort()
#define HWY_INLINE inline
struct SfpStream { static constexpr float kMax = 1.875f; };
namespace hwy {
template <class A, class B> void CopySameSize(const A* from, B* to) { memcpy(to, from, sizeof(A)); }
template <class T> constexpr uint32_t MantissaMask() { return 0x7FFFFFu; }
template <class T> constexpr uint32_t SignMask() { return 0x80000000u; }
inline float ScalarAbs(float x) { return std::fabs(x); }
}
"""
AFTER = """
int main() {
  for (uint32_t c = 0; c < 256; ++c) { const float v = c == 0x80 ? 0.0f : F32FromSFP8(c); fwrite(&v, 4, 1, stdout); }
  float x;
  while (fread(&x, 4, 1, stdin) == 1) { const unsigned char c = SFP8FromF32(x); fwrite(&c, 1, 1, stdout); }
}
"""
LARGEST = 1.875


def inputs():
    """List numbers to encode: at ties and beside them, and the weights in which google-deepmind/gemma differs."""
    ties = np.float32([(1 + step / 32) * 2.0**power for power in range(-26, 1, 2) for step in range(0, 32, 3)])
    near = [np.nextafter(ties, np.float32(side), dtype=np.float32) for side in (0, 9)]
    small = np.float32(json.loads((HERE / "jax_quant.json").read_text())["rows"][-1]["weight"])
    return [
        ("ties of either width of mantissa", ties),
        ("just below them", near[0]),
        ("just above them", near[1]),
        ("eighths of powers of two", small[:, :24].reshape(-1)),
    ]


def program(checkout, revision):
    """Cut the two functions out of the test and put a main behind them."""
    text = subprocess.run(
        ["git", "-C", checkout, "show", f"{revision}:{SOURCE}"], check=True, capture_output=True, text=True
    ).stdout
    functions = re.findall(r"^(?:float F32FromSFP8|HWY_INLINE uint32_t SFP8FromF32)\(.*?^}\n", text, re.M | re.S)
    assert len(functions) == 2, f"{SOURCE}: wanted two functions, got {len(functions)}"
    return BEFORE + "\n".join(functions) + AFTER


def main(checkout):
    """Compile, run, write."""
    git = ["git", "-C", checkout, "rev-parse", "HEAD"]
    revision = subprocess.run(git, check=True, capture_output=True, text=True).stdout.strip()
    asked = [(comment, x[np.abs(x) <= LARGEST]) for comment, x in inputs()]
    with tempfile.TemporaryDirectory() as temporary:
        source, binary = Path(temporary) / "sfp8.cc", Path(temporary) / "sfp8"
        source.write_text(program(checkout, revision))
        subprocess.run(["g++", "-O1", "-std=c++17", source, "-o", binary], check=True)
        given = np.concatenate([x for _, x in asked]).astype("<f4").tobytes()
        out = subprocess.run([binary], input=given, check=True, capture_output=True).stdout
    values = np.frombuffer(out[:1024], "<f4")
    codes, rows = np.frombuffer(out[1024:], np.uint8), []
    for comment, x in asked:
        here, codes = codes[: len(x)], codes[len(x) :]
        rows.append({"comment": comment, "x": x.astype(float).tolist(), "codes": here.tolist()})
    assert not len(codes)
    head = {"gemma.cpp": revision, "command": "python golden/make/gemma_cpp.py CHECKOUT"}
    lines = ",\n".join(json.dumps(row) for row in rows)
    text = json.dumps(head)[:-1] + f', "values": {json.dumps(values.astype(float).tolist())}, "rows": [\n{lines}\n]}}\n'
    (HERE / "sfp8.json").write_text(text)


if __name__ == "__main__":
    main(sys.argv[1])
