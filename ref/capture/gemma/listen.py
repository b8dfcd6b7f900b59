"""Which value inside google-deepmind/gemma is which tap, and how it comes out of the compiled function.

Modules are heard through flax's `intercept_methods`. Three values are arguments of functions instead: the rotation's
results, and the mask and the scores where `jnp.where` joins them. Those two functions are wrapped while a capture runs.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any
from unittest.mock import patch

from ref.model.taps import Recorder

# name of the module inside a block -> tap of its result
NORMS = {
    "pre_attention_norm": "attn.pre_norm",
    "_query_norm": "attn.q_norm",
    "_key_norm": "attn.k_norm",
    "post_attention_norm": "attn.post_norm",
    "pre_ffw_norm": "ffn.pre_norm",
    "post_ffw_norm": "ffn.post_norm",
}
NORMED = {"_query_norm": "q", "_key_norm": "k"}
NUMBER = count()


class Listener:
    """Hear one capture's passes; what was heard lies in a flax collection of its own, at `collection`.

    The collection's name is new each time, so that flax traces the model again: a trace that jax kept would be that of
    the model before its owner's latest patch.
    """

    def __init__(self, parts, patterns):
        self.parts, self.recorder = parts, Recorder(*patterns)
        self.collection = f"taps_{next(NUMBER)}"
        self.attention: list[Any] = []  # the module whose functions are called
        self.rotated = 0  # rotations in it so far
        self.normed: dict[str, Any] = {}  # q and k of it, as its norms gave them

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Wrap what has to be wrapped, and restore it."""
        modules, rotations = self.parts.modules, self.parts.rotations
        with (
            patch.object(modules, "jnp", _Numpy(modules.jnp, self._where)),
            patch.object(rotations, "apply_rope", self._rotation(rotations.apply_rope)),
            self.parts.nn.intercept_methods(self._called),
        ):
            yield

    def values(self, heard) -> dict[str, Any]:
        """Return tap -> value of a pass.

        Args:
            heard: what `apply` returned beside the model's output.
        """
        values: dict[str, Any] = {}
        for name, one in _leaves(heard.get(self.collection, {})):
            if len(one) != 1:
                raise AssertionError(f"tap {name} was reported {len(one)} times in one pass")
            values[name] = one[0]
        return values

    def _called(self, following, args, kwargs, context):
        module, method = context.module, context.method_name
        if method not in ("__call__", "encode"):
            return following(*args, **kwargs)
        is_attention = isinstance(module, self.parts.modules.Attention)
        if is_attention:
            self.attention.append(module)
            self.rotated, self.normed = 0, {}
        try:
            result = following(*args, **kwargs)
        finally:
            if is_attention:
                self.attention.pop()
        if module.name in NORMED:
            self.normed[NORMED[module.name]] = result
        for tap, value in self._taps(module, args, result):
            self._sow(module, tap, value)
        return result

    def _taps(self, module, args, result):
        m, given = self.parts.modules, args[0] if args else None
        if isinstance(module, m.Embedder):
            yield "text.embed", result
        elif isinstance(module, m.Block):
            yield "in", given
            yield "out", result[1]
        elif isinstance(module, m.Attention):
            yield "attn.out", result[1]
        elif isinstance(module, self.parts.layers.RMSNorm):
            if module.name == "pre_ffw_norm":
                yield "mid", given
            if module.name == "final_norm":
                yield "text.final_norm", result
            elif module.name in NORMS:
                yield NORMS[module.name], result
        elif isinstance(module, self.parts.layers.Einsum):
            yield from _products(module, args[1], result)  # after the equation
        elif module.name == "attention_weights":
            yield "attn.probs", result.swapaxes(1, 2)  # B T N S -> B N T S

    def _sow(self, module, tap, value):
        if not tap.startswith("text."):
            while not isinstance(module, self.parts.modules.Block):
                module = module.parent
                if module is None:
                    return
            tap = f"text.layer.{module.name.removeprefix('layer_')}.{tap}"
        if self.recorder.wants(tap):
            module.sow(self.collection, tap, value)

    def _rotation(self, apply_rope):
        def rotate(inputs, *args, **kwargs):
            out = apply_rope(inputs, *args, **kwargs)
            if self.attention:
                module, self.rotated = self.attention[-1], self.rotated + 1
                # what was normed as a query is one; of what was changed since, queries come first
                known = [name for name, value in self.normed.items() if value is inputs]
                name = known[0] if known else "q" if self.rotated == 1 else "k"
                self._sow(module, f"attn.{name}_rope", out)
            return out

        return rotate

    def _where(self, where):
        def joined(condition, *args, **kwargs):
            # padded_logits = jnp.where(attn_mask as [B, T, 1, S], logits [B, T, N, S], K_MASK)
            if self.attention and len(args) == 2 and condition.ndim == 4 and condition.shape[2] == 1:
                self._sow(self.attention[-1], "attn.visible", condition[:, :, 0])
                self._sow(self.attention[-1], "attn.scores", args[0].swapaxes(1, 2))
            return where(condition, *args, **kwargs)

        return joined


class _Numpy:
    """`jax.numpy` as gemma's attention sees it, with `where` heard."""

    def __init__(self, numpy, wrap):
        self._numpy, self.where = numpy, wrap(numpy.where)

    def __getattr__(self, name):
        return getattr(self._numpy, name)


def _products(module, given, result):
    name = module.name
    if name == "q_einsum":
        yield "attn.q", result
    elif name in ("kv_einsum", "qkv_einsum"):
        yield from zip(("attn.q", "attn.k", "attn.v")[-len(result) :], result, strict=True)
    elif name == "attn_vec_einsum":
        yield "attn.mix", given
    elif module.weight_name == "gating_einsum":
        yield "ffn.gate", result[..., 0, :]
        yield "ffn.up", result[..., 1, :]
    elif module.weight_name == "linear":
        yield "ffn.act", given
        yield "ffn.out", result


def _leaves(tree):
    for name, one in tree.items():
        if isinstance(one, tuple):
            yield name, one
        else:
            yield from _leaves(one)
