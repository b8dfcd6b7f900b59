"""`kernel`: what it compiles with, and that a kept kernel needs neither a compiler nor whole files."""

import os
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest

from ref.ops.jit import kernel

LOADED = "import sys; from numba.core.dispatcher import Dispatcher; from ref.ops.pan_and_scan import count_crops"
COUNT = f"{LOADED}; print(count_crops(2500, 1000, 1.2, 256, 4), count_crops.stats.cache_hits.total())"


def count(folder: Path, more: str = "") -> str:
    """Count crops in a process of its own; return them, and how many kernels were loaded."""
    env = os.environ | {"NUMBA_CACHE_DIR": str(folder), "NUMBA_DISABLE_JIT": "0"}
    return subprocess.run(
        [sys.executable, "-c", COUNT + more], check=True, capture_output=True, text=True, env=env
    ).stdout


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing is compiled")
def test_a_kernel_lets_go_of_the_interpreter_and_divides_as_numpy_does():
    @kernel
    def halves(x):
        return 1 / x

    @kernel(error_model="python", fastmath={"contract"})
    def wholes(x):
        return 1 // x

    assert halves(0.0) == np.inf
    with pytest.raises(ZeroDivisionError):
        wholes(0)
    assert halves.targetoptions["nogil"]
    assert wholes.targetoptions["nogil"]
    assert wholes.targetoptions["fastmath"] == {"contract"}


def test_without_the_compiler_a_kernel_is_the_function_itself(tmp_path):
    code = "from ref.ops.jit import kernel\nf = lambda x: x\nassert kernel(f) is f and kernel(fastmath=False)(f) is f"
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"NUMBA_DISABLE_JIT": "1"})


def test_what_is_kept_is_loaded_without_what_a_compiler_needs(tmp_path):
    ask = "; print('numba.np.linalg' in sys.modules)"
    assert [count(tmp_path, ask).split() for _ in range(2)] == [["3", "0", "True"], ["3", "1", "False"]]


def test_after_a_kept_kernel_another_that_calls_it_compiles(tmp_path):
    count(tmp_path)
    new = "; import numba, numpy; f = numba.njit(lambda x: x.sum() + count_crops(2500, 1000, 1.2, 256, 4))"
    assert count(tmp_path, f"{new}; print(f(numpy.ones(2)))").split() == ["3", "1", "5.0"]


@pytest.mark.parametrize("kind", ["nbc", "nbi"])
@pytest.mark.parametrize("left", [0, 100])
def test_a_file_that_was_cut_short_is_made_anew(tmp_path, kind, left):
    count(tmp_path)
    (file,) = (path for path in tmp_path.rglob(f"*.{kind}") if "count_crops" in path.name)
    whole = file.read_bytes()
    file.write_bytes(whole[:left])
    assert count(tmp_path).split() == ["3", "0"]
    assert count(tmp_path).split() == ["3", "1"]
    assert len(file.read_bytes()) == len(whole)


def test_of_kernels_in_other_files_each_file_counts(tmp_path):
    # as of somebody who divides loops of their own; the two have the same name and line
    code = (
        "import numpy as np\nfrom ref.ops.jit import kernel\nfrom ref.ops.team import Divided\n"
        "@Divided\n@kernel\ndef fill(start, stop, x):\n    for i in range(start, stop): x[i] = {0}\n"
        "x = np.zeros(9)\nfill(9, 1, x)\nprint(x.sum(), sum(fill.drive.stats.cache_hits.values()))\n"
    )
    env = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "NUMBA_DISABLE_JIT": "0", "NUMBA_NUM_THREADS": "2"}

    def run(value: int) -> list[str]:
        (tmp_path / "own.py").write_text(code.format(value))
        command = [sys.executable, str(tmp_path / "own.py")]
        return subprocess.run(command, check=True, capture_output=True, text=True, env=env).stdout.split()

    assert [run(value) for value in (1, 1, 2, 2)] == [["9.0", "0"], ["9.0", "1"], ["18.0", "0"], ["18.0", "1"]]


def test_nothing_is_made_before_a_kernel_is_needed(tmp_path):
    env = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "kept")}
    subprocess.run([sys.executable, "-c", LOADED], check=True, env=env)
    assert not (tmp_path / "kept").exists()
