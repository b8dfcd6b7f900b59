"""Vectors of the ops that work on rows: norm, embedding, linear, gelu, gate."""

import torch
import torch.nn.functional as F
from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm
from vectors_form import DEEPMIND, SEVEN_DIGITS, TRANSFORMERS, flag, mistakes, numbers, vector


def _norm(x, scale, eps):
    return F.rms_norm(x, scale.shape, weight=1 + scale, eps=eps)


def _check_against_gemma(x, scale, eps):
    # torch knows no Gemma; its formula with weight 1 + w is what transformers computes, in float32
    module = Gemma3RMSNorm(len(scale), eps)
    module.weight.data = scale.clone()
    assert torch.allclose(module(x).float(), _norm(x, scale, eps).float(), rtol=1e-5, atol=1e-6)


def rms_norm():
    x, scale = numbers(3, 5, seed=1), numbers(5, seed=2) / 2
    tiny = numbers(2, 4, seed=3, unit=100_000)
    gain = numbers(4, seed=4)
    root = tiny.pow(2).mean(-1, keepdim=True).sqrt()
    large, small = {"x": x, "scale": scale, "eps": 1e-6}, {"x": tiny, "scale": gain, "eps": 1e-6}
    truth, small_truth = _norm(x, scale, 1e-6), _norm(tiny, gain, 1e-6)
    _check_against_gemma(x, scale, 1e-6)
    _check_against_gemma(tiny, gain, 1e-6)
    unit, zeros = _norm(x, torch.zeros(5).double(), 1e-6), torch.zeros(2, 3).double()
    literature = {"x": [[0.1, 0.2]], "scale": [0.0, 0.0], "eps": 1e-6}
    printed = [[0.6324429, 1.2648858]]
    vectors = [
        vector("mean square .025, gain 1", literature, printed, source=DEEPMIND, tolerance=SEVEN_DIGITS),
        vector("ordinary rows, gain 1 + scale", large, truth),
        vector("rows so small that eps has a say", small, small_truth, flags=["norm_eps_1e-5"]),
        vector("zeros stay zeros", {"x": zeros, "scale": gain[:3], "eps": 1e-6}, zeros),
        vector("scale -1 silences a row", {"x": x, "scale": -torch.ones(5), "eps": 1e-6}, x * 0),
    ]
    centred = x - x.mean(-1, keepdim=True)
    vectors += mistakes(
        large,
        truth,
        [
            ("norm_without_plus_one", "scale instead of 1 + scale", unit * scale),
            ("norm_plus_one_twice", "2 + scale: an offset file on an offset norm", unit * (2 + scale)),
            ("norm_subtracts_mean", "a LayerNorm", _norm(centred, scale, 1e-6)),
        ],
    )
    vectors += mistakes(
        small,
        small_truth,
        [
            ("norm_eps_outside_root", "x / (root + eps)", tiny / (root + 1e-6) * (1 + gain)),
            ("norm_eps_1e-5", "eps 1e-5, the default elsewhere", _norm(tiny, gain, 1e-5)),
        ],
    )
    return {
        "description": "y[t, d] = x[t, d] / sqrt(mean_d(x[t, d]^2) + eps) * (1 + scale[d])",
        "axes": {"x": "T D", "scale": "D", "expected": "T D"},
        "flags": {
            "norm_without_plus_one": flag(
                "wrong formula",
                "Gain used as w; Gemma stores w - 1.",
                "Noise.",
                "linkedin/Liger-Kernel/pull/85",
            ),
            "norm_plus_one_twice": flag(
                "wrong conversion", "GGUF stores 1 + w; 1 was added again.", "Activations too large."
            ),
            "norm_subtracts_mean": flag("wrong formula", "LayerNorm instead of RMSNorm.", "Wrong everywhere."),
            "norm_eps_outside_root": flag("wrong formula", "eps added to the root, not under it.", "Small rows wrong."),
            "norm_eps_1e-5": flag(
                "wrong constant", "eps 1e-5 instead of 1e-6.", "Rows of mean square near 1e-5 wrong."
            ),
        },
        "vectors": vectors,
    }


