"""The model as a graph of taps: which operation makes each value, from which others.

The judge runs it three ways: from the prompt alone; each operation on a dump's own inputs; and with a mutant in the
place of one operation. tests/emulate/test_graph.py holds it equal to `ref.model`, which is the model as one reads it.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from ref.emulate.arithmetic import Arithmetic
from ref.emulate.context import Context, Rule
from ref.emulate.one_pass import OnePass, Unknown
from ref.emulate.operands import ROUND
from ref.emulate.text_rules import LAYER, TEXT_RULES
from ref.emulate.tower_rules import TOWER, VISION_RULES
from ref.model.tap_rows import LAYER_TAPS, MERGED, TEXT_TAPS, VISION_LAYER_TAPS, VISION_TAPS
from ref.model.taps import layer_of, prefix_of, tap_group

NARROW = ("bfloat16", "float16")

RULES: dict[str, Rule] = TEXT_RULES | VISION_RULES
_KNOWN = {*(LAYER + name for name in LAYER_TAPS), *(TOWER + name for name in VISION_LAYER_TAPS)}
assert set(RULES) == {*_KNOWN, *TEXT_TAPS, *VISION_TAPS, *MERGED}


class Run:
    """One evaluation of the graph on one pass.

    Args:
        one_pass: the pass and the weights.
        arithmetic: how to compute.
        given: tap -> a function that loads the dump's value; {} to compute all from the prompt.
        before: the same run of the pass that this one continues, None for a first.
        mutant: tap group, or one tap -> rule that stands in for the graph's own.
        heard: tap -> dtype of the dump's tensor. A valid run rounds to it: under autocast each tap has its own.
    """

    def __init__(
        self,
        one_pass: OnePass,
        arithmetic: Arithmetic,
        given: Mapping[str, Callable[[], np.ndarray]] | None = None,
        before: "Run | None" = None,
        mutant: Mapping[str, Rule] | None = None,
        heard: Mapping[str, str] | None = None,
    ):
        self.one_pass, self.arithmetic, self.given = one_pass, arithmetic, given or {}
        self.before, self.mutant, self.heard = before, mutant or {}, heard or {}
        self.memo: dict[str, np.ndarray] = {}
        self.weights: Any = None
        self.prefix = ""  # of the taps that these weights make
        self.inputs: dict[str, dict[str, None]] = {}  # of each computed tap, those it was made from
        self._open: list[str] = []  # taps that are being computed
        self.used: set[str] = set()  # groups whose mutant rule ran

    def enter(self, stage: Any, weights: Any) -> None:
        """Begin a stage: from now on its weights are at hand, and no others.

        Args:
            stage: `ref.emulate.stages.Stage`.
            weights: of it, in the dtype of the arithmetic.
        """
        self.prefix, self.weights = stage.prefix, weights

    def weights_of(self, prefix: str) -> Any:
        """Return the weights that make the taps of a prefix.

        Raises:
            Unknown: another stage's are at hand. A value that was dropped too early would be made with them.
        """
        if prefix != self.prefix:
            raise Unknown(f"the weights of {prefix[:-1]} are not at hand: {self.prefix[:-1] or 'none'} are")
        return self.weights

    def is_given(self, tap: str) -> bool:
        """Tell whether the dump holds a tap."""
        return tap in self.given

    def is_mutated(self, tap: str) -> bool:
        """Tell whether a mistake stands in the place of a tap's operation."""
        return tap in self.mutant or tap_group(tap) in self.mutant

    def value(self, tap: str) -> np.ndarray:
        """Return a tap's value: the dump's where it has one, else computed."""
        if self._open:
            self.inputs[self._open[-1]][tap] = None
        if tap not in self.memo:
            self.memo[tap] = self.cast(self.given[tap]()) if tap in self.given else self.compute(tap)
        return self.memo[tap]

    def cast(self, value: np.ndarray) -> np.ndarray:
        """Return a dump's value in the dtype of the arithmetic; integers and booleans as they are."""
        return value.astype(self.arithmetic.dtype, copy=False) if value.dtype.kind == "f" else value

    def compute(self, tap: str) -> np.ndarray:
        """Compute a tap from its inputs, even where the dump holds it."""
        group, layer = tap_group(tap), layer_of(tap)
        context = Context(self, tap, prefix_of(tap), -1 if layer is None else layer)
        rule = self.mutant.get(tap) or self.mutant.get(group)
        if rule is not None:
            self.used.add(group)
        self.inputs[tap] = {}
        self._open.append(tap)
        try:
            return self.rounded(tap, group, (rule or RULES[group])(context))
        finally:
            self._open.pop()

    def rounded(self, tap: str, group: str, value: np.ndarray) -> np.ndarray:
        """Round a value to the format that it was heard in, where that is narrower than the arithmetic's."""
        arithmetic = self.arithmetic
        kind = self.heard.get(tap)
        kind = kind if kind in NARROW else arithmetic.formats.get(group)
        if kind not in NARROW or kind == arithmetic.stored or arithmetic.dtype != np.float32:
            return value
        return ROUND[kind](value) if value.dtype.kind == "f" else value

    def recompute(self, tap: str) -> tuple[np.ndarray, list[str]]:
        """Compute a tap from what the dump holds of its inputs; also tell which others had to be computed for it."""
        return self.compute(tap), self.span_of(tap)

    def span_of(self, tap: str) -> list[str]:
        """List the taps that had to be computed for one that was computed: those on the way that the dump lacks."""
        span: dict[str, None] = {}
        todo = [tap]
        while todo:
            for name in self.inputs.get(todo.pop(), {}):
                if name not in self.given and name not in span:
                    span[name] = None
                    todo.append(name)
        return list(span)

    def keys(self, prefix: str) -> tuple[np.ndarray, np.ndarray, int]:
        """Return keys and values of the layer up to this pass's last, and the key index of the first of them."""
        caches = prefix + "cache.k", prefix + "cache.v"
        # what is wrong in the cache of earlier keys is wrong in what attention looks up, though the dump holds no cache
        wrong = self.one_pass.cached and any(self.is_mutated(tap) for tap in caches)
        if wrong or all(map(self.is_given, caches)):
            k, v = self.value(prefix + "cache.k"), self.value(prefix + "cache.v")
            if self.one_pass.ids.shape[1] == 1 or k.shape[1] == self.one_pass.total:
                return k, v, self.one_pass.total - k.shape[1]  # else a ring, which lacks keys that earlier queries see
        if self.one_pass.cached and self._open:  # what is looked up has gone through the cache
            self.inputs[self._open[-1]] |= dict.fromkeys(caches)
        k, v = self.history(prefix)
        return self.arithmetic.keep(k), self.arithmetic.keep(v), 0

    def history(self, prefix: str, turned: float = 1) -> tuple[np.ndarray, np.ndarray]:
        """Return keys and values as the passes made them.

        Args:
            prefix: of the layer.
            turned: how often a key that was moved in the cache is turned by the way it went: 1 is right.
        """
        name = f"{prefix}history" if turned == 1 else f"{prefix}history.{turned}"
        if name + ".k" not in self.memo:
            k, v = self.value(prefix + "attn.k_rope"), self.value(prefix + "attn.v")
            if self.before is not None:
                old_k, old_v = self._left(prefix, turned)
                k, v = np.concatenate([old_k, k], axis=1), np.concatenate([old_v, v], axis=1)
            self.memo[name + ".k"], self.memo[name + ".v"] = k, v
        elif self._open:  # whoever asks, not only the first who does
            self.inputs[self._open[-1]] |= dict.fromkeys((prefix + "attn.k_rope", prefix + "attn.v"))
        return self.memo[name + ".k"], self.memo[name + ".v"]

    def _left(self, prefix: str, turned: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the keys and values that this pass finds in the cache, turned to where they are now."""
        assert self.before is not None
        k, v = self.before.history(prefix, turned)
        kept, moved = self.one_pass.kept, self.one_pass.moved
        if kept is None:
            return k, v
        k, v = np.take(k, kept, axis=1), np.take(v, kept, axis=1)
        if moved is None or not moved.any() or not turned:
            return k, v
        base, factor = self.one_pass.config.rope(layer_of(prefix) or 0)
        table = self.arithmetic.table((turned * moved)[None], self.one_pass.config.head_dim, base, factor)
        return self.arithmetic.rotate(self.arithmetic.keep(k), *table), v

    def drop(self, tap: str) -> None:
        """Drop a tap's value, and the keys and values of its layer however they were turned: they may be made of it."""
        history = f"{prefix_of(tap)}history"
        self.memo = {name: x for name, x in self.memo.items() if name != tap and not name.startswith(history)}

    def with_pass(self, one_pass: OnePass, stored: Mapping[str, Any]) -> "Run":
        """Return a run of another pass that knows what this one knows; what `stored` holds is given from there."""
        given = {name: load for name, load in self.given.items() if name not in stored}
        more = {name: one.load for name, one in stored.items()} if self.given else {}
        other = Run(one_pass, self.arithmetic, given | more, self.before, self.mutant, self.heard)
        other.memo = {name: value for name, value in self.memo.items() if name not in stored}
        other.prefix, other.weights = self.prefix, self.weights
        return other

    def forget(self, kept: Iterable[str]) -> None:
        """Drop all values but some."""
        self.memo = {name: self.memo[name] for name in kept if name in self.memo}
