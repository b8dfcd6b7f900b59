"""Which value is which tap, in graphs written node by node: names of nodes, fused operations, other masks."""

from pathlib import Path

import pytest
from support.onnx_captures import needs

from ref.capture.onnx.graph import SCOPES, Graph
from ref.capture.onnx.names import find_names
from ref.capture.onnx.value import Value

pytestmark = needs("onnx")
LAYER = "/model/layers.0"
# as onnxruntime-genai 0.15.2 builds it: operation, name, inputs, outputs
GENAI = [
    ("Mul", "/model/embed_tokens/Mul", "row", "embedded"),
    ("SimplifiedLayerNormalization", f"{LAYER}/input_layernorm/LayerNorm", "embedded w", "pre_norm"),
    ("MatMul", f"{LAYER}/attn/qkv_proj/MatMul", "pre_norm w", "qkv"),
    ("Split", f"{LAYER}/attn/qkv_proj/Split", "qkv parts", "q k v"),
    ("SimplifiedLayerNormalization", f"{LAYER}/attn/q_norm/LayerNorm", "q w", "q_norm"),
    ("Reshape", f"{LAYER}/attn/q_norm/Reshape_2", "q_norm shape", "q_flat"),
    ("SimplifiedLayerNormalization", f"{LAYER}/attn/k_norm/LayerNorm", "k w", "k_norm"),
    ("Reshape", f"{LAYER}/attn/k_norm/Reshape_2", "k_norm shape", "k_flat"),
    ("GroupQueryAttention", f"{LAYER}/attn/GroupQueryAttention", "q_flat k_flat v past past", "mix present value"),
    ("MatMul", f"{LAYER}/attn/o_proj/MatMul", "mix w", "attn_out"),
    ("SimplifiedLayerNormalization", f"{LAYER}/post_attention_layernorm/LayerNorm", "attn_out w", "post_norm"),
    (
        "SkipSimplifiedLayerNormalization",
        f"{LAYER}/pre_feedforward_layernorm/SkipLayerNorm",
        "embedded post_norm w",
        "ffn_norm _ _ mid",
    ),
    ("MatMul", f"{LAYER}/mlp/gate_proj/MatMul", "ffn_norm w", "gate"),
    ("MatMul", f"{LAYER}/mlp/up_proj/MatMul", "ffn_norm w", "up"),
    ("Gelu", f"{LAYER}/mlp/act_fn/Gelu", "gate", "gelu"),
    ("Mul", f"{LAYER}/mlp/Mul", "gelu up", "act"),
    ("MatMul", f"{LAYER}/mlp/down_proj/MatMul", "act w", "ffn_out"),
    ("SimplifiedLayerNormalization", f"{LAYER}/post_feedforward_layernorm/LayerNorm", "ffn_out w", "ffn_post"),
    (
        "SkipSimplifiedLayerNormalization",
        "/model/layers.1/final_norm_layernorm/SkipLayerNorm",
        "mid ffn_post w",
        "final",
    ),
    ("MatMul", "/lm_head/MatMul", "final w", "logits"),
]
# an attention between norms whose heads come first, as torch exports it; the rest of a layer is not there
ATTENTION = [
    ("Transpose", "self_attn", "q", "q_first"),
    ("Mul", "self_attn.q_norm", "q_first w", "q_norm"),
    ("Transpose", "self_attn", "k", "k_first"),
    ("Mul", "self_attn.k_norm", "k_first w", "k_norm"),
    ("Add", "self_attn", "q_norm turned", "q_rope"),
    ("Expand", "self_attn", "k_norm shape", "k_all"),
    ("Transpose", "self_attn", "k_all", "k_turned"),
    ("MatMul", "self_attn", "q_rope k_turned", "product"),
    ("Mul", "self_attn", "product scale", "scores"),
    ("Where", "self_attn", "MASK", "masked"),
    ("Softmax", "self_attn", "masked", "soft"),
    ("MatMul", "self_attn", "soft v", "mixed"),
    ("Mul", "pre_feedforward_layernorm", "mixed w", "after"),
]


def split(text):
    return ["" if name == "_" else name for name in text.split()]


def graph_of(rows, scoped=False):
    from onnx import helper

    nodes = []
    for op, name, inputs, outputs in rows:
        node = helper.make_node(op, split(inputs), split(outputs), name="" if scoped else name)
        if scoped:
            node.metadata_props.add(key=SCOPES, value=str(["", "model", f"model.layers.0.{name}", op]))
        if op == "Transpose" and outputs.endswith("_first"):
            node.attribute.append(helper.make_attribute("perm", [0, 2, 1, 3]))
        nodes.append(node)
    proto = helper.make_model(helper.make_graph(nodes, "graph", [], []))
    proto.graph.output.add(name=split(rows[-1][3])[0])
    return Graph(Path("model.onnx"), proto)


def test_names_of_nodes_serve_where_there_are_no_scopes():
    names = find_names(graph_of(GENAI))
    found = {tap.removeprefix("text.layer.0."): value.name for tap, value in names.values.items()}
    assert found == {
        "text.embed": "embedded",
        "in": "embedded",
        "attn.pre_norm": "pre_norm",
        "attn.q": "q",
        "attn.k": "k",
        "attn.v": "v",
        "attn.q_norm": "q_flat",
        "attn.k_norm": "k_flat",
        "attn.k_rope": "present",
        "attn.mix": "mix",
        "attn.out": "attn_out",
        "attn.post_norm": "post_norm",
        "mid": "mid",
        "ffn.pre_norm": "ffn_norm",
        "ffn.gate": "gate",
        "ffn.up": "up",
        "ffn.act": "act",
        "ffn.out": "ffn_out",
        "ffn.post_norm": "ffn_post",
        "text.final_norm": "final",
        "text.logits": "logits",
    }
    assert (names.layers, names.values["text.layer.0.attn.k_rope"].layout) == (1, "B K S H")
    missing = {tap.removeprefix("text.layer.0.") for tap in names.missing}
    assert missing == {"attn.q_rope", "attn.visible", "attn.scores", "attn.probs", "out"}


@pytest.mark.parametrize(
    ("mask", "says"), [("seen scores least", "seen"), ("hidden least scores", "hidden"), ("seen least least", None)]
)
def test_a_mask_of_booleans_says_what_is_seen_or_what_is_hidden(mask, says):
    rows = [(op, name, mask if inputs == "MASK" else inputs, made) for op, name, inputs, made in ATTENTION]
    names = find_names(graph_of(rows, scoped=True))
    if says is None:  # the softmax is not of the scores
        assert names.missing["text.layer.0.attn.scores"] == "no value before the Softmax is made from the queries"
        return
    assert names.values["text.layer.0.attn.visible"] == Value(says, mask=says)
    assert names.values["text.layer.0.attn.scores"] == Value("scores")
    assert names.values["text.layer.0.attn.q_rope"] == Value("q_rope", "B N T H")
    # no rotation: what the norm made is what is compared with the queries
    assert names.values["text.layer.0.attn.k_rope"] == Value("k_norm", "B K T H")
    assert names.values["text.layer.0.attn.probs"] == Value("soft")
