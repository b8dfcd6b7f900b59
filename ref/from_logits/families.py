"""The families: which numbers of the whole model may be wrong, and where each is looked for."""

from collections.abc import Callable

import numpy as np

from ref.config import TextConfig
from ref.emulate.operands import ROUND
from ref.emulate.text_rules import scores_of
from ref.from_logits.parameters import Family
from ref.from_logits.rules import capped, embedded, headed, norms, rotated, scores, shifted, window
from ref.hypotheses.rotation_formats import rounded_frequencies, rounded_table
from ref.mutants.needs import Needs

RATIOS = (0.25, 0.5, 0.7, 0.85, 0.97, 1.03, 1.15, 1.4, 2.0, 4.0)


def _around(wanted: Callable[[TextConfig], float], *more: Callable[[TextConfig], float]):
    return lambda config: [*(ratio * wanted(config) for ratio in RATIOS), *(one(config) for one in more)]


def _root(config: TextConfig) -> float:
    return float(np.sqrt(config.width))


def _scale(config: TextConfig) -> float:
    return config.query_scale


FAMILIES = [
    Family(
        "positions_shifted",
        "n",
        "Queries are rotated by positions {value} later than keys.",
        shifted,
        lambda config: 0,
        lambda config: (-4, -3, -2, -1, 1, 2, 3, 4),
        "none",
        needs=Needs(position=1),
    ),
    Family(
        "positions_scaled",
        "factor",
        "Positions are multiplied by {value}.",
        lambda factor: rotated(lambda at: at.places(positions=at.one_pass.positions * factor)),
        lambda config: 1.0,
        lambda config: (0.25, 0.5, 0.8, 1.25, 2.0, 4.0),
        needs=Needs(position=1),
    ),
    *(
        Family(
            "rotary_base",
            "base",
            f"The rotary base of {kind} layers is {{value}} instead of {{wanted}}.",
            lambda base: rotated(lambda at: at.places(base=base)),
            wanted,
            grid,
            kind=kind,
            needs=Needs(position=1),
        )
        for kind, wanted, grid in (
            ("local", lambda c: c.rope_base_local, lambda c: (1e3, 5e3, 2e4, 4e4, 1e5, 2.5e5, 5e5, 1e6)),
            ("global", lambda c: c.rope_base_global, lambda c: (1e4, 5e4, 1e5, 2.5e5, 5e5, 2e6, 5e6, 1e7)),
        )
    ),
    Family(
        "rotary_factor",
        "factor",
        "The angles of global layers are divided by {value} instead of {wanted}.",
        lambda factor: rotated(lambda at: at.places(factor=factor)),
        lambda config: config.rope_factor,
        lambda config: [f for f in (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0) if f != config.rope_factor],
        kind="global",
        needs=Needs(position=1, global_layer=True),
    ),
    Family(
        "rotary_frequencies_rounded",
        "format",
        "The rotary frequencies are rounded to {value}, as by model.to of this type.",
        lambda form: rotated(lambda at: rounded_frequencies(at, ROUND[form])),
        lambda config: "float32",
        lambda config: ("bfloat16", "float16"),
        "none",
        needs=Needs(position=1),
    ),
    Family(
        "rotary_table_rounded",
        "format",
        "Cosines and sines are rounded to {value}.",
        lambda form: rotated(lambda at: rounded_table(at, ROUND[form])),
        lambda config: "float32",
        lambda config: ("bfloat16", "float16"),
        "none",
        needs=Needs(position=1),
    ),
    Family(
        "softmax_scale",
        "scale",
        "Scores are multiplied by {value} instead of {wanted}.",
        lambda scale: scores(lambda at: scores_of(at, scale=scale)),
        _scale,
        _around(_scale, lambda c: (c.width / c.query_heads) ** -0.5, lambda c: c.head_dim**-0.5),
        needs=Needs(tokens=2),
    ),
    Family(
        "attention_softcap_of",
        "cap",
        "Scores go through a softcap of {value}.",
        lambda cap: scores(lambda at: capped(cap)(scores_of(at))),
        lambda config: "none",
        lambda config: (5.0, 10.0, 20.0, 30.0, 50.0, 100.0),
        needs=Needs(tokens=2),
    ),
    Family(
        "logit_softcap_of",
        "cap",
        "Logits go through a softcap of {value}.",
        lambda cap: headed(capped(cap)),
        lambda config: "none",
        lambda config: (5.0, 10.0, 20.0, 30.0, 50.0, 100.0),
    ),
    Family(
        "logits_scaled",
        "scale",
        "Logits are multiplied by {value}, as by a temperature.",
        lambda scale: headed(lambda x: x * x.dtype.type(scale)),
        lambda config: 1.0,
        _around(lambda config: 1.0),
    ),
    Family(
        "embedding_scaled",
        "scale",
        "Embeddings are multiplied by {value} instead of {wanted}.",
        embedded,
        _root,
        _around(_root, lambda c: float(int(_root(c)))),
    ),
    Family(
        "norm_epsilon",
        "epsilon",
        "RMSNorm's epsilon is {value} instead of {wanted}.",
        lambda eps: norms(eps=eps),
        lambda config: config.rms_eps,
        lambda config: [eps for eps in (1e-8, 1e-7, 1e-5, 1e-4, 1e-3, 1e-2) if eps != config.rms_eps],
    ),
    Family(
        "norm_gain_offset",
        "offset",
        "RMSNorm multiplies by {value} + w instead of 1 + w.",
        lambda offset: norms(lambda w: w + (w.dtype.type(offset) - 1)),
        lambda config: 1.0,
        lambda config: (0.0, 0.5, 0.9, 1.1, 1.5, 2.0),
        "linear",
    ),
]
WINDOW = Family(
    "window",
    "n",
    "Local layers see {value} keys instead of {wanted}.",
    window,
    lambda config: config.window,
    lambda config: [n for n in (config.window // 4, config.window // 2, 2 * config.window, 8 * config.window) if n],
    "integer",
    "local",
    Needs(tokens=2),
)
HORIZON = WINDOW._replace(
    name="horizon",
    what="Global layers see {value} keys instead of all.",
    wanted=lambda config: "all",
    kind="global",
)
