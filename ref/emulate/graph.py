"""The model as a graph of taps: which operation makes each value, from which others.

The judge runs it three ways: from the prompt alone; each operation on a dump's own inputs; and with a mutant in the
place of one operation. tests/emulate/test_graph.py holds it equal to `ref.model`, which is the model as one reads it.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ref.emulate.arithmetic import ROUND, Arithmetic
from ref.emulate.one_pass import Unknown, World
from ref.model.inputs import insert
from ref.model.taps import LAYER_TAPS, MERGED, TEXT_TAPS, VISION_LAYER_TAPS, VISION_TAPS, tap_group
from ref.ops.patches import split_patches
from ref.ops.visibility import as_matrix

Rule = Callable[["Context"], Any]
NARROW = ("bfloat16", "float16")


class Context(NamedTuple):
    """What a rule is given: `c["attn.q"]` is the value of another tap of the same layer, computed or the dump's."""

    run: "Run"
    tap: str
    prefix: str  # `text.layer.3.`
    layer: int

    def __getitem__(self, name: str) -> np.ndarray:
        return self.run.value(name if name.startswith(("text.", "vision.", "model.")) else self.prefix + name)

    @property
    def a(self) -> Arithmetic:
        """The operations."""
        return self.run.arithmetic

    @property
    def world(self) -> World:
        """The pass and its weights."""
        return self.run.world

    @property
    def c(self):
        """The text configuration."""
        return self.run.world.config

    @property
    def v(self):
        """The vision configuration."""
        vision = self.run.world.vision
        if vision is None:
            raise Unknown("the weights have no vision tower")
        return vision.config

    @property
    def p(self):
        """The weights of this layer, or of the model outside the layers."""
        return self.run.weights_of(self.prefix)

    def w(self, field: str) -> np.ndarray:
        """One vector of weights, as floats."""
        return np.asarray(getattr(self.p, field))

    def is_given(self, name: str) -> bool:
        """Tell whether the dump holds the tap, so that nothing above it is computed."""
        return self.run.is_given(self.prefix + name)

    def is_known(self, name: str) -> bool:
        """Tell whether the tap's value is the dump's, or has been computed already."""
        return self.is_given(name) or self.prefix + name in self.run.memo

    def is_mutated(self, *names: str) -> bool:
        """Tell whether a mutant stands in the place of one of these operations."""
        return any(tap_group(self.prefix + name) in self.run.mutant for name in names)

    def keys(self) -> tuple[np.ndarray, np.ndarray, int]:
        """Return all keys and values that the queries may see, and the key index of the first."""
        return self.run.keys(self.prefix)

    def places(self, base: float | None = None, factor: float | None = None, positions=None):
        """Return cosines and sines of this layer's rotation, or of another base, factor or positions."""
        own_base, own_factor = self.c.rope(self.layer)
        positions = self.world.positions if positions is None else positions
        return self.a.table(
            np.maximum(positions, 0), self.c.head_dim, base or own_base, own_factor if factor is None else factor
        )

    def seen(self, keys: int, origin: int):
        """Return what each query sees as a boolean matrix of `keys` keys from `origin` on."""
        return as_seen(self["attn.visible"], keys, origin, self.world.total)


def as_seen(visible, keys: int, origin: int, total: int):
    """Return ranges, or a matrix whose last column is the newest key, as a matrix of keys origin .. origin + keys."""
    if visible.dtype != bool:
        return as_matrix(visible - origin, keys)
    key = origin + np.arange(keys)
    first = total - visible.shape[-1]
    inside = (key >= first) & (key < total)
    return np.where(inside, visible[..., np.clip(key - first, 0, visible.shape[-1] - 1)], False)


