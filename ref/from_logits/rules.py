"""Rules of whole-model mistakes, by their number."""

from collections.abc import Callable

import numpy as np

from ref.emulate.context import Context, Rule
from ref.emulate.operands import ROUND
from ref.emulate.text_rules import LAYER, NORMS, norm_eps, norm_input
from ref.model.taps import tap_group
from ref.mutants.base import everywhere

ROPE = (LAYER + "attn.q_rope", LAYER + "attn.k_rope")


def turned(places: Callable[[Context], tuple[np.ndarray, np.ndarray]]) -> dict[str, Rule]:
    """Rotate queries and keys by other cosines and sines."""

    def rule(at: Context) -> np.ndarray:
        return at.ops.rotate(at["attn.q_norm" if at.tap.endswith("q_rope") else "attn.k_norm"], *places(at))

    return everywhere(ROPE, rule)


def shifted(n: int) -> dict[str, Rule]:
    """Rotate queries by later positions than keys."""
    rule = turned(lambda at: at.places(positions=at.one_pass.positions + n))[ROPE[0]]
    return {ROPE[0]: rule}


def with_frequencies(form: str) -> dict[str, Rule]:
    """Rotate by frequencies in a narrower format."""

    def places(at: Context):
        base, factor = at.config.rope(at.layer)
        j = np.arange(0, at.config.head_dim, 2) / at.config.head_dim
        inverse = ROUND[form]((1 / (factor * base**j)).astype(np.float32)).astype(np.float64)
        angle = np.maximum(at.one_pass.positions, 0)[..., None] * inverse
        return np.cos(angle).astype(at.ops.dtype), np.sin(angle).astype(at.ops.dtype)

    return turned(places)


def with_table(form: str) -> dict[str, Rule]:
    """Rotate by cosines and sines in a narrower format."""

    def places(at: Context):
        cos, sin = (ROUND[form](x.astype(np.float32)).astype(at.ops.dtype) for x in at.places())
        return cos, sin

    return turned(places)


def norms(gain: Callable[[np.ndarray], np.ndarray] = lambda w: w, eps: float | None = None) -> dict[str, Rule]:
    """Give every RMSNorm of the text another gain or epsilon."""

    def rule(at: Context) -> np.ndarray:
        w = at.vector(NORMS[tap_group(at.tap)][1])
        return at.ops.rms_norm(norm_input(at), gain(w), norm_eps(at) if eps is None else eps)

    return everywhere([group for group in NORMS if group.startswith("text.")], rule)


def embedded(scale: float) -> dict[str, Rule]:
    """Multiply embeddings by another scale."""
    return {"text.embed": lambda at: at.ops.embed(at.one_pass.ids, at.one_pass.table, scale)}


def headed(change: Callable[[np.ndarray], np.ndarray]) -> dict[str, Rule]:
    """Change the logits."""
    return {"text.logits": lambda at: change(at.ops.linear(at["text.final_norm"], at.one_pass.table))}


def capped(cap: float) -> Callable[[np.ndarray], np.ndarray]:
    """Return a softcap."""
    return lambda x: x.dtype.type(cap) * np.tanh(x / x.dtype.type(cap))


def window(n: int) -> dict[str, Rule]:
    """Let queries see so many keys."""
    return {LAYER + "attn.visible": lambda at: at.one_pass.visible(at.layer, n)}


def scores(change: Callable[[Context], np.ndarray]) -> dict[str, Rule]:
    """Change the scores."""
    return {LAYER + "attn.scores": change}
