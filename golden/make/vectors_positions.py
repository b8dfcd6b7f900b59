"""Vectors of where tokens stand: rotary positions, and who sees whom."""

import torch
from transformers import masking_utils
from transformers.models.gemma3.modeling_gemma3 import apply_rotary_pos_emb
from vectors_form import DEEPMIND, EXACT, SEVEN_DIGITS, TRANSFORMERS, flag, mistakes, numbers, vector


def _rope(x, positions, base, factor):
    exponents = torch.arange(0, x.shape[-1], 2).double() / x.shape[-1]
    angles = torch.as_tensor(positions).double()[:, None] / (factor * base**exponents)
    angles = torch.cat([angles, angles], dim=-1)[None]
    return apply_rotary_pos_emb(x[None, None], x[None, None], angles.cos(), angles.sin())[0][0, 0]


def _interleaved(x, positions, base, factor):
    half = x.shape[-1] // 2
    turned = _rope(torch.cat([x[:, 0::2], x[:, 1::2]], dim=-1), positions, base, factor)
    return torch.stack([turned[:, :half], turned[:, half:]], dim=-1).flatten(1)


def rope():
    x, p = numbers(3, 6, seed=11), [1, 7, 40]
    local = {"x": x, "positions": p, "base": 10_000.0, "factor": 1.0}
    whole = {"x": x, "positions": p, "base": 1_000_000.0, "factor": 8.0}
    truth, whole_truth = _rope(x, p, 1e4, 1), _rope(x, p, 1e6, 8)
    ones = {"x": [[1.0] * 4] * 2, "positions": [0, 1], "base": 100.0, "factor": 1.0}
    printed = [[1.0] * 4, [-0.30116868, 0.89517075, 1.3817732, 1.0948375]]
    large = {"x": x[:1], "positions": [131_071], "base": 1_000_000.0, "factor": 8.0}
    vectors = [
        vector("ones; position 0 changes nothing", ones, printed, source=DEEPMIND, tolerance=SEVEN_DIGITS),
        vector("a local layer", local, truth, source=TRANSFORMERS),
        vector("a global layer of 4B", whole, whole_truth, source=TRANSFORMERS),
        vector("a global layer of 1B", whole | {"factor": 1.0}, _rope(x, p, 1e6, 1), source=TRANSFORMERS),
        vector("the end of the context", large, _rope(x[:1], [131_071], 1e6, 8), source=TRANSFORMERS),
    ]
    rows = [
        ("rope_interleaved", "pairs (2j, 2j + 1)", _interleaved(x, p, 1e4, 1)),
        ("rope_bases_swapped", "base of the global layers", _rope(x, p, 1e6, 1)),
        ("rope_factor_everywhere", "angles divided by 8 in a local layer too", _rope(x, p, 1e4, 8)),
        ("rope_backwards", "sine with the other sign", _rope(x, [-q for q in p], 1e4, 1)),
        ("rope_positions_from_one", "first token at position 1", _rope(x, [q + 1 for q in p], 1e4, 1)),
    ]
    vectors += mistakes(local, truth, rows, source=TRANSFORMERS)
    rows = [
        ("rope_factor_missing", "angles not divided by 8", _rope(x, p, 1e6, 1)),
        ("rope_factor_inverse", "angles times 8", _rope(x, p, 1e6, 1 / 8)),
        ("rope_bases_swapped", "base of the local layers", _rope(x, p, 1e4, 8)),
    ]
    vectors += mistakes(whole, whole_truth, rows, source=TRANSFORMERS)
    return {
        "description": "Pairs (j, j + H/2) of x[t] turn by positions[t] / (factor * base^(2j/H)) radians.",
        "axes": {"x": "T H", "positions": "T", "expected": "T H"},
        "flags": {
            "rope_interleaved": flag("wrong layout", "The pairing of GPT-J.", "Noise from position 1 on."),
            "rope_bases_swapped": flag("wrong constant", "One kind of layer has the other's base.", "Drifts."),
            "rope_factor_missing": flag(
                "missing step", "No division by 8 in 4B, 12B, 27B.", "Drifts.", "Blaizzy/mlx-vlm/pull/1709"
            ),
            "rope_factor_inverse": flag("wrong formula", "Times 8 instead of divided.", "Drifts fast."),
            "rope_factor_everywhere": flag(
                "wrong scope", "The factor belongs to global layers only.", "Drifts.", "ollama/ollama/pull/13452"
            ),
            "rope_backwards": flag("wrong formula", "Sign of the sine.", "Distances mirrored: degrades with length."),
            "rope_positions_from_one": flag("off by one", "Positions count from 0.", "None while q and k agree."),
        },
        "vectors": vectors,
    }


def _matrix(rule, prompt, start=0):
    tokens = len(prompt)
    return [[int(rule(q, k)) for k in range(tokens)] for q in range(start, tokens)]