class Run:
    """One evaluation of the graph on one pass.

    Args:
        world: the pass and the weights.
        arithmetic: how to compute.
        given: tap -> a function that loads the dump's value; {} to compute all from the prompt.
        before: the same run of the pass that this one continues, None for a first.
        mutant: tap group -> rule that stands in for the graph's own.
        heard: tap -> dtype of the dump's tensor. A valid run rounds to it: under autocast each tap has its own.
    """

    def __init__(
        self,
        world: World,
        arithmetic: Arithmetic,
        given: Mapping[str, Callable[[], np.ndarray]] | None = None,
        before: "Run | None" = None,
        mutant: Mapping[str, Rule] | None = None,
        heard: Mapping[str, str] | None = None,
    ):
        self.world, self.arithmetic, self.given = world, arithmetic, given or {}
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
        group, parts = tap_group(tap), tap.split(".")
        inside = parts[1:2] == ["layer"]
        context = Context(
            self, tap, ".".join(parts[:3]) + "." if inside else parts[0] + ".", int(parts[2]) if inside else -1
        )
        rule = self.mutant.get(group)
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
        value, span, todo = self.compute(tap), {}, [tap]
        while todo:
            for name in self.inputs.get(todo.pop(), {}):
                if name not in self.given and name not in span:
                    span[name] = None
                    todo.append(name)
        return value, list(span)

    def keys(self, prefix: str) -> tuple[np.ndarray, np.ndarray, int]:
        """Return keys and values of the layer up to this pass's last, and the key index of the first of them."""
        if self.is_given(prefix + "cache.k") and self.is_given(prefix + "cache.v"):
            k, v = self.value(prefix + "cache.k"), self.value(prefix + "cache.v")
            if self.world.ids.shape[1] == 1 or k.shape[1] == self.world.total:
                return k, v, self.world.total - k.shape[1]  # else a ring, which lacks keys that earlier queries see
        k, v = self.history(prefix)
        return self.arithmetic.keep(k), self.arithmetic.keep(v), 0

    def history(self, prefix: str) -> tuple[np.ndarray, np.ndarray]:
        """Return keys and values as the passes made them."""
        name = prefix + "history"
        if name + ".k" not in self.memo:
            k, v = self.value(prefix + "attn.k_rope"), self.value(prefix + "attn.v")
            if self.before is not None:
                old_k, old_v = self.before.history(prefix)
                k, v = np.concatenate([old_k, k], axis=1), np.concatenate([old_v, v], axis=1)
            self.memo[name + ".k"], self.memo[name + ".v"] = k, v
        return self.memo[name + ".k"], self.memo[name + ".v"]

    def with_world(self, world: World, stored: Mapping[str, Any]) -> "Run":
        """Return a run in another world that knows what this one knows; what `stored` holds is given from there."""
        given = {name: load for name, load in self.given.items() if name not in stored}
        more = {name: one.load for name, one in stored.items()} if self.given else {}
        other = Run(world, self.arithmetic, given | more, self.before, self.mutant, self.heard)
        other.memo = {name: value for name, value in self.memo.items() if name not in stored}
        other.prefix, other.weights = self.prefix, self.weights
        return other

    def forget(self, kept: Iterable[str]) -> None:
        """Drop all values but some."""
        self.memo = {name: self.memo[name] for name in kept if name in self.memo}


def _heads(c, x, count):
    return x.reshape(*x.shape[:2], count, -1)


def _in(c):
    if c.layer:
        return c[f"text.layer.{c.layer - 1}.out"]
    return c["model.merged"] if c.world.places.any() else c["text.embed"]


def norm_input(c) -> np.ndarray:
    """Return what an RMSNorm is applied to."""
    return c[NORMS[tap_group(c.tap)][0]] if c.tap != "text.final_norm" else c[f"text.layer.{c.world.layers - 1}.out"]


def _norm(c):
    return c.a.rms_norm(norm_input(c), c.w(NORMS[tap_group(c.tap)][1]), norm_eps(c))


def norm_eps(c) -> float:
    """Return the epsilon of an RMSNorm."""
    return c.v.layer_norm_eps if c.tap == "vision.soft_norm" else c.c.rms_eps


