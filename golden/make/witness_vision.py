"""The witness's half that sees: transformers' SigLIP tower and projector, their taps, their axes in other orders."""

from typing import NamedTuple

import numpy as np
import torch
from transformers import Gemma3Config, Gemma3ForConditionalGeneration

from ref.config import END_OF_IMAGE, START_OF_IMAGE
from ref.model.multimodal import soft_token_id
from ref.ops.linear import widen
from ref.weights.export import config_to_hugging_face

# our field: transformers 5.23's module
LAYER = {
    "attn_norm": "layer_norm1", "ffn_norm": "layer_norm2", "q": "self_attn.q_proj", "k": "self_attn.k_proj",
    "v": "self_attn.v_proj", "attn_out": "self_attn.out_proj", "up": "mlp.fc1", "down": "mlp.fc2",
}  # fmt: skip
TEXT_LAYER = {
    "pre_attn_norm": "input_layernorm", "q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj",
    "q_norm": "self_attn.q_norm", "k_norm": "self_attn.k_norm", "attn_out": "self_attn.o_proj",
    "post_attn_norm": "post_attention_layernorm", "pre_ffn_norm": "pre_feedforward_layernorm", "gate": "mlp.gate_proj",
    "up": "mlp.up_proj", "down": "mlp.down_proj", "post_ffn_norm": "post_feedforward_layernorm",
}  # fmt: skip


def tensor(weight):
    """Return a weight as a float32 tensor of its own memory."""
    return torch.from_numpy(np.array(widen(weight), np.float32))


def config_of(text, vision):
    """Return transformers' configuration of text and vision parameters."""
    c, v = text.config, vision.config
    return Gemma3Config(
        text_config=config_to_hugging_face(c),
        vision_config={
            "hidden_size": v.width, "intermediate_size": v.ffn_width, "num_hidden_layers": v.layers,
            "num_attention_heads": v.heads, "num_channels": v.channels, "image_size": v.image, "patch_size": v.patch,
            "layer_norm_eps": v.layer_norm_eps, "hidden_act": "gelu_pytorch_tanh", "vision_use_head": False,
            "model_type": "siglip_vision_model",
        },
        mm_tokens_per_image=v.soft_tokens,
        image_token_index=soft_token_id(c),
        image_token_id=soft_token_id(c),
        boi_token_index=min(START_OF_IMAGE, c.vocabulary - 2),
        eoi_token_index=min(END_OF_IMAGE, c.vocabulary - 1),
    )  # fmt: skip


def state_of(text, vision):
    """Name all parameters as transformers 5.23 does."""
    state = {"model.language_model.embed_tokens.weight": tensor(text.embedding)}
    state["model.language_model.norm.weight"] = tensor(text.final_norm)
    for i, layer in enumerate(text.layers):
        for field, name in TEXT_LAYER.items():
            state[f"model.language_model.layers.{i}.{name}.weight"] = tensor(getattr(layer, field))
    v, tower, projector = vision.config, "model.vision_tower.", "model.multi_modal_projector."
    for i, layer in enumerate(vision.layers):
        for field, name in LAYER.items():
            state[f"{tower}encoder.layers.{i}.{name}.weight"] = tensor(getattr(layer, field))
            state[f"{tower}encoder.layers.{i}.{name}.bias"] = tensor(getattr(layer, f"{field}_bias"))
    state[tower + "embeddings.patch_embedding.weight"] = tensor(vision.patch).reshape(-1, v.channels, v.patch, v.patch)
    state[tower + "embeddings.patch_embedding.bias"] = tensor(vision.patch_bias)
    state[tower + "embeddings.position_embedding.weight"] = tensor(vision.position)
    state[tower + "post_layernorm.weight"] = tensor(vision.post_norm)
    state[tower + "post_layernorm.bias"] = tensor(vision.post_norm_bias)
    state[projector + "mm_soft_emb_norm.weight"] = tensor(vision.soft_norm)
    state[projector + "mm_input_projection_weight"] = tensor(vision.projection)
    return state


def from_params(text, vision):
    """Build transformers' model of text and vision parameters, in float32."""
    model = Gemma3ForConditionalGeneration(config_of(text, vision))
    missing = model.load_state_dict(state_of(text, vision), strict=False)
    assert missing.missing_keys == ["lm_head.weight"], missing
    assert not missing.unexpected_keys, missing
    model.tie_weights()
    return _named(model)


def from_folder(folder):
    """Load an official multimodal checkpoint in float32."""
    return _named(Gemma3ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32))


def _named(model):
    """Tell each layer of the tower what its taps are called; its attention knows no number."""
    for i, layer in enumerate(model.model.vision_tower.encoder.layers):
        layer.self_attn.tap_prefix = f"vision.layer.{i}."
    return model.eval()


