"""Mistakes with a free number: what a family is, its candidates, and what a number looks like."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ref.config import TextConfig
from ref.emulate.context import Rule
from ref.from_logits.candidates import Candidate
from ref.hypotheses.hypothesis import Parameter
from ref.mutants.base import TapMutant
from ref.mutants.needs import Needs


class Family(NamedTuple):
    """A mistake with one free number."""

    name: str
    parameter: str
    what: str  # with {value}, {wanted} and {where}
    rules: Callable[[Any], dict[str, Rule]]
    wanted: Callable[[TextConfig], Any]
    grid: Callable[[TextConfig], Iterable[Any]]
    scale: str = "log"  # of the number while it is fitted: log, linear, integer, none for what has no values between
    kind: str = "all"  # of layers: all, local, global
    needs: Needs = Needs()


def candidate_of(family: Family, value: Any, config: TextConfig) -> Candidate:
    """Return a family's mistake with its number.

    Args:
        family: which.
        value: of its number.
        config: of the model.
    """
    wanted = family.wanted(config)
    text = family.what.format(value=shown(value), wanted=shown(wanted))
    kinds = {"local": False, "global": True}
    layers = None
    if family.kind != "all":
        layers = frozenset(i for i in range(config.layers) if config.is_global(i) == kinds[family.kind])
    parameter = Parameter(family.parameter, value, None, wanted, recognised(family, value, config))
    return Candidate(TapMutant(family.name, text, family.needs, family.rules(value)), layers, (parameter,), family.name)


def grid_of(family: Family, config: TextConfig, onset: int | None = None) -> list[Candidate]:
    """Return a family's mistakes with each number of its grid.

    Args:
        family: which.
        config: of the model.
        onset: the first position that is off, which is where a window ends; None where it is not known.
    """
    values: Sequence[Any] = list(dict.fromkeys(family.grid(config)))
    if family.name in ("window", "horizon") and onset:
        values = list(dict.fromkeys([onset, *values]))
    found = [candidate_of(family, value, config) for value in values if value != family.wanted(config)]
    return [one for one in found if one.layers is None or one.layers]


def shown(value: Any) -> str:
    """Write a number for a sentence."""
    return value if isinstance(value, str) else f"{value:.6g}"


def recognised(family: Family, value: Any, config: TextConfig) -> str:
    """Say what a number looks like, such as "25/25.2982: int(sqrt(640))"; empty where it looks like nothing."""
    known: dict[str, float] = {}
    if family.name == "embedding_scaled":
        root, width = np.sqrt(config.width), config.width
        known = {f"int(sqrt({width}))": float(int(root)), "none": 1.0, f"{width}": float(width)}
        known[f"1/sqrt({width})"] = float(1 / root)
        known[f"sqrt({config.head_dim}): of the head dim"] = float(np.sqrt(config.head_dim))
        known[f"sqrt({config.ffn_width}): of the FFN width"] = float(np.sqrt(config.ffn_width))
    if family.name == "softmax_scale":
        per_head = config.width / config.query_heads
        known = {f"({config.width}/{config.query_heads})^-1/2: of the width per head": per_head**-0.5}
        known |= {f"{config.head_dim}^-1/2": config.head_dim**-0.5, "none": 1.0}
        known |= {f"{config.head_dim}^-1": 1 / config.head_dim, f"{config.width}^-1/2": config.width**-0.5}
    wanted = family.wanted(config)
    if isinstance(value, str) or isinstance(wanted, str):
        return ""
    name = next((name for name, one in known.items() if abs(value - one) <= 2e-3 * abs(one)), "")
    return f"{shown(value)}/{shown(wanted)}: {name}" if name else ""