L = "text.layer.*."
NORMS = {  # tap group: input, field of the gain
    L + "attn.pre_norm": ("in", "pre_attn_norm"),
    L + "attn.q_norm": ("attn.q", "q_norm"),
    L + "attn.k_norm": ("attn.k", "k_norm"),
    L + "attn.post_norm": ("attn.out", "post_attn_norm"),
    L + "ffn.pre_norm": ("mid", "pre_ffn_norm"),
    L + "ffn.post_norm": ("ffn.out", "post_ffn_norm"),
    "text.final_norm": ("", "final_norm"),
    "vision.soft_norm": ("vision.pool", "soft_norm"),
}


def _probs(c):
    scores = c["attn.scores"]
    return c.a.softmax(scores, c.seen(scores.shape[-1], c.world.total - scores.shape[-1]))


def scores_of(c, q=None, scale=None) -> np.ndarray:
    """Compute the scores, with another query or scale if one is given."""
    k, _, _ = c.keys()
    return c.a.scores(c["attn.q_rope"] if q is None else q, k, c.c.query_scale if scale is None else scale)


def _mix(c):
    k, v, origin = c.keys()
    if not (c.is_given("attn.scores") or c.is_known("attn.probs") or c.is_mutated("attn.scores", "attn.probs")):
        return c.a.attend(c["attn.q_rope"], k, v, c.seen(k.shape[1], origin), c.c.query_scale)
    probs = c["attn.probs"]
    keys = min(probs.shape[-1], v.shape[1])  # what only one of them holds is too old to be seen
    return c.a.mix(probs[..., probs.shape[-1] - keys :], v[:, v.shape[1] - keys :])


def _visible(c):
    return c.world.visible(c.layer)


def _cache(c, name):
    k, v = c.run.history(c.prefix)
    return c.a.keep(k if name == "k" else v)


def _flat(x):
    return x.reshape(*x.shape[:2], -1)


TEXT_RULES: dict[str, Rule] = {
    "text.embed": lambda c: c.a.embed(c.world.ids, c.world.table, np.sqrt(np.float64(c.c.width))),
    "model.merged": lambda c: insert(c["text.embed"], c["vision.soft_tokens"], c.world.places),
    L + "in": _in,
    L + "attn.q": lambda c: _heads(c, c.a.linear(c["attn.pre_norm"], c.p.q), c.c.query_heads),
    L + "attn.k": lambda c: _heads(c, c.a.linear(c["attn.pre_norm"], c.p.k), c.c.kv_heads),
    L + "attn.v": lambda c: _heads(c, c.a.linear(c["attn.pre_norm"], c.p.v), c.c.kv_heads),
    L + "attn.q_rope": lambda c: c.a.rotate(c["attn.q_norm"], *c.places()),
    L + "attn.k_rope": lambda c: c.a.rotate(c["attn.k_norm"], *c.places()),
    L + "cache.k": lambda c: _cache(c, "k"),
    L + "cache.v": lambda c: _cache(c, "v"),
    L + "cache.positions": lambda c: c.world.cached_positions(),
    L + "attn.visible": _visible,
    L + "attn.scores": scores_of,
    L + "attn.probs": _probs,
    L + "attn.mix": _mix,
    L + "attn.out": lambda c: c.a.linear(_flat(c["attn.mix"]), c.p.attn_out),
    L + "mid": lambda c: c.a.add(c["in"], c["attn.post_norm"]),
    L + "ffn.gate": lambda c: c.a.linear(c["ffn.pre_norm"], c.p.gate),
    L + "ffn.up": lambda c: c.a.linear(c["ffn.pre_norm"], c.p.up),
    L + "ffn.act": lambda c: c.a.geglu(c["ffn.gate"], c["ffn.up"]),
    L + "ffn.out": lambda c: c.a.linear(c["ffn.act"], c.p.down),
    L + "out": lambda c: c.a.add(c["mid"], c["ffn.post_norm"]),
    "text.logits": lambda c: c.a.linear(c["text.final_norm"], c.world.table),
    **dict.fromkeys(NORMS, _norm),
}


V = "vision.layer.*."


def _pixels(c):
    if c.world.pixels is None:
        raise Unknown("the dump does not hold the pixels that went in")
    return c.world.pixels.astype(c.a.dtype)


