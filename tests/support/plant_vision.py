"""Mistakes in the vision tower, and in what it gives to the text."""

import types

import torch
from support.planting import forward
from torch import nn


def vision(model):
    """Return the tower."""
    return model.model.vision_tower


def plant_patch(change):
    """Change the weight of the patch embedding."""

    def plant(model, _):
        conv = vision(model).embeddings.patch_embedding
        conv.weight.data = change(conv.weight.detach()).contiguous()

    return plant


def plant_positions_table(change):
    """Change the position table of the tower."""

    def plant(model, _):
        table = vision(model).embeddings.position_embedding
        table.weight.data = change(table.weight.detach()).contiguous()

    return plant


def by_columns(table):
    side = int(len(table) ** 0.5)
    return table.reshape(side, side, -1).transpose(0, 1).reshape(table.shape)


def plant_pool(pool):
    """Replace the projector's pool."""

    def plant(model, _):
        projector = model.model.multi_modal_projector

        def run(self, original, x):
            normed = self.mm_soft_emb_norm(pool(self, x))
            return torch.matmul(normed, self.mm_input_projection_weight).type_as(x)

        forward(projector, run)

    return plant


def consecutive(self, x):
    return x.reshape(x.shape[0], -1, self.kernel_size**2, x.shape[-1]).mean(2)


def maximum(self, x):
    square = x.transpose(1, 2).reshape(x.shape[0], x.shape[-1], self.patches_per_image, self.patches_per_image)
    return nn.functional.max_pool2d(square, self.kernel_size).flatten(2).transpose(1, 2)


def plant_features(change):
    """Change the image features where they are merged."""

    def plant(model, _):
        inner = model.model
        original = inner.get_image_features

        def run(self, *args, **kwargs):
            out = original(*args, **kwargs)
            out.pooler_output = change(out.pooler_output)
            return out

        inner.get_image_features = types.MethodType(run, inner)

    return plant


def tower_layer(change):
    def plant(model, i):
        change(vision(model).encoder.layers[i])

    return plant


def no_bias(block):
    for name in ("q_proj", "k_proj", "v_proj"):
        getattr(block.self_attn, name).bias.data.zero_()


def vision_gelu(block):
    block.mlp.activation_fn = nn.GELU()
