"""Causes as a report has them: of a row of a diagnosis, with parameters, or of no mistake that is known."""

from ref.model.taps import tap_group

NO_PARAMETERS = {"parameters": [], "where": "", "tied_with": []}
PROOF = {"verdict": "explained", "says": "these explain the logits: 0.92 floors are left, 2.3e+05 without them"}
PROOF |= {"first": None, "tap": "text.logits", "left": 0.92}


def cause(row, *taps, passes=(0,), **more):
    """Make a cause of a row of the diagnosis: the same mistake at these taps."""
    kept = {key: row[key] for key in ("mutant", "what", "seen_in", "needs", "coefficient", "stderr", "left")}
    layers = [int(tap.split(".")[2]) for tap in taps if ".layer." in tap]
    places = {"taps": list(taps), "groups": list(dict.fromkeys(map(tap_group, taps)))}
    places |= {"layers": sorted(set(layers)), "passes": list(passes)}
    places |= {"first": {"tap": taps[0], "layer": layers[0] if layers else None, "pass": passes[0]}}
    return {"verdict": row["verdict"], "moves": 0.055} | NO_PARAMETERS | kept | places | more


def unexplained(*taps):
    """Make the cause of taps that no known mistake explains."""
    blank = {"mutant": "", "what": "", "seen_in": [], "needs": "", "coefficient": None, "stderr": None, "left": None}
    return cause(blank | {"verdict": "unexplained"}, *taps, moves=None)


def parameter(name, value, stderr=None, wanted=None, words=""):
    """Make one parameter of a cause."""
    return {"name": name, "value": value, "stderr": stderr, "wanted": wanted, "words": words}


def fitted(mutant, what, *taps, **more):
    """Make a cause with parameters, which no thread has."""
    row = {"mutant": mutant, "what": what, "seen_in": [], "needs": "", "coefficient": 1.0, "stderr": 1e-9}
    return cause(row | {"left": 0.9, "verdict": "named"}, *taps, **more)


def at_k(layers, **more):
    """Make the cause of keys that have the weights of layer 1."""
    what = "k has the weights of layer 1, not those of its own."
    taps = [f"text.layer.{layer}.attn.k" for layer in layers]
    return fitted("weights_of_layer", what, *taps, parameters=[parameter("layer", 1, None, layers[0])], **more)


def basis(what, layer, cancels="attn.scores"):
    """Make a row of `bases`: queries of a layer."""
    taps = [f"text.layer.{layer}.attn.q", f"text.layer.{layer}.attn.q_norm"]
    return {"what": what, "layers": [layer], "taps": taps, "cancels_at": [f"text.layer.{layer}.{cancels}"]}
