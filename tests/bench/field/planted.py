"""Twenty mistakes of tests/support/injections.py, any of which can be planted into any layer of any text model."""

import random
from typing import Any, NamedTuple

from support.injections import INJECTIONS, Injection

from .row import Row

FLOAT32_ONLY = ("gelu_erf",)  # one layer of a short prompt is below what 8 or 11 bits can show
NAMES = {  # mutant: the tap that tells two injections of it apart, empty where there is one
    "norm_without_plus_one": "text.layer.{i}.attn.pre_norm",
    "norm_plus_one_twice": "",
    "norm_subtracts_mean": "",
    "q_norm_missing": "",
    "k_norm_missing": "",
    "ffn_norms_swapped": "",
    "post_attn_norm_missing": "",
    "post_ffn_norm_missing": "",
    "embed_unscaled": "",
    "attn_residual_missing": "",
    "residual_from_normed": "",
    "ffn_residual_missing": "",
    "rope_interleaved": "",
    "rope_backwards": "",
    "scale_missing": "",
    "kv_swapped": "",
    "mix_heads_transposed": "",
    "gelu_erf": "",
    "gate_up_projections_swapped": "",
    "gelu_of_product": "",
}
MISTAKES = [i for i in INJECTIONS if i.mutant in NAMES and NAMES[i.mutant] in ("", i.tap)]
assert len(MISTAKES) == 20


class Planted(NamedTuple):
    """A mistake for one row: what it is, and where it must be found."""

    injection: Injection
    fraction: float  # of the layers

    def layer(self, loaded) -> int:
        """Return the layer that it goes into."""
        return int(self.fraction * loaded.params.config.layers)

    def tap(self, loaded) -> str:
        """Return the tap that it must be found at."""
        return self.injection.tap.format(i=self.layer(loaded))

    def __call__(self, model, loaded) -> Any:
        """Patch a model."""
        return self.injection.plant(model, self.layer(loaded))


def mistake_for(row: Row, seed: int) -> Planted:
    """Draw a mistake and a layer for a row."""
    draw = random.Random(f"{seed} {row.name}")
    fit = [m for m in MISTAKES if row.dtype == "float32" or m.mutant not in FLOAT32_ONLY]
    return Planted(draw.choice(fit), draw.random())
