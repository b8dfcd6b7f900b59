"""Which node of llama.cpp's graph of Gemma 3 is which tap. The same names stand in what `llama-eval-callback` prints.

A name can come several times in a layer (`Qcur-0` is the product, its reshaped view and the rotated query), so that a
node is known by its name and its operation together.
"""

import re

# (name without `-{layer}`, operation) -> tap of the layer. attn.q_rope is the node before the query scale.
LAYER_NODES = {
    ("attn_norm", "MUL"): "attn.pre_norm",
    ("Qcur", "MUL_MAT"): "attn.q",
    ("Kcur", "MUL_MAT"): "attn.k",
    ("Vcur", "MUL_MAT"): "attn.v",
    ("Qcur_normed", "MUL"): "attn.q_norm",
    ("Kcur_normed", "MUL"): "attn.k_norm",
    ("Qcur", "ROPE"): "attn.q_rope",
    ("Kcur", "ROPE"): "attn.k_rope",
    ("kq", "MUL_MAT"): "attn.scores",  # of the scaled query, unmasked
    ("kq_soft_max", "SOFT_MAX"): "attn.probs",
    ("kqv_out", "CONT"): "attn.mix",
    ("kqv_out", "RESHAPE"): "attn.mix",  # with flash attention, which has neither kq nor kq_soft_max
    ("attn_output", "MUL_MAT"): "attn.out",  # has no name of its own, see `place`
    ("attn_post_norm", "MUL"): "attn.post_norm",
    ("sa_out", "ADD"): "mid",
    ("ffn_norm", "MUL"): "ffn.pre_norm",
    ("ffn_gate", "MUL_MAT"): "ffn.gate",
    ("ffn_up", "MUL_MAT"): "ffn.up",
    ("ffn_geglu", "GEGLU"): "ffn.act",
    ("ffn_out", "MUL_MAT"): "ffn.out",
    ("ffn_post_norm", "MUL"): "ffn.post_norm",
    ("l_out", "ADD"): "out",
}
OTHER_NODES = {
    ("inp_scaled", "SCALE"): "text.embed",
    ("result_norm", "MUL"): "text.final_norm",
    ("result_output", "MUL_MAT"): "text.logits",
}
NAMED = re.compile(r"(.+)-(\d+)")
WEIGHT = re.compile(r"blk\.(\d+)\.(attn_output)\.weight")


def place(name: str, op: str, source: str) -> tuple[str, int | None]:
    """Return a node's name without its layer, and the layer; None outside layers.

    Args:
        name: of the node, as `Qcur-0`.
        op: its operation, as `MUL_MAT`.
        source: name of its first operand: the product with the output projection is known by its weight alone.

    Source: llama.cpp 0c1e57098 `src/models/gemma3.cpp`, `src/llama-graph.cpp` (`build_attn`, `build_ffn`).
    Differs: older versions name this product `node_34` too, and the feed-forward product `ffn_gate_par`.
    """
    weight = WEIGHT.fullmatch(source)
    if op == "MUL_MAT" and weight:
        return weight[2], int(weight[1])
    named = NAMED.fullmatch(name)
    return (named[1], int(named[2])) if named else (name, None)


def tap_of(name: str, op: str, source: str) -> str | None:
    """Return the tap that a node is, None for a node that is none; arguments as `place`."""
    stem, layer = place(name, op, source)
    if layer is None:
        return OTHER_NODES.get((stem, op))
    inside = LAYER_NODES.get((stem, op))
    return f"text.layer.{layer}.{inside}" if inside else None
