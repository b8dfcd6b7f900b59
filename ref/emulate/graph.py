"""The model as a graph of taps: which operation makes each value, from which others.

The judge runs it three ways: from the prompt alone; each operation on a dump's own inputs; and with a mutant in the
place of one operation. tests/emulate/test_graph.py holds it equal to `ref.model`, which is the model as one reads it.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ref.emulate.arithmetic import Arithmetic
from ref.emulate.one_pass import OnePass, Unknown
from ref.emulate.operands import ROUND
from ref.model.inputs import insert
from ref.model.taps import LAYER_TAPS, MERGED, TEXT_TAPS, VISION_LAYER_TAPS, VISION_TAPS, tap_group
from ref.ops.patches import split_patches
from ref.ops.visibility import as_matrix

Rule = Callable[["Context"], Any]
NARROW = ("bfloat16", "float16")


class Context(NamedTuple):
    """What a rule is given: `at["attn.q"]` is the value of another tap of the same layer, computed or the dump's."""

    run: "Run"
    tap: str
    prefix: str  # `text.layer.3.`
    layer: int

    def __getitem__(self, name: str) -> np.ndarray:
        return self.run.value(name if name.startswith(("text.", "vision.", "model.")) else self.prefix + name)

    @property
    def ops(self) -> Arithmetic:
        """The operations."""
        return self.run.arithmetic

    @property
    def one_pass(self) -> OnePass:
        """The pass and its weights."""
        return self.run.one_pass

    @property
    def config(self):
        """The text configuration."""
        return self.run.one_pass.config

    @property
    def vision(self):
        """The vision configuration."""
        vision = self.run.one_pass.vision
        if vision is None:
            raise Unknown("the weights have no vision tower")
        return vision.config

    @property
    def weights(self):
        """The weights of this layer, or of the model outside the layers."""
        return self.run.weights_of(self.prefix)

    def vector(self, field: str) -> np.ndarray:
        """One vector of weights, as floats."""
        return np.asarray(getattr(self.weights, field))

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
        own_base, own_factor = self.config.rope(self.layer)
        positions = self.one_pass.positions if positions is None else positions
        return self.ops.table(
            np.maximum(positions, 0), self.config.head_dim, base or own_base, own_factor if factor is None else factor
        )

    def seen(self, keys: int, origin: int):
        """Return what each query sees as a boolean matrix of `keys` keys from `origin` on."""
        return as_seen(self["attn.visible"], keys, origin, self.one_pass.total)


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
        one_pass: the pass and the weights.
        arithmetic: how to compute.
        given: tap -> a function that loads the dump's value; {} to compute all from the prompt.
        before: the same run of the pass that this one continues, None for a first.
        mutant: tap group -> rule that stands in for the graph's own.
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
            if self.one_pass.ids.shape[1] == 1 or k.shape[1] == self.one_pass.total:
                return k, v, self.one_pass.total - k.shape[1]  # else a ring, which lacks keys that earlier queries see
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

    def with_world(self, one_pass: OnePass, stored: Mapping[str, Any]) -> "Run":
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


def _heads(at, x, count):
    return x.reshape(*x.shape[:2], count, -1)


def _in(at):
    if at.layer:
        return at[f"text.layer.{at.layer - 1}.out"]
    return at["model.merged"] if at.one_pass.places.any() else at["text.embed"]


def norm_input(at) -> np.ndarray:
    """Return what an RMSNorm is applied to."""
    if at.tap == "text.final_norm":
        return at[f"text.layer.{at.one_pass.layers - 1}.out"]
    return at[NORMS[tap_group(at.tap)][0]]


def _norm(at):
    return at.ops.rms_norm(norm_input(at), at.vector(NORMS[tap_group(at.tap)][1]), norm_eps(at))


def norm_eps(at) -> float:
    """Return the epsilon of an RMSNorm."""
    return at.vision.layer_norm_eps if at.tap == "vision.soft_norm" else at.config.rms_eps