def layer_norm_of(c, eps=None) -> np.ndarray:
    """Apply the tower's LayerNorm of this tap, with another epsilon if one is given."""
    x, field = (c[VISION_NORMS[tap_group(c.tap)][0]] if c.tap != "vision.post_norm" else _last_block(c)), ""
    field = VISION_NORMS[tap_group(c.tap)][1]
    return c.a.layer_norm(x, c.w(field), c.w(field + "_bias"), c.v.layer_norm_eps if eps is None else eps)


def _last_block(c):
    return c[f"vision.layer.{c.v.layers - 1}.out"]


VISION_NORMS = {
    V + "attn.pre_norm": ("in", "attn_norm"),
    V + "ffn.pre_norm": ("mid", "ffn_norm"),
    "vision.post_norm": ("", "post_norm"),
}


def vision_linear(c, source: str, field: str) -> np.ndarray:
    """Apply a linear layer of the tower with its bias."""
    return c.a.linear(_flat(c[source]), getattr(c.p, field), c.w(field + "_bias"))


def _vision_seen(c):
    images, patches = c["attn.q"].shape[:2]
    return np.ones((images, patches, patches), bool)


def vision_scale(c) -> float:
    """Return what the tower's scores are multiplied by."""
    return (c.v.width // c.v.heads) ** -0.5


def _vision_mix(c):
    if c.is_given("attn.scores") or c.is_known("attn.probs") or c.is_mutated("attn.scores", "attn.probs"):
        return c.a.mix(c["attn.probs"], c["attn.v"])
    return c.a.attend(c["attn.q"], c["attn.k"], c["attn.v"], _vision_seen(c), vision_scale(c))


def _patches(c):
    return c.a.convolve(split_patches(c["vision.pixels"], c.v.patch), c.p.patch, c.w("patch_bias"))


def _block_in(c):
    return c[f"vision.layer.{c.layer - 1}.out"] if c.layer else c["vision.embed"]


VISION_RULES: dict[str, Rule] = {
    "vision.pixels": _pixels,
    "vision.patch_embed": _patches,
    "vision.embed": lambda c: c.a.add(c["vision.patch_embed"], c.w("position").astype(c.a.dtype)),
    V + "in": _block_in,
    V + "attn.q": lambda c: _heads(c, vision_linear(c, "attn.pre_norm", "q"), c.v.heads),
    V + "attn.k": lambda c: _heads(c, vision_linear(c, "attn.pre_norm", "k"), c.v.heads),
    V + "attn.v": lambda c: _heads(c, vision_linear(c, "attn.pre_norm", "v"), c.v.heads),
    V + "attn.scores": lambda c: c.a.scores(c["attn.q"], c["attn.k"], vision_scale(c)),
    V + "attn.probs": lambda c: c.a.softmax(c["attn.scores"], _vision_seen(c)),
    V + "attn.mix": _vision_mix,
    V + "attn.out": lambda c: vision_linear(c, "attn.mix", "attn_out"),
    V + "mid": lambda c: c.a.add(c["in"], c["attn.out"]),
    V + "ffn.up": lambda c: vision_linear(c, "ffn.pre_norm", "up"),
    V + "ffn.act": lambda c: c.a.gelu(c["ffn.up"]),
    V + "ffn.out": lambda c: vision_linear(c, "ffn.act", "down"),
    V + "out": lambda c: c.a.add(c["mid"], c["ffn.out"]),
    "vision.pool": lambda c: c.a.average_pool(c["vision.post_norm"], c.v.pool),
    "vision.soft_tokens": lambda c: c.a.linear(c["vision.soft_norm"], np.ascontiguousarray(c.w("projection").T)),
    **dict.fromkeys(VISION_NORMS, layer_norm_of),
}
RULES: dict[str, Rule] = TEXT_RULES | VISION_RULES
_KNOWN = {*(L + name for name in LAYER_TAPS), *(V + name for name in VISION_LAYER_TAPS)}
assert set(RULES) == {*_KNOWN, *TEXT_TAPS, *VISION_TAPS, *MERGED}
