"""Mistakes in what a layer's queries see, and in which layers are global."""

from ref.emulate.text_rules import LAYER
from ref.mutants.base import RuleMutant, TapMutant
from ref.mutants.needs import Needs
from ref.mutants.visibility import VISIBILITY_MUTANTS
from ref.mutants.visibility_parts import Layout

VISIBLE, Q, K = LAYER + "attn.visible", LAYER + "attn.q_rope", LAYER + "attn.k_rope"


def layout_of(at) -> Layout:
    """Return the layout of a pass as one layer sees it."""
    w = at.one_pass
    window = at.config.window_of(at.layer)
    return Layout(w.places[0], w.first[0], w.cached, window, w.composition, at.config.window, w.begin)


def _from_rule(one: RuleMutant) -> TapMutant:
    return TapMutant(
        name=one.name,
        what=one.what,
        needs=one.needs,
        rules={VISIBLE: lambda at: one.run(layout_of(at))[None]},
    )


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


LAYER_MUTANTS = [
    *map(_from_rule, VISIBILITY_MUTANTS),
    TapMutant(
        name="layers_global_first",
        what="Layer 0 is global, and every sixth after it: the pattern starts at its end.",
        needs=Needs(layers=6, windows=1, note="or a rotation that differs"),
        rules=_kinds(lambda at: at.layer % at.config.global_every == 0),
    ),
    TapMutant(
        name="layers_last_is_global",
        what="The last layer is global although its number says local, as in siblings of Gemma 3n and EmbeddingGemma.",
        needs=Needs(odd_depth=True),
        rules=_kinds(lambda at: at.config.is_global(at.layer) or at.layer == at.config.layers - 1),
    ),
    TapMutant(
        name="layers_alternate",
        what="Every second layer is global, as in Gemma 2.",
        needs=Needs(position=2),
        rules=_kinds(lambda at: at.layer % 2 == 1),
    ),
]