LAYER = "text.layer.*."
NORMS = {  # tap group: input, field of the gain
    LAYER + "attn.pre_norm": ("in", "pre_attn_norm"),
    LAYER + "attn.q_norm": ("attn.q", "q_norm"),
    LAYER + "attn.k_norm": ("attn.k", "k_norm"),
    LAYER + "attn.post_norm": ("attn.out", "post_attn_norm"),
    LAYER + "ffn.pre_norm": ("mid", "pre_ffn_norm"),
    LAYER + "ffn.post_norm": ("ffn.out", "post_ffn_norm"),
    "text.final_norm": ("", "final_norm"),
    "vision.soft_norm": ("vision.pool", "soft_norm"),
}


def _probs(at):
    scores = at["attn.scores"]
    return at.ops.softmax(scores, at.seen(scores.shape[-1], at.one_pass.total - scores.shape[-1]))


def scores_of(at, q=None, scale=None) -> np.ndarray:
    """Compute the scores, with another query or scale if one is given."""
    k, _, _ = at.keys()
    return at.ops.scores(at["attn.q_rope"] if q is None else q, k, at.config.query_scale if scale is None else scale)


def _mix(at):
    k, v, origin = at.keys()
    if not (at.is_given("attn.scores") or at.is_known("attn.probs") or at.is_mutated("attn.scores", "attn.probs")):
        return at.ops.attend(at["attn.q_rope"], k, v, at.seen(k.shape[1], origin), at.config.query_scale)
    probs = at["attn.probs"]
    keys = min(probs.shape[-1], v.shape[1])  # what only one of them holds is too old to be seen
    return at.ops.mix(probs[..., probs.shape[-1] - keys :], v[:, v.shape[1] - keys :])


def _visible(at):
    return at.one_pass.visible(at.layer)


def _cache(at, name):
    k, v = at.run.history(at.prefix)
    return at.ops.keep(k if name == "k" else v)


def _flat(x):
    return x.reshape(*x.shape[:2], -1)


TEXT_RULES: dict[str, Rule] = {
    "text.embed": lambda at: at.ops.embed(at.one_pass.ids, at.one_pass.table, np.sqrt(np.float64(at.config.width))),
    "model.merged": lambda at: insert(at["text.embed"], at["vision.soft_tokens"], at.one_pass.places),
    LAYER + "in": _in,
    LAYER + "attn.q": lambda at: _heads(at, at.ops.linear(at["attn.pre_norm"], at.weights.q), at.config.query_heads),
    LAYER + "attn.k": lambda at: _heads(at, at.ops.linear(at["attn.pre_norm"], at.weights.k), at.config.kv_heads),
    LAYER + "attn.v": lambda at: _heads(at, at.ops.linear(at["attn.pre_norm"], at.weights.v), at.config.kv_heads),
    LAYER + "attn.q_rope": lambda at: at.ops.rotate(at["attn.q_norm"], *at.places()),
    LAYER + "attn.k_rope": lambda at: at.ops.rotate(at["attn.k_norm"], *at.places()),
    LAYER + "cache.k": lambda at: _cache(at, "k"),
    LAYER + "cache.v": lambda at: _cache(at, "v"),
    LAYER + "cache.positions": lambda at: at.one_pass.cached_positions(),
    LAYER + "attn.visible": _visible,
    LAYER + "attn.scores": scores_of,
    LAYER + "attn.probs": _probs,
    LAYER + "attn.mix": _mix,
    LAYER + "attn.out": lambda at: at.ops.linear(_flat(at["attn.mix"]), at.weights.attn_out),
    LAYER + "mid": lambda at: at.ops.add(at["in"], at["attn.post_norm"]),
    LAYER + "ffn.gate": lambda at: at.ops.linear(at["ffn.pre_norm"], at.weights.gate),
    LAYER + "ffn.up": lambda at: at.ops.linear(at["ffn.pre_norm"], at.weights.up),
    LAYER + "ffn.act": lambda at: at.ops.geglu(at["ffn.gate"], at["ffn.up"]),
    LAYER + "ffn.out": lambda at: at.ops.linear(at["ffn.act"], at.weights.down),
    LAYER + "out": lambda at: at.ops.add(at["mid"], at["ffn.post_norm"]),
    "text.logits": lambda at: at.ops.linear(at["text.final_norm"], at.one_pass.table),
    **dict.fromkeys(NORMS, _norm),
}


TOWER = "vision.layer.*."


def _pixels(at):
    if at.one_pass.pixels is None:
        raise Unknown("the dump does not hold the pixels that went in")
    return at.one_pass.pixels.astype(at.ops.dtype)