def layer_norm():
    x, gain, bias = (1 + numbers(3, 5, seed=17)).round(decimals=2), numbers(5, seed=18), numbers(5, seed=19)
    tiny = numbers(2, 4, seed=20, unit=100_000)
    large = {"x": x, "gain": gain, "bias": bias, "eps": 1e-6}
    small = {"x": tiny, "gain": gain[:4], "bias": bias[:4] / 1000, "eps": 1e-6}
    truth, small_truth = (
        F.layer_norm(x, (5,), gain, bias, 1e-6),
        F.layer_norm(tiny, (4,), gain[:4], bias[:4] / 1000, 1e-6),
    )
    equal = torch.full((2, 3), 0.7).double().round(decimals=1)
    level = {"x": equal, "gain": gain[:3], "bias": bias[:3], "eps": 1e-6}
    vectors = [
        vector("rows whose mean is not 0", large, truth),
        vector("rows so small that eps has a say", small, small_truth, flags=["layer_norm_eps_1e-5"]),
        vector("equal values become the bias", level, F.layer_norm(equal, (3,), gain[:3], bias[:3], 1e-6)),
    ]
    vectors += mistakes(
        large,
        truth,
        [
            ("layer_norm_plus_one", "1 + gain, as in Gemma's RMSNorm", F.layer_norm(x, (5,), 1 + gain, bias, 1e-6)),
            ("MissingBias", "no bias", F.layer_norm(x, (5,), gain, None, 1e-6)),
            ("RmsInsteadOfLayerNorm", "the mean not taken off", F.rms_norm(x, (5,), gain, 1e-6) + bias),
        ],
    )
    rows = [
        (
            "layer_norm_eps_1e-5",
            "eps 1e-5, torch's default",
            F.layer_norm(tiny, (4,), small["gain"], small["bias"], 1e-5),
        )
    ]
    vectors += mistakes(small, small_truth, rows)
    return {
        "description": "y[t, d] = (x[t, d] - mean_d) / sqrt(mean_d((x[t, d] - mean_d)^2) + eps) * gain[d] + bias[d]",
        "axes": {"x": "T D", "gain": "D", "bias": "D", "expected": "T D"},
        "flags": {
            "layer_norm_plus_one": flag(
                "wrong formula", "Gain used as 1 + w; SigLIP stores w itself.", "Image features are noise."
            ),
            "MissingBias": flag("missing step", "The bias left out.", "Image features are wrong."),
            "RmsInsteadOfLayerNorm": flag(
                "wrong formula", "The text model's norm in the vision tower.", "Image features are wrong."
            ),
            "layer_norm_eps_1e-5": flag(
                "wrong constant", "eps 1e-5 instead of 1e-6.", "Rows of variance near 1e-5 wrong."
            ),
        },
        "vectors": vectors,
    }


def embed_scale():
    table = numbers(6, 5, seed=5)
    ids = torch.tensor([3, 0, 3, 5])
    inputs, truth = {"ids": ids, "table": table}, F.embedding(ids, table) * 5**0.5
    rounded = torch.tensor(5**0.5).bfloat16().double()
    vectors = [
        vector("width 5: 2.23606797749979 times the row", inputs, truth),
        vector("width 4: exactly twice", {"ids": [1], "table": table[:2, :4]}, 2 * table[1:2, :4]),
    ]
    rows = [("embed_unscaled", "the bare row", F.embedding(ids, table)),
            ("embed_scaled_twice", "times D", F.embedding(ids, table) * 5)]  # fmt: skip
    vectors += mistakes(inputs, truth, rows)
    may = [("embed_scale_bfloat16", "sqrt(5) rounded to bfloat16: 2.234375", F.embedding(ids, table) * rounded)]
    vectors += mistakes(inputs, truth, may, result="may", source=TRANSFORMERS)
    return {
        "description": "h[t, d] = table[ids[t], d] * sqrt(D)",
        "axes": {"ids": "T", "table": "V D", "expected": "T D"},
        "flags": {
            "embed_unscaled": flag("missing step", "No factor sqrt(D).", "Text degenerates."),
            "embed_scaled_twice": flag("wrong formula", "Factor D instead of its root.", "Text degenerates."),
            "embed_scale_bfloat16": flag(
                "convention",
                "sqrt(D) rounded to bfloat16 first: transformers and google-deepmind/gemma in bfloat16 runs, "
                "MLX and gemma.cpp always.",
                "Up to 0.24 % in the embedding.",
            ),
        },
        "vectors": vectors,
    }


