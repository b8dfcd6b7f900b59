"""Reports as `compare` makes them, of any size and with what findings a test wants: nothing is judged here."""

import numpy as np
from support.report_causes import PROOF, cause, parameter, unexplained

from ref.model.taps import tap_group, tap_names, tap_row

POLICY = {"compute_dtype": "float32", "matmul_activations": "float32", "kv_dtype": "float32"}
POLICY |= {"rope_angle": "float32", "attention_impl": "eager", "judged_as": "float32"}
PRODUCER = {"name": "transformers", "version": "5.23.0"}
WEIGHTS = {
    "name": "270m",
    "dtype": "float32",
    "sha256": None,
    "judged_against": "270m",
    "held_as": "file",
    "from": "default",
}
WRONG = "text.layer.3.attn.q_rope"
HOSTILE = '</script><script>document.title="owned"</script><img src=x onerror=alert(1)>"\'&{{x}}%{y}'
STRANGE = "a\x1b[31m\x00\x07\u202eb\ud800\x85\n\ufffe"
INF = float("inf")


def mutant(name, what, c, stderr, left, number, verdict):
    numbers = {"coefficient": c, "stderr": stderr, "left": left, "class": number, "verdict": verdict}
    return {"mutant": name, "what": what, "seen_in": ["owner/port#7"], "needs": "a few tokens", **numbers}


NAMED = [
    mutant("rope_interleaved", "RoPE pairs channels 2j and 2j + 1.", 0.99981, 0.00031, 0.83, 0, "named"),
    mutant("rope_backwards", "The sign of the sine is wrong.", 0.118, 0.021, 37.2, 1, "undetermined"),
    mutant("rope_missing", "Queries and keys are not rotated.", 0.0021, 0.0087, 41.0, 2, "cleared"),
    mutant("rope_exponent_half", "The exponent is j/H instead of 2j/H.", -0.013, 0.0093, 41.1, 3, "cleared"),
    mutant("rope_factor_inverse", "Angles are multiplied by 8.", 310.5, 12.0, 4.1e5, 4, "cleared"),
]
TIED = [
    mutant("rope_factor_missing", "Global layers' angles are not divided by 8.", 1.0002, 0.004, 0.9, 0, "tied"),
    mutant("rope_local_base_everywhere", "Every layer has the base 10,000.", 0.9991, 0.005, 1.1, 0, "tied"),
    *NAMED[2:4],
]
HIDDEN = [NAMED[0] | {"mutant": "gelu_erf", "left": None, "hidden": True, "taps": [WRONG], "stderr": 0.02}]


def example(layers=18, vision_layers=0, tokens=40, passes=1, seed=0):
    """Make (report, profiles) of a dump that matches: numbers about the floor, each of them another."""
    rng = np.random.default_rng(seed)
    rows, profiles = [], {}
    for number in range(passes):
        for tap in tap_names(layers, passes > 1, 0 if number else vision_layers):
            rows.append(row_of(tap, number, rng))
            count = tokens if number == 0 else 1
            profiles[number, tap] = profile_of(rng, count, 640)
    report = {
        "format": "gemma3-ref report",
        "format_version": 1,
        "kind": "compare",
        "verdict": "match",
        "first": None,
        "taps": rows,
        "diagnosis": [],
        "causes": [],
        "proof": None,
        "bases": [],
        "tried": {"catalogue": 0, "families": [], "not_tried": []},
        "fits": [],
        "next": [],
        "decide": "",
        "coverage": [
            f"{tokens} tokens are no more than the window of 512: the window was not exercised",
            "no image: tower, projector, merge and image blocks were not exercised",
        ],
        "unaligned": [{"name": "model.rotary_emb.inv_freq", "why": "no such value in this pass of this model"}],
        "producer": dict(PRODUCER),
        "policy": dict(POLICY),
        "weights": dict(WEIGHTS),
        "passes": [{"ids": 1 if n else tokens, "cached": tokens + n - 1 if n else 0} for n in range(passes)],
        "compared": {"taps": len(rows), "of_dump": len(rows), "of_model": len(rows)},
        "arithmetic": None,
        "settings": [],
        "notes": [],
        "seconds": 12.3,
    }
    return report, profiles


def row_of(tap, number, rng):
    known = tap_row(tap)
    exact = bool(known and known.op in ("residual stream", "cache", "visible_keys"))
    parts = tap.split(".")
    row = {"tap": tap, "group": tap_group(tap), "layer": int(parts[2]) if parts[1] == "layer" else None}
    row |= {"pass": number, "dtype": "float32", "verdict": "match", "why": "", "exact": exact}
    floor, local, inherited = 1.1e-7 * rng.uniform(0.5, 9), rng.uniform(0.2, 1.4), rng.uniform(0.1, 1.8)
    row |= {"local": floor * local, "local_floor": floor, "local_ratio": local}
    row |= {"inherited": 9 * floor * inherited, "floor": 9 * floor, "inherited_ratio": inherited}
    if exact:
        row |= dict.fromkeys(("local", "local_floor", "local_ratio"), 0.0)
    metrics = {"max_abs": 3.2e-6 * local, "ulp": 4.5 * local, "cosine": 0.99999998, "slope": 1.0000003}
    metrics |= {"worst_token": int(rng.integers(40)), "worst_channel": int(rng.integers(640))}
    if tap == "text.logits":
        metrics |= {"kl": 1.3e-7, "top1": 1.0, "top5": 0.995}
    return row | {
        "span": [],
        "metrics": metrics,
        "nonfinite": None,
        "overflow": None,
        "seconds": round(rng.uniform(0.001, 2), 3),
    }


