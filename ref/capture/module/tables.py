"""Tables that are shipped: `ref.capture.places` says what a row is. Names begin at the model's own root.

Read in litgpt 0.5.13, TransformerLens 2.18.0 and transformers 5.23.0. Rotations, scores and probabilities are functions
in litgpt and transformers; hooks on modules do not hear them.
"""

from ref.capture.places import Table

HEADS = "B T (N H)"
LITGPT: Table = {
    "transformer.h.{i}": [("L.in", "input"), "L.out"],
    "transformer.h.{i}.norm_1": "L.attn.pre_norm",
    "transformer.h.{i}.attn.qkv": ("L.attn.q + L.attn.k + L.attn.v", "B T (N H)+(K H)+(K H)"),
    "transformer.h.{i}.attn.norm_q": ("L.attn.q_norm", "B N T H"),
    "transformer.h.{i}.attn.norm_k": ("L.attn.k_norm", "B K T H"),
    "transformer.h.{i}.attn.proj": [("L.attn.mix", HEADS, "input"), "L.attn.out"],
    "transformer.h.{i}.post_attention_norm": "L.attn.post_norm",
    "transformer.h.{i}.norm_2": [("L.mid", "input"), "L.ffn.pre_norm"],
    "transformer.h.{i}.mlp.fc_1": "L.ffn.gate",
    "transformer.h.{i}.mlp.fc_2": "L.ffn.up",
    "transformer.h.{i}.mlp.proj": [("L.ffn.act", "input"), "L.ffn.out"],
    "transformer.h.{i}.post_mlp_norm": "L.ffn.post_norm",
    "transformer.h.0": ("text.embed", "input"),
    "transformer.ln_f": "text.final_norm",
    "lm_head": "text.logits",
}
TRANSFORMER_LENS: Table = {
    "embed": "text.embed",
    "blocks.{i}.hook_resid_pre": "L.in",
    "blocks.{i}.ln1": ("L.attn.pre_norm", "output, call 0"),  # for queries; again for keys and for values
    "blocks.{i}.attn.hook_q": "L.attn.q",
    "blocks.{i}.attn.hook_k": "L.attn.k",
    "blocks.{i}.attn.hook_v": "L.attn.v",
    "blocks.{i}.attn.q_norm": ("L.attn.q_norm", "(B T N) H"),
    "blocks.{i}.attn.k_norm": ("L.attn.k_norm", "(B T K) H"),
    "blocks.{i}.attn.hook_rot_q": "L.attn.q_rope",
    "blocks.{i}.attn.hook_rot_k": "L.attn.k_rope",
    "blocks.{i}.attn.hook_pattern": "L.attn.probs",
    "blocks.{i}.attn.hook_z": "L.attn.mix",
    "blocks.{i}.attn": "L.attn.out",
    "blocks.{i}.ln1_post": "L.attn.post_norm",
    "blocks.{i}.hook_resid_mid": "L.mid",
    "blocks.{i}.ln2": "L.ffn.pre_norm",
    "blocks.{i}.mlp.hook_pre": "L.ffn.gate",
    "blocks.{i}.mlp.hook_pre_linear": "L.ffn.up",
    "blocks.{i}.mlp.hook_post": "L.ffn.act",
    "blocks.{i}.mlp": "L.ffn.out",
    "blocks.{i}.ln2_post": "L.ffn.post_norm",
    "blocks.{i}.hook_resid_post": "L.out",
    "ln_final": "text.final_norm",
}
# Inputs of projections, not outputs of norms: what `torch.export.unflatten` makes of a module returns every value that
# a later module reads, not only its own result; and its arguments come in another order.
TRANSFORMERS: Table = {
    "layers.{i}.input_layernorm": ("L.in", "input"),
    "layers.{i}.self_attn.q_proj": [("L.attn.pre_norm", "input"), ("L.attn.q", HEADS)],
    "layers.{i}.self_attn.k_proj": ("L.attn.k", "B T (K H)"),
    "layers.{i}.self_attn.v_proj": ("L.attn.v", "B T (K H)"),
    "layers.{i}.self_attn.q_norm": ("L.attn.q_norm", "B N T H"),
    "layers.{i}.self_attn.k_norm": ("L.attn.k_norm", "B K T H"),
    "layers.{i}.self_attn.o_proj": [("L.attn.mix", HEADS, "input"), "L.attn.out"],
    "layers.{i}.post_attention_layernorm": "L.attn.post_norm",
    "layers.{i}.pre_feedforward_layernorm": ("L.mid", "input"),
    "layers.{i}.mlp.gate_proj": [("L.ffn.pre_norm", "input"), "L.ffn.gate"],
    "layers.{i}.mlp.up_proj": "L.ffn.up",
    "layers.{i}.mlp.down_proj": [("L.ffn.act", "input"), "L.ffn.out"],
    "layers.{i}.post_feedforward_layernorm": "L.ffn.post_norm",
    "embed_tokens": "text.embed",
}
TABLES = {"litgpt": LITGPT, "transformer_lens": TRANSFORMER_LENS, "transformers": TRANSFORMERS}