def linear():
    x, weight, square = numbers(3, 4, seed=6), numbers(5, 4, seed=7), numbers(4, 4, seed=8)
    inputs, truth = {"x": x, "weight": square}, F.linear(x, square)
    return {
        "description": "y[t, r] = sum_c x[t, c] * weight[r, c]; no bias",
        "axes": {"x": "T I", "weight": "O I", "expected": "T O"},
        "flags": {
            "LinearTransposed": flag("wrong layout", "weight read as [in, out].", "Runs on square weights; noise.")
        },
        "vectors": [
            vector("five outputs of four inputs", {"x": x, "weight": weight}, F.linear(x, weight)),
            vector("a square weight, whose layout shows only in values", inputs, truth),
            *mistakes(inputs, truth, [("LinearTransposed", "x @ weight", x @ square)]),
        ],
    }


def gelu_tanh():
    x = torch.tensor([-2.7, -1.0, -0.1, 0.0, 0.1, 1.0, 2.7]).double().round(decimals=1)
    inputs, truth = {"x": x}, F.gelu(x, approximate="tanh")
    far = torch.tensor([-40.0, -12.0, -6.0, 6.0, 12.0, 40.0]).double()
    rows = [("gelu_erf", "x/2 (1 + erf(x / sqrt 2))", F.gelu(x)), ("ffn_silu", "x * sigmoid(x)", F.silu(x))]
    return {
        "description": "y = x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3)))",
        "axes": {"x": "F", "expected": "F"},
        "flags": {
            "gelu_erf": flag("wrong function", "The exact GELU.", "Up to 4.73e-4, at |x| = 2.70."),
            "ffn_silu": flag("wrong function", "The activation of Llama.", "Text degenerates."),
        },
        "vectors": [
            vector("around 0 and at +-2.7, where erf differs most", inputs, truth),
            vector("far out: 0 on the left, x on the right", {"x": far}, F.gelu(far, approximate="tanh")),
            *mistakes(inputs, truth, rows),
        ],
    }


def geglu():
    gate, up = numbers(7, seed=9), numbers(7, seed=10)
    inputs, truth = {"gate": gate, "up": up}, F.gelu(gate, approximate="tanh") * up
    rows = [
        ("gate_up_swapped", "gelu(up) * gate", F.gelu(up, approximate="tanh") * gate),
        ("ffn_no_activation", "gate * up", gate * up),
        ("ffn_silu", "silu(gate) * up", F.silu(gate) * up),
        ("gelu_erf", "gate/2 (1 + erf(gate / sqrt 2)) * up", F.gelu(gate) * up),
    ]
    return {
        "description": "act[f] = gelu_tanh(gate[f]) * up[f]",
        "axes": {"gate": "F", "up": "F", "expected": "F"},
        "flags": {
            "gate_up_swapped": flag("wrong order", "Activation on the wrong half of a fused weight.", "Noise."),
            "ffn_no_activation": flag("missing step", "No activation.", "Text degenerates."),
            "ffn_silu": flag("wrong function", "SwiGLU, as in Llama.", "Text degenerates."),
            "gelu_erf": flag("wrong function", "The exact GELU.", "Up to 4.73e-4 of up, at |gate| = 2.70."),
        },
        "vectors": [vector("seven pairs", inputs, truth), *mistakes(inputs, truth, rows)],
    }
