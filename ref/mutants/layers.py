"""Mistakes in what a layer's queries see, and in which layers are global."""

from ref.emulate.graph import L
from ref.mutants.base import RuleMutant, TapMutant
from ref.mutants.visibility import VISIBILITY_MUTANTS, Layout

VISIBLE, Q, K = L + "attn.visible", L + "attn.q_rope", L + "attn.k_rope"


def layout_of(c) -> Layout:
    """Return the layout of a pass as one layer sees it."""
    w = c.world
    return Layout(w.places[0], w.first[0], w.cached, c.c.window_of(c.layer), w.composition, c.c.window)


def _from_rule(one: RuleMutant) -> TapMutant:
    return TapMutant(one.name, one.what, one.source, one.needs, {VISIBLE: lambda c: one.run(layout_of(c))[None]})


def _kinds(is_global):
    """Make rules for layers whose kinds are mistaken: window, base and factor go with the kind."""

    def visible(c):
        return c.world.visible(c.layer, None if is_global(c) else c.c.window)

    def turned(name):
        def rule(c):
            base, factor = (c.c.rope_base_global, c.c.rope_factor) if is_global(c) else (c.c.rope_base_local, 1.0)
            return c.a.rotate(c[name], *c.places(base, factor))

        return rule

    return {VISIBLE: visible, Q: turned("attn.q_norm"), K: turned("attn.k_norm")}


S91 = "GEMMA3_SPEC 9.1"
LAYER_MUTANTS = [
    *map(_from_rule, VISIBILITY_MUTANTS),
    TapMutant(
        "layers_global_first",
        "Layer 0 is global, and every sixth after it: the pattern starts at its end.",
        f"{S91} (3)",
        "six layers, more tokens than the window or a rotation that differs",
        _kinds(lambda c: c.layer % c.c.global_every == 0),
    ),
    TapMutant(
        "layers_last_is_global",
        "The last layer is global although its number says local, as Gemma 3n's and EmbeddingGemma's siblings have it.",
        f"{S91} (4)",
        "a depth that is no multiple of 6",
        _kinds(lambda c: c.c.is_global(c.layer) or c.layer == c.c.layers - 1),
    ),
    TapMutant(
        "layers_alternate",
        "Every second layer is global, as in Gemma 2.",
        f"{S91} (3)",
        "a few tokens",
        _kinds(lambda c: c.layer % 2 == 1),
    ),
]