def layer_norm_of(at, eps=None) -> np.ndarray:
    """Apply the tower's LayerNorm of this tap, with another epsilon if one is given."""
    source, field = VISION_NORMS[tap_group(at.tap)]
    x = at[source] if source else _last_block(at)
    eps = at.vision.layer_norm_eps if eps is None else eps
    return at.ops.layer_norm(x, at.vector(field), at.vector(field + "_bias"), eps)


def _last_block(at):
    return at[f"vision.layer.{at.vision.layers - 1}.out"]


VISION_NORMS = {
    TOWER + "attn.pre_norm": ("in", "attn_norm"),
    TOWER + "ffn.pre_norm": ("mid", "ffn_norm"),
    "vision.post_norm": ("", "post_norm"),
}


def vision_linear(at, source: str, field: str) -> np.ndarray:
    """Apply a linear layer of the tower with its bias."""
    return at.ops.linear(_flat(at[source]), getattr(at.weights, field), at.vector(field + "_bias"))


def _vision_seen(at):
    images, patches = at["attn.q"].shape[:2]
    return np.ones((images, patches, patches), bool)


def vision_scale(at) -> float:
    """Return what the tower's scores are multiplied by."""
    return (at.vision.width // at.vision.heads) ** -0.5


def _vision_mix(at):
    if at.is_given("attn.scores") or at.is_known("attn.probs") or at.is_mutated("attn.scores", "attn.probs"):
        return at.ops.mix(at["attn.probs"], at["attn.v"])
    return at.ops.attend(at["attn.q"], at["attn.k"], at["attn.v"], _vision_seen(at), vision_scale(at))


def _patches(at):
    return at.ops.convolve(
        split_patches(at["vision.pixels"], at.vision.patch), at.weights.patch, at.vector("patch_bias")
    )


def _block_in(at):
    return at[f"vision.layer.{at.layer - 1}.out"] if at.layer else at["vision.embed"]


VISION_RULES: dict[str, Rule] = {
    "vision.pixels": _pixels,
    "vision.patch_embed": _patches,
    "vision.embed": lambda at: at.ops.add(at["vision.patch_embed"], at.vector("position").astype(at.ops.dtype)),
    TOWER + "in": _block_in,
    TOWER + "attn.q": lambda at: _heads(at, vision_linear(at, "attn.pre_norm", "q"), at.vision.heads),
    TOWER + "attn.k": lambda at: _heads(at, vision_linear(at, "attn.pre_norm", "k"), at.vision.heads),
    TOWER + "attn.v": lambda at: _heads(at, vision_linear(at, "attn.pre_norm", "v"), at.vision.heads),
    TOWER + "attn.scores": lambda at: at.ops.scores(at["attn.q"], at["attn.k"], vision_scale(at)),
    TOWER + "attn.probs": lambda at: at.ops.softmax(at["attn.scores"], _vision_seen(at)),
    TOWER + "attn.mix": _vision_mix,
    TOWER + "attn.out": lambda at: vision_linear(at, "attn.mix", "attn_out"),
    TOWER + "mid": lambda at: at.ops.add(at["in"], at["attn.out"]),
    TOWER + "ffn.up": lambda at: vision_linear(at, "ffn.pre_norm", "up"),
    TOWER + "ffn.act": lambda at: at.ops.gelu(at["ffn.up"]),
    TOWER + "ffn.out": lambda at: vision_linear(at, "ffn.act", "down"),
    TOWER + "out": lambda at: at.ops.add(at["mid"], at["ffn.out"]),
    "vision.pool": lambda at: at.ops.average_pool(at["vision.post_norm"], at.vision.pool),
    "vision.soft_tokens": lambda at: at.ops.linear(
        at["vision.soft_norm"], np.ascontiguousarray(at.vector("projection").T)
    ),
    **dict.fromkeys(VISION_NORMS, layer_norm_of),
}
RULES: dict[str, Rule] = TEXT_RULES | VISION_RULES
_KNOWN = {*(LAYER + name for name in LAYER_TAPS), *(TOWER + name for name in VISION_LAYER_TAPS)}
assert set(RULES) == {*_KNOWN, *TEXT_TAPS, *VISION_TAPS, *MERGED}
