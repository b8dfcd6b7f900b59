"""Rules of whole-model mistakes, by their number."""

from collections.abc import Callable

import numpy as np

from ref.emulate.context import Context, Rule
from ref.emulate.text_rules import LAYER, NORMS, norm_eps, norm_input
from ref.model.taps import tap_group
from ref.mutants.base import everywhere
from ref.mutants.rotation import ROPE, turned


def rotated(places: Callable[[Context], tuple[np.ndarray, np.ndarray]]) -> dict[str, Rule]:
    """Rotate queries and keys by other cosines and sines."""
    return everywhere(ROPE, lambda at: turned(at, *places(at)))


def shifted(n: int) -> dict[str, Rule]:
    """Rotate queries by later positions than keys."""
    return {ROPE[0]: lambda at: turned(at, *at.places(positions=at.one_pass.positions + n))}


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
    return {"text.logits": lambda at: change(at.ops.linear(at["text.final_norm"], at.one_pass.head))}


def capped(cap: float) -> Callable[[np.ndarray], np.ndarray]:
    """Return a softcap."""
    return lambda x: x.dtype.type(cap) * np.tanh(x / x.dtype.type(cap))


def window(n: int) -> dict[str, Rule]:
    """Let queries see so many keys."""
    return {LAYER + "attn.visible": lambda at: at.one_pass.visible(at.layer, n)}


def scores(change: Callable[[Context], np.ndarray]) -> dict[str, Rule]:
    """Change the scores."""
    return {LAYER + "attn.scores": change}
