"""A program that runs on several ranks, each a process: `capture_on_ranks.py`."""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PROGRAM, PLANTED = HERE / "capture_on_ranks.py", HERE / "planted_on_ranks.py"


def run_on_ranks(count, model, dtype, folder, program=PROGRAM, more=()):
    """Save a model of transformers and have so many ranks capture it.

    Args:
        count: of ranks.
        model: of transformers.
        dtype: in which each rank loads it.
        folder: is given `weights`, and what the program writes.
        program: what each rank runs.
        more: its last arguments.

    Raises:
        RuntimeError: a rank failed; its line.
    """
    model.save_pretrained(folder / "weights")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    command += [str(program), str(folder / "weights"), dtype, str(folder), *more]
    path = os.pathsep.join([str(program.parents[2]), os.environ.get("PYTHONPATH", "")])
    told = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": path}
    done = subprocess.run(command, env=os.environ | told, capture_output=True, text=True)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if "Error" in line]
        raise RuntimeError(said[0] if said else f"exit {done.returncode}")