def hook(model, on_output, on_input):
    """Report every module's value of tower, projector and merge; the two callables are `witness.hooked`'s."""
    tower, projector = model.model.vision_tower, model.model.multi_modal_projector
    heads = lambda x: x.reshape(*x.shape[:2], model.config.vision_config.num_attention_heads, -1)  # noqa: E731
    on_input(tower, "vision.pixels")
    on_output(tower.embeddings.patch_embedding, "vision.patch_embed", lambda x: x.flatten(2).transpose(1, 2))
    on_output(tower.embeddings, "vision.embed")
    for i, layer in enumerate(tower.encoder.layers):
        at, attn = f"vision.layer.{i}.", layer.self_attn
        on_input(layer, at + "in")
        on_output(layer.layer_norm1, at + "attn.pre_norm")
        for name in "qkv":
            on_output(getattr(attn, f"{name}_proj"), f"{at}attn.{name}", heads)
        on_input(attn.out_proj, at + "attn.mix", heads)
        on_output(attn.out_proj, at + "attn.out")
        on_input(layer.layer_norm2, at + "mid")
        on_output(layer.layer_norm2, at + "ffn.pre_norm")
        on_output(layer.mlp.fc1, at + "ffn.up")
        on_input(layer.mlp.fc2, at + "ffn.act")
        on_output(layer.mlp.fc2, at + "ffn.out")
        on_output(layer, at + "out")
    on_output(tower.post_layernorm, "vision.post_norm")
    on_input(projector.mm_soft_emb_norm, "vision.pool")
    on_output(projector.mm_soft_emb_norm, "vision.soft_norm")
    on_output(projector, "vision.soft_tokens")


class VisionOrders(NamedTuple):
    """Orders of the tower's axes; any will do, as long as all its weights agree."""

    hidden: torch.Tensor  # [D]
    inner: list[torch.Tensor]  # [F] of each layer
    compared: torch.Tensor  # [H] of queries and keys
    value: torch.Tensor  # [H] of values
    channel: torch.Tensor  # [C] of pixels
    row: torch.Tensor  # [patch] rows of pixels inside a patch

    def inverse(self):
        """Return the orders that undo these."""
        undo = torch.argsort
        return VisionOrders(*(list(map(undo, one)) if isinstance(one, list) else undo(one) for one in self))


def draw_orders(v, rng):
    """Draw orders for a vision configuration of transformers."""
    some = lambda count: torch.randperm(count, generator=rng)  # noqa: E731
    head = v.hidden_size // v.num_attention_heads
    inner = [some(v.intermediate_size) for _ in range(v.num_hidden_layers)]
    return VisionOrders(some(v.hidden_size), inner, some(head), some(head), some(v.num_channels), some(v.patch_size))


def _by_head(weight, order):
    """Reorder the rows of a projection, or the values of its bias, inside each head."""
    return weight.reshape(-1, len(order), *weight.shape[1:])[:, order].reshape(weight.shape)


@torch.no_grad()
def permute(model, orders, text_hidden):
    """Reorder the tower's axes in place, and the text's hidden axis where the projector meets it."""
    hidden, inner, compared, value, channel, row = orders
    tower, projector = model.model.vision_tower, model.model.multi_modal_projector
    patch = tower.embeddings.patch_embedding
    patch.weight[:] = patch.weight[hidden][:, channel][:, :, row]
    patch.bias[:] = patch.bias[hidden]
    tower.embeddings.position_embedding.weight[:] = tower.embeddings.position_embedding.weight[:, hidden]
    for layer, order in zip(tower.encoder.layers, inner, strict=True):
        attn, mlp = layer.self_attn, layer.mlp
        for norm in (layer.layer_norm1, layer.layer_norm2):
            norm.weight[:], norm.bias[:] = norm.weight[hidden], norm.bias[hidden]
        for proj, in_head in ((attn.q_proj, compared), (attn.k_proj, compared), (attn.v_proj, value)):
            proj.weight[:], proj.bias[:] = _by_head(proj.weight[:, hidden], in_head), _by_head(proj.bias, in_head)
        attn.out_proj.weight[:] = _by_head(attn.out_proj.weight[hidden].T, value).T
        attn.out_proj.bias[:] = attn.out_proj.bias[hidden]
        mlp.fc1.weight[:], mlp.fc1.bias[:] = mlp.fc1.weight[order][:, hidden], mlp.fc1.bias[order]
        mlp.fc2.weight[:], mlp.fc2.bias[:] = mlp.fc2.weight[hidden][:, order], mlp.fc2.bias[hidden]
    post = tower.post_layernorm
    post.weight[:], post.bias[:] = post.weight[hidden], post.bias[hidden]
    projector.mm_soft_emb_norm.weight[:] = projector.mm_soft_emb_norm.weight[hidden]
    projection = projector.mm_input_projection_weight
    projection[:] = projection[hidden][:, text_hidden]


def permute_pixels(pixels, orders):
    """Reorder channels, and the rows of pixels inside each patch, as `permute` did to the patch weight."""
    patch = len(orders.row)
    rows = pixels[:, orders.channel].unflatten(2, (-1, patch))[:, :, :, orders.row]
    return rows.flatten(2, 3)


def unpermuted(name, x, orders, text_hidden):
    """Put a tapped value of a permuted tower back into the original order; `text_hidden` undoes the text's."""
    undo, last = orders.inverse(), name.split(".", 3)[-1]
    if name == "vision.pixels":
        return permute_pixels(x, undo)
    if name == "vision.soft_tokens":
        return x[..., text_hidden]
    if last in ("attn.q", "attn.k"):
        return x[..., undo.compared]
    if last in ("attn.v", "attn.mix"):
        return x[..., undo.value]
    if last in ("ffn.up", "ffn.act"):
        return x[..., undo.inner[int(name.split(".")[2])]]
    return x if last in ("attn.scores", "attn.probs") else x[..., undo.hidden]