def _mask(prompt, window, start=0):
    """Transformers' own scalar rules: causal or sliding, packed, key not padding."""
    ids = torch.tensor([prompt])
    sliding = masking_utils.sliding_window_causal_mask_function
    rules = [
        sliding(window) if window else masking_utils.causal_mask_function,
        masking_utils.packed_sequence_mask_function(ids),
        masking_utils.padding_mask_function(ids >= 0),
    ]
    both = masking_utils.and_masks(*rules)
    as_indices = lambda q, k: bool(both(0, 0, torch.tensor(q), torch.tensor(k)))  # noqa: E731
    return _matrix(as_indices, prompt, start)


def visibility():
    def case(comment, prompt, window, start=0, flags=()):
        inputs = {"prompt": prompt, "window": window, "start": start}
        truth = _mask(prompt, window, start)
        return (
            inputs,
            truth,
            vector(comment, inputs, truth, source=TRANSFORMERS, tolerance=EXACT, flags=flags),
        )

    one, padded, packed = [0] * 8, [-1, -1, 0, 0, 0, 0], [0, 0, 0, 0, 1, 1, 1]
    local, local_truth, local_vector = case("a local layer, window 4", one, 4)
    pads, pads_truth, pads_vector = case("two left pads, window 3", padded, 3, flags=["FullyMaskedRow"])
    pack, pack_truth, pack_vector = case("two packed prompts, global", packed, 0)
    band = [[1, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0], [0, 1, 1, 0, 0, 0],
            [0, 0, 1, 1, 0, 0], [0, 0, 0, 1, 1, 0], [0, 0, 0, 0, 1, 1]]  # fmt: skip
    inputs = {"prompt": [0] * 6, "window": 2, "start": 0}
    vectors = [
        vector("its two-sided band, and causal", inputs, band, source=DEEPMIND, tolerance=EXACT),
        local_vector, pads_vector, pack_vector,
        case("a global layer", one, 0)[2],
        case("window 1: itself only", [0] * 3, 1)[2],
        case("a window longer than the prompt", [0] * 4, 9)[2],
        case("packed prompts, window 2, reaching over no border", packed, 2)[2],
        case("a decode step: five keys cached, window 4", [0] * 6, 4, 5)[2],
        case("three queries on a cache of three, left pad, window 3", [-1, 0, 0, 0, 0, 0], 3, 3)[2],
    ]  # fmt: skip
    wide = [("window_plus_one", "W + 1 keys", _mask(one, 5)), ("window_minus_one", "W - 1 keys", _mask(one, 3)),
            ("window_half", "W / 2 keys", _mask(one, 2)), ("window_ignored", "all earlier", _mask(one, 0)),
            ("no_causal", "window on both sides", _matrix(lambda q, k: abs(q - k) < 4, one))]  # fmt: skip
    vectors += mistakes(local, local_truth, wide, source=TRANSFORMERS, tolerance=EXACT)
    seen = _matrix(lambda q, k: k <= q and q - k < 3, padded)
    rows = [("pads_visible", "pads are keys like others", seen)]
    vectors += mistakes(pads, pads_truth, rows, source=TRANSFORMERS, tolerance=EXACT)
    at = [0, 1, 2, 3, 0, 1, 2]
    rows = [
        ("packed_by_restarted_positions", "restarted positions compared", _matrix(lambda q, k: at[k] <= at[q], packed)),
        ("packed_leak", "causal over the whole row", _matrix(lambda q, k: k <= q, packed)),
    ]
    vectors += mistakes(pack, pack_truth, rows, source=TRANSFORMERS, tolerance=EXACT)
    return {
        "description": "Query i sees key j iff both belong to one prompt (-1 is padding), j <= i, and "
        "window is 0 or i - j < window; rows are the queries from start on.",
        "axes": {"prompt": "S", "expected": "T S"},
        "flags": {
            "window_plus_one": flag(
                "off by one",
                "A window of W holds W keys, the query's own included.",
                "Slightly wrong beyond W tokens.",
                "ml-explore/mlx-lm/pull/390",
            ),
            "window_minus_one": flag(
                "off by one",
                "A window of W holds W keys, the query's own included.",
                "Slightly wrong from W tokens on.",
            ),
            "window_half": flag("wrong constant", "W/2 belongs to two-sided models.", "Wrong beyond W/2 tokens."),
            "window_ignored": flag("missing step", "Local layers see everything.", "Garbage beyond W tokens."),
            "no_causal": flag("wrong rule", "Later tokens visible.", "Noise."),
            "pads_visible": flag("wrong rule", "Padding visible.", "A prompt's output depends on its batch."),
            "packed_by_restarted_positions": flag(
                "wrong rule", "Positions of different prompts compared.", "Prompts mix."
            ),
            "packed_leak": flag("missing step", "Borders of packed prompts ignored.", "Prompts mix."),
            "FullyMaskedRow": flag("edge case", "A padded query sees nothing.", "See softmax."),
        },
        "vectors": vectors,
    }
