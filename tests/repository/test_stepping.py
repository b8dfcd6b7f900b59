"""docs/stepping.md: the same numbers with the compiler and without, and a debugger that stops inside of a kernel."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

PAGE = (Path(__file__).parents[2] / "docs/stepping.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", PAGE, re.S)
SAID = re.search(r"```text\n(.*?)```", PAGE, re.S)[1]


def run(*arguments, stdin="", jit):
    env = {name: value for name, value in os.environ.items() if name != "NUMBA_DISABLE_JIT"}
    env |= {} if jit else {"NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run(
        [sys.executable, *arguments], input=stdin, capture_output=True, text=True, env=env, check=True, timeout=600
    )
    return done.stdout


@pytest.fixture
def step(tmp_path):
    path = tmp_path / "step.py"
    path.write_text(PYTHON[0])
    return str(path)


@pytest.mark.parametrize("jit", [True, False], ids=["compiled", "not compiled"])
def test_the_page_prints_what_it_says(step, jit):
    assert run(step, jit=jit) == SAID


LOGITS = """
import ref
print(ref.forward(ref.load("tiny").params, [[5, 6, 7, 8]])[0].reshape(-1).tolist())
"""


def test_kernels_give_the_same_logits_up_to_the_last_bits():
    compiled, plain = (np.array(json.loads(run("-c", LOGITS, jit=jit))) for jit in (True, False))
    np.testing.assert_allclose(plain, compiled, rtol=0, atol=1e-5 * np.abs(compiled).max())


def test_the_toy_model_can_be_stepped_through_as_definitions():
    said = run("-c", PYTHON[1], jit=False)
    assert "text.layer.0.attn.q " in said
    assert said == run("-c", PYTHON[1], jit=True)


def test_a_debugger_stops_in_the_loop(step):
    [command] = re.findall(r"python (-m pdb .*) step\.py", PAGE)
    arguments = re.findall(r'"[^"]*"|\S+', command)
    said = run(*(one.strip('"') for one in arguments), step, stdin="n\nn\nn\np float(total)\nq\n", jit=False)
    assert "_norm_row(" in said
    assert "(Pdb) 9.0" in said  # 3 squared, after the first turn of the loop