def profile_of(rng, tokens, channels):
    sizes = [float(tokens), float(channels)]
    tokens, channels = rng.uniform(0.1, 1.9, min(512, tokens)), rng.lognormal(-0.3, 0.4, min(512, channels))
    return {"tokens": tokens.tolist(), "channels": channels.tolist(), "sizes": sizes}


def at(report, tap, number=0):
    """Find the row of a tap."""
    return next(row for row in report["taps"] if (row["tap"], row["pass"]) == (tap, number))


def wrong(report, tap=WRONG, ratio=41.2, why="", number=0):
    """Make a tap a bug, and what is inherited after it large."""
    row = at(report, tap, number)
    row |= {"verdict": "bug", "why": why, "local_ratio": ratio}
    row["local"] = (row["local_floor"] or 1e-7) * ratio if ratio is not None and ratio < INF else 0.02
    after = report["taps"].index(row)
    for i, later in enumerate(report["taps"][after:]):
        grown = 30 + 300 * i / len(report["taps"])
        later |= {"inherited": later["floor"] * grown, "inherited_ratio": grown}
    report["verdict"] = "bug"
    bugs = [one for one in report["taps"] if one["verdict"] == "bug"]
    report["first"] = {key: bugs[0][key] for key in ("tap", "layer", "pass")}
    return row


def rope_bug(**size):
    """A named mistake in one layer, and its wide profile."""
    report, profiles = example(**size)
    wrong(report)
    report["diagnosis"] = [row | {"tap": WRONG, "pass": 0} for row in NAMED]
    report |= {"causes": [cause(NAMED[0], WRONG)], "proof": dict(PROOF)}
    report["tried"] = {"catalogue": 5, "families": ["scale", "positions"], "not_tried": []}
    shape = profiles[0, WRONG]
    shape["tokens"] = [0.0, *np.geomspace(3, 60, len(shape["tokens"]) - 1)]
    return report, profiles


def everything_wrong():
    """Every kind of finding at once: images, passes, ties, NaN, null, infinities, hostile names and sentences."""
    report, profiles = example(vision_layers=27, passes=3, tokens=600, seed=1)
    wrong(report, "vision.layer.4.ffn.act", 5.5)
    for layer in range(18):
        wrong(report, f"text.layer.{layer}.attn.k_rope", 2.5 * 1.6**layer)
    wrong(report, "text.layer.11.attn.visible", INF, "2 of 1600 differ, first at token 17")
    row = wrong(report, "text.layer.12.ffn.act", None, "not finite at token 5")
    row |= {"nonfinite": {"count": 12, "token": 5, "channel": 3, "truth": 0.0123}, "local": float("nan")}
    row |= {"local_ratio": float("nan"), "metrics": {}}
    for tap in ("text.layer.12.ffn.out", "text.layer.12.ffn.post_norm"):
        at(report, tap).update(verdict="undetermined", why="its inputs are not finite", local_ratio=INF)
    blank = dict.fromkeys(("local", "local_floor", "local_ratio", "inherited", "floor", "inherited_ratio"))
    at(report, "text.layer.9.mid", 1).update(verdict="undetermined", why=HOSTILE, metrics={}, **blank)
    at(report, "text.layer.7.attn.out")["span"] = ["text.layer.7.attn.scores", "text.layer.7.attn.probs"]
    report["diagnosis"] = [row | {"tap": "vision.layer.4.ffn.act", "pass": 0} for row in TIED]
    report["diagnosis"][2] |= {"what": HOSTILE, "seen_in": [HOSTILE]}
    report["diagnosis"][3] |= {"mutant": "<b>x</b>&lt;" + STRANGE}
    report["causes"] = [
        unexplained(*(f"text.layer.{layer}.attn.k_rope" for layer in range(18))),
        cause(TIED[0], "vision.layer.4.ffn.act", tied_with=[TIED[1]["mutant"]]),
        cause(TIED[0], "text.layer.12.ffn.act", mutant=STRANGE, what=HOSTILE, where=HOSTILE, verdict="named"),
    ]
    report["causes"][2]["parameters"] = [parameter(HOSTILE, [STRANGE], None, HOSTILE, STRANGE)]
    report["proof"] = PROOF | {"verdict": "remains", "says": "something else remains: " + HOSTILE}
    report["bases"] = [{"what": HOSTILE, "layers": [1], "taps": [WRONG], "cancels_at": [STRANGE]}]
    report["tried"] = {"catalogue": 1, "families": [HOSTILE], "not_tried": [{"family": STRANGE, "why": HOSTILE}]}
    report["fits"] = [{"kind": "scale", "what": "times 25.25", "left": 0.9, "tap": WRONG, "pass": 0}]
    report["decide"] = "rope_factor_missing shows with: 4B, 12B or 27B, a global layer"
    report["unaligned"] += [{"name": HOSTILE, "why": STRANGE}, {"name": STRANGE, "why": HOSTILE}]
    report["producer"] = {"name": HOSTILE, "version": STRANGE, "more": {"a": [1, None]}}
    report["weights"] |= {"sha256": {f"tensor{i}": "0" * 64 for i in range(300)}}
    report["coverage"].append(HOSTILE)
    profiles[0, "text.layer.12.ffn.act"] = {"tokens": [1.0, float("nan"), INF, 0.0], "channels": []}
    return report, profiles
