"""Vectors of attention: softmax over what is visible, and grouped queries."""

import torch
import torch.nn.functional as F
from vectors_form import flag, mistakes, numbers, vector


def _softmax(scores, visible):
    return scores.masked_fill(~visible.bool(), -torch.inf).softmax(-1)


def softmax():
    scores, visible = (
        numbers(3, 5, seed=12),
        torch.tensor([[1, 1, 0, 0, 0], [1, 1, 1, 1, 1], [0, 0, 1, 1, 0]]),
    )
    inputs, truth = {"scores": scores, "visible": visible}, _softmax(scores, visible)
    huge = torch.tensor([[1e4, 1e4 - 1, -1e4, 0.0]]).double()
    empty = {"scores": scores[:1, :4], "visible": torch.zeros(1, 4).int()}
    uniform = (scores[:1, :4] + torch.finfo(torch.float64).min).softmax(-1)
    rows = [("MaskIgnored", "all keys", scores.softmax(-1)),
            ("mask_multiplied", "hidden scores set to 0", (scores * visible).softmax(-1)),
            ("MaskAfter", "mask after the softmax", scores.softmax(-1) * visible)]  # fmt: skip
    return {
        "description": "probs[t, s] = exp(scores[t, s]) / sum_visible s' exp(scores[t, s']); 0 elsewhere.",
        "axes": {"scores": "T S", "visible": "T S", "expected": "T S"},
        "flags": {
            "MaskIgnored": flag("missing step", "No mask.", "Noise."),
            "mask_multiplied": flag("wrong formula", "A hidden score is -infinity, not 0.", "Hidden keys leak."),
            "MaskAfter": flag("wrong order", "Mask after the softmax.", "Probabilities do not sum to 1."),
            "SoftmaxOverflow": flag("overflow", "No maximum subtracted: exp(10000).", "NaN."),
            "FullyMaskedRow": flag(
                "edge case",
                "A query that sees nothing: zeros here and in ONNX, 1/S each where the "
                "mask is a large negative number added. Such rows take no part in verdicts.",
                "None.",
            ),
        },
        "vectors": [
            vector("three rows", inputs, truth),
            vector(
                "huge scores",
                {"scores": huge, "visible": [[1] * 4]},
                huge.softmax(-1),
                flags=["SoftmaxOverflow"],
            ),
            vector("one key", {"scores": [[3.0, 5.0]], "visible": [[0, 1]]}, [[0.0, 1.0]]),
            vector("an empty row", empty, [[0.0] * 4], flags=["FullyMaskedRow"], source="ONNX Attention"),
            *mistakes(inputs, truth, rows),
            *mistakes(empty, torch.zeros(1, 4).double(), [("FullyMaskedRow", "uniform", uniform)], result="may"),
        ],
    }


def _attend(q, k, v, visible, scale):
    heads = (x.transpose(0, 1)[None] for x in (q, k, v))  # T N H -> 1 N T H
    mask = visible.bool()[None, None]
    out = F.scaled_dot_product_attention(*heads, attn_mask=mask, scale=scale, enable_gqa=True)
    return out[0].transpose(0, 1)


def gqa_attention():
    q, k, v = numbers(3, 6, 4, seed=13), numbers(4, 2, 4, seed=14), numbers(4, 2, 4, seed=15)
    visible = torch.tensor([[0, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]])  # slot 0 is a pad; window 2
    scale = 0.4
    inputs = {"q": q, "k": k, "v": v, "visible": visible, "scale": scale}
    truth = _attend(q, k, v, visible, scale)
    tiled = [x.repeat(1, 3, 1) for x in (k, v)]
    single = {"q": q[:1, :2], "k": k[:1], "v": v[:1], "visible": [[1]], "scale": 0.5}
    pad, wide = visible.clone(), visible.clone()
    pad[:, 0], wide[2, 1] = 1, 1
    rows = [
        (("gqa_tiled_keys", "gqa_tiled_values"), "head n reads kv head n mod K", _attend(q, *tiled, visible, scale)),
        ("scale_of_head_dim", "H^-0.5 = 0.5 instead of 0.4", _attend(q, k, v, visible, 0.5)),
        ("scale_missing", "no scale", _attend(q, k, v, visible, 1.0)),
        ("scale_twice", "on q and on the scores", _attend(q, k, v, visible, scale**2)),
        ("pads_visible", "slot 0 visible", _attend(q, k, v, pad, scale)),
        ("window_plus_one", "one key more in the last row", _attend(q, k, v, wide, scale)),
        ("no_causal", "all keys", _attend(q, k, v, torch.ones(3, 4), scale)),
        ("attention_softcap", "scores through 2 tanh(s / 2)", _softcapped(q, k, v, visible, scale)),
    ]
    return {
        "description": "out[t, n] = sum_s softmax_s(scale * q[t, n] . k[s, g]) * v[s, g], g = n // (N/K)",
        "axes": {"q": "T N H", "k": "S K H", "v": "S K H", "visible": "T S", "expected": "T N H"},
        "flags": {
            "gqa_tiled_keys": flag(
                "wrong order", "Heads tiled over kv heads, not grouped.", "Only where K > 1: 4B and up."
            ),
            "gqa_tiled_values": flag(
                "wrong order", "Values tiled as the keys are, not grouped.", "Only where K > 1: 4B and up."
            ),
            "scale_of_head_dim": flag("wrong constant", "27B scales by 168^-0.5, not 128^-0.5.", "Only in 27B."),
            "scale_missing": flag("missing step", "Scores not scaled.", "Attention too sharp."),
            "scale_twice": flag("doubled step", "Scaled in q and in the kernel.", "Attention too flat."),
            "pads_visible": flag("wrong rule", "Padding visible.", "A prompt's output depends on its batch."),
            "window_plus_one": flag(
                "off by one", "W + 1 keys.", "Slightly wrong beyond W tokens.", "ml-explore/mlx-lm/pull/390"
            ),
            "no_causal": flag("wrong rule", "Later tokens visible.", "Noise."),
            "attention_softcap": flag(
                "wrong step", "The softcap of Gemma 2 (50 there; 2 here).", "Large scores squashed."
            ),
        },
        "vectors": [
            vector("6 heads in 2 groups, a pad, window 2", inputs, truth),
            vector("one key: its value", single, _attend(q[:1, :2], k[:1], v[:1], torch.ones(1, 1), 0.5)),
            *mistakes(inputs, truth, rows),
        ],
    }


def _softcapped(q, k, v, visible, scale):
    k, v = (x.repeat_interleave(3, dim=1) for x in (k, v))
    scores = 2 * torch.tanh(torch.einsum("tnh,snh->nts", q, k) * scale / 2)
    return torch.einsum("nts,snh->tnh", _softmax(scores, visible[None]), v)
