"""Tensors of a multimodal folder that do not fit are refused by name."""

import numpy as np
import pytest
from support.checkpoints import change_tensors, save_seeing

from ref.errors import BadInput
from ref.weights.resolve import load

TEXT, TOWER, PROJECTOR = "language_model.model.", "vision_tower.vision_model.", "multi_modal_projector."


def drop(tensors):
    del tensors[f"{TOWER}encoder.layers.1.self_attn.k_proj.bias"]


def drop_projector(tensors):
    del tensors[f"{PROJECTOR}mm_input_projection_weight"]
    del tensors[f"{PROJECTOR}mm_soft_emb_norm.weight"]


def drop_tower(tensors):
    for name in [name for name in tensors if name.startswith(TOWER)]:
        del tensors[name]


def add_block(tensors):
    tensors[f"{TOWER}encoder.layers.2.mlp.fc1.weight"] = np.zeros((34, 26), np.float32)


def add_norm(tensors):
    tensors[f"{TOWER}pre_layrnorm.weight"] = np.zeros(26, np.float32)


def both_prefixes(tensors):
    tensors[f"model.{TOWER}post_layernorm.bias"] = tensors[f"{TOWER}post_layernorm.bias"]


def transpose(tensors):
    name = f"{PROJECTOR}mm_input_projection_weight"
    tensors[name] = np.ascontiguousarray(tensors[name].T)


def exchange(tensors):
    one, two = (f"{TOWER}encoder.layers.0.mlp.fc{i}.weight" for i in (1, 2))
    tensors[one], tensors[two] = tensors[two], tensors[one]


def flatten(tensors):
    name = f"{TOWER}embeddings.patch_embedding.weight"
    tensors[name] = tensors[name].reshape(26, 75)


def fewer_positions(tensors):
    name = f"{TOWER}embeddings.position_embedding.weight"
    tensors[name] = np.ascontiguousarray(tensors[name][:49])


def use_integers(tensors):
    tensors[f"{TOWER}post_layernorm.weight"] = np.ones(26, np.uint16)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (drop, r"encoder.layers.1.self_attn.k_proj.bias: wanted shape \[26\], got no such tensor \(131 of 132"),
        (drop_projector, "tensor multi_modal_projector.mm_soft_emb_norm.weight: wanted shape .26., got no such tensor"),
        (
            drop_tower,
            "tensor vision_tower.vision_model.embeddings.patch_embedding.weight: wanted .* got no such tensor",
        ),
        (add_block, "only those of a Gemma 3, got 1 unknown, first vision_tower.vision_model.encoder.layers.2"),
        (add_norm, "only those of a Gemma 3, got 1 unknown, first vision_tower.vision_model.pre_layrnorm.weight"),
        (both_prefixes, "only those of a Gemma 3, got 1 unknown, first model.vision_tower.vision_model.post_layernorm"),
        (transpose, r"mm_input_projection_weight: wanted shape \[26, 36\], got \[36, 26\] \(transposed\?\)"),
        (exchange, r"encoder.layers.0.mlp.fc1.weight: wanted shape \[34, 26\], got \[26, 34\] \(transposed\?\)"),
        (flatten, r"patch_embedding.weight: wanted shape \[26, 3, 5, 5\], got \[26, 75\]"),
        (fewer_positions, r"position_embedding.weight: wanted shape \[64, 26\], got \[49, 26\]"),
        (use_integers, "type of tensor vision_tower.vision_model.post_layernorm.weight: wanted F64 .*, got U16"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_tensors_that_do_not_fit_are_refused_by_name(tmp_path, change, says):
    save_seeing(tmp_path / "tiny", bfloat16=False)
    change_tensors(tmp_path / "tiny", change)
    with pytest.raises(BadInput, match=says) as refusal:
        load(str(tmp_path / "tiny"))
    assert str(refusal.value).startswith(f"{tmp_path / 'tiny'}: ")
    assert len(str(refusal.value).splitlines()) == 1
