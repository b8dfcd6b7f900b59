"""Run on every rank: capture a model in slices, whole, with a wrong activation, and into a folder in use.

python -m torch.distributed.run --nproc-per-node N tests/support/capture_on_ranks.py WEIGHTS DTYPE FOLDER
"""

import sys
from pathlib import Path

import torch
import transformers
from torch.distributed.fsdp import fully_shard
from transformers.distributed import DistributedConfig

from ref.capture.transformers import capture
from ref.errors import BadInput

IDS = [2, 5, 6, 7, 11, 3, 9, 8, 100]


def main(weights: str, dtype: str, folder: Path) -> None:
    """Write `clean`, `silu`, both of each rank as well, `fsdp` and, of each rank, what was said of a folder in use."""
    sliced = transformers.AutoModelForCausalLM.from_pretrained(
        weights, distributed_config=DistributedConfig(tp_plan="auto"), dtype=dtype, attn_implementation="eager"
    )
    capture(sliced, IDS, folder / "clean", steps=2)
    capture(sliced, IDS, folder / "each", steps=2, each_rank=True)
    (folder / f"there-{torch.distributed.get_rank()}").write_text(str((folder / "clean" / "dump.json").exists()))
    sliced.model.layers[-1].mlp.act_fn = torch.nn.SiLU()
    capture(sliced, IDS, folder / "silu")
    capture(sliced, IDS, folder / "each-silu", each_rank=True)
    try:
        capture(sliced, IDS, folder / "silu")
    except BadInput as error:
        (folder / f"refused-{torch.distributed.get_rank()}").write_text(str(error))
    whole = transformers.AutoModelForCausalLM.from_pretrained(weights, dtype=dtype, attn_implementation="eager")
    for one in (*whole.model.layers, whole):
        fully_shard(one, mesh=sliced.model.layers[0].self_attn.q_proj.weight.device_mesh)
    capture(whole, IDS, folder / "fsdp")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
