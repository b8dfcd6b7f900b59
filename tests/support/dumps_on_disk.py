"""Small version-1 dumps of `tiny` on disk, whole, changed and refused."""

import json

import numpy as np
import pytest
from support.tiny import TINY

from ref.dump.open import open_dump
from ref.dump.write import DumpWriter
from ref.errors import BadInput

IDS = [5, 6, 7, 33, 96, 0, 2]
T = len(IDS)
CONFIG = TINY._asdict()
Q = "text.layer.3.attn.q"
MODEL = {"config": CONFIG, "weights": {"name": "tiny", "dtype": "float32", "sha256": None}}
POLICY = dict.fromkeys(["compute_dtype", "matmul_activations", "kv_dtype", "rope_angle", "attention_impl"], "float32")
ROW = {"ids": IDS, "positions": list(range(T)), "cached": 0, "image_blocks": [], "left_pads": 0}
VALUE = np.random.default_rng(3).standard_normal((1, T, 12, 10)).astype(np.float32)


def row(tokens, cached, **more):
    return ROW | {"ids": IDS[:tokens], "positions": list(range(cached, cached + tokens)), "cached": cached} | more


def written(folder, *passes, names="ref", config=None, layouts=None, pixels=None):
    """Write a dump; a pass is (row, tensors)."""
    writer = DumpWriter(folder, MODEL | {"config": CONFIG if config is None else config}, POLICY, names=names)
    for one, tensors in passes:
        for name, value in tensors.items():
            writer.add_tensor(name, value, (layouts or {}).get(name))
        writer.end_pass(one, pixels)
    return writer.close()


def change(folder, **fields):
    content = json.loads((folder / "dump.json").read_text())
    content["passes"][0].update(fields)
    (folder / "dump.json").write_text(json.dumps(content))


def refused(path, *arguments, **named):
    with pytest.raises(BadInput) as error:
        open_dump(path, *arguments, **named)
    assert len(str(error.value).splitlines()) == 1
    return str(error.value)
