"""Mistakes in what a layer's queries see, and in which layers are global."""

from ref.emulate.text_rules import LAYER
from ref.mutants.base import RuleMutant, TapMutant
from ref.mutants.visibility import VISIBILITY_MUTANTS, Layout

VISIBLE, Q, K = LAYER + "attn.visible", LAYER + "attn.q_rope", LAYER + "attn.k_rope"


def layout_of(at) -> Layout:
    """Return the layout of a pass as one layer sees it."""
    w = at.one_pass
    return Layout(w.places[0], w.first[0], w.cached, at.config.window_of(at.layer), w.composition, at.config.window)


def _from_rule(one: RuleMutant) -> TapMutant:
    return TapMutant(one.name, one.what, one.source, one.needs, {VISIBLE: lambda at: one.run(layout_of(at))[None]})


def _kinds(is_global):
    """Make rules for layers whose kinds are mistaken: window, base and factor go with the kind."""

    def visible(at):
        return at.one_pass.visible(at.layer, None if is_global(at) else at.config.window)

    def turned(name):
        def rule(at):
            base, factor = (
                (at.config.rope_base_global, at.config.rope_factor)
                if is_global(at)
                else (at.config.rope_base_local, 1.0)
            )
            return at.ops.rotate(at[name], *at.places(base, factor))

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
        _kinds(lambda at: at.layer % at.config.global_every == 0),
    ),
    TapMutant(
        "layers_last_is_global",
        "The last layer is global although its number says local, as Gemma 3n's and EmbeddingGemma's siblings have it.",
        f"{S91} (4)",
        "a depth that is no multiple of 6",
        _kinds(lambda at: at.config.is_global(at.layer) or at.layer == at.config.layers - 1),
    ),
    TapMutant(
        "layers_alternate",
        "Every second layer is global, as in Gemma 2.",
        f"{S91} (3)",
        "a few tokens",
        _kinds(lambda at: at.layer % 2 == 1),
    ),
]
