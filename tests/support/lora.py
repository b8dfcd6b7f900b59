"""Adapters for `tiny`, as PEFT writes them, without PEFT."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

import ref

RANK, ALPHA = 4, 8
MODULES = {  # of layer 3, and at the ends
    "q": "model.layers.3.self_attn.q_proj",
    "down": "model.layers.3.mlp.down_proj",
    "embedding": "model.embed_tokens",
    "head": "lm_head",
}


def shape_of(field: str) -> tuple[int, int]:
    """Return [O, I] of a matrix."""
    params = ref.load("tiny").params
    weight = params.embedding if field in ("embedding", "head") else getattr(params.layers[3], field)
    return weight.shape[0], weight.shape[1]


def save_adapter(folder: Path, fields=("q", "down"), change=None, **settings) -> dict[str, np.ndarray]:
    """Write an adapter and return B A of each field, [O, I] float64; `change` edits the tensors first."""
    rng, tensors, products = np.random.default_rng(9), {}, {}
    for field in fields:
        rows, columns = shape_of(field)
        a, b = (0.1 * rng.normal(size=size) for size in ((RANK, columns), (rows, RANK)))
        a, b = a.astype(np.float32), b.astype(np.float32)
        name = f"base_model.model.{MODULES[field]}"
        if field == "embedding":
            tensors |= {f"{name}.lora_embedding_A": b.T.copy(), f"{name}.lora_embedding_B": a.T.copy()}
        else:
            tensors |= {f"{name}.lora_A.weight": a, f"{name}.lora_B.weight": b}
        products[field] = b.astype(np.float64) @ a.astype(np.float64)
    if change:
        change(tensors)
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "bias": "none", "modules_to_save": None} | settings
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return products
