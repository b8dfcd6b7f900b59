"""Hear what transformers' attention functions are given and give back, whoever calls them and whoever wrote them.

Queries and keys are rotated by then, whatever rotated them; the mask is the one that counts. `config` is not touched:
the form of the mask depends on `_attn_implementation`.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from inspect import signature
from types import FunctionType
from typing import Any

from ref.capture.transformers.listen import HEADS_FIRST, Listener
from ref.capture.transformers.seen import are_probs, scores_behind, seen_cells, visible_keys
from ref.capture.transformers.wrapped import untraced, untraced_here

FIRST = ("module", "query", "key", "value", "attention_mask")  # of every attention function, by place
MODELS = ("transformers.models.gemma3.modeling_gemma3", "transformers.models.siglip.modeling_siglip")
EAGER, SDPA = "eager_attention_forward", "sdpa_attention_forward"
FUNCTIONS = {
    **dict.fromkeys(((file, EAGER) for file in MODELS), "eager"),
    ("transformers.integrations.sdpa_attention", SDPA): "sdpa",
}


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Replace an attribute for a while, then leave the owner as it was."""
    had, old = name in vars(owner), vars(owner).get(name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if had:
            setattr(owner, name, old)
        else:
            delattr(owner, name)


def hear_attention(stack: ExitStack, listener: Listener, modules: dict[Any, list[str]]) -> None:
    """Wrap every attention function where it is looked up, until the stack is closed.

        ALL_ATTENTION_FUNCTIONS.get_interface(name, default), ALL_ATTENTION_FUNCTIONS[name];
        eager_attention_forward of gemma3 and siglip, and sdpa_attention_forward, in every module that holds them

    Args:
        stack: restores what was there.
        listener: is told.
        modules: attention module -> prefixes of its taps.

    Source: transformers 5.23 `Gemma3Attention.forward`, `AttentionInterface.get_interface`.
    Differs: a function that a closure holds is out of reach; then only `attn.mix` is had, from the output projection.
    """
    ear = _Ear(listener, modules)
    for owner, name, implementation in list(_held()):
        stack.enter_context(replaced(owner, name, ear.wrap(vars(owner)[name], implementation)))
    found = [vars(file).get("ALL_ATTENTION_FUNCTIONS") for file in _files()]
    tables = {id(table): table for table in found if hasattr(table, "get_interface")}.values()
    for table in tables:
        stack.enter_context(replaced(table, "get_interface", _looked_up(ear, table.get_interface)))
    for kind in {type(table) for table in tables}:
        stack.enter_context(replaced(kind, "__getitem__", _looked_up_in(ear, kind.__getitem__)))


def _files() -> list[Any]:
    """Return the models' modules; a text model does not load SigLIP's."""
    return [sys.modules[file] for file in MODELS if file in sys.modules]


def _held() -> Iterator[tuple[Any, str, str]]:
    """List (module, name, implementation) of the places where loaded modules hold an attention function."""
    own = {id(vars(file)[EAGER]) for file in _files()}  # perhaps the owner's, and perhaps no function
    for module in list(sys.modules.values()):
        names = getattr(module, "__dict__", None)
        if not isinstance(names, dict):
            continue
        held = list(names.items())
        if not own.isdisjoint(map(id, names.values())):  # of a hundred thousand names: as few steps as can be
            yield from ((module, name, "eager") for name, value in held if id(value) in own)
        # asking isinstance makes some objects of torch warn
        functions = [one for one in held if type(one[1]) is FunctionType and one[1].__name__ in (EAGER, SDPA)]
        for name, value in functions:
            implementation = FUNCTIONS.get((value.__module__, value.__name__))
            if implementation and id(value) not in own:
                yield module, name, implementation


def _looked_up(ear: "_Ear", lookup: Callable) -> Callable:
    @wraps(lookup)
    def get(name, *args, **kwargs):
        return ear.wrap(lookup(name, *args, **kwargs), name)

    return get


def _looked_up_in(ear: "_Ear", lookup: Callable) -> Callable:
    @wraps(lookup)
    def get(table, name):
        return ear.wrap(lookup(table, name), name)

    return get


class _Ear:
    """Wraps functions; of calls inside one another for one module, the outermost is heard."""

    def __init__(self, listener: Listener, modules: dict[Any, list[str]]):
        self.listener, self.modules = listener, modules
        self.inside: set[Any] = set()

    def wrap(self, function: Any, implementation: str) -> Any:
        if not callable(function) or getattr(function, "ear", None) is self:
            return function
        names, told = _names(function), untraced(self._told)

        @untraced_here
        @wraps(function)
        def heard(*args, **kwargs):
            given = dict(zip(names, args, strict=False)) | kwargs
            module = given.get("module")
            if module not in self.modules or module in self.inside:
                return function(*args, **kwargs)
            self.inside.add(module)
            try:
                result = function(*args, **kwargs)
            finally:
                self.inside.discard(module)
            told(given, result, implementation)
            return result

        heard.ear = self  # type: ignore[attr-defined]
        return heard

    def _told(self, given: dict[str, Any], result: Any, implementation: str) -> None:
        module = given["module"]
        self.hear(self.listener.turn(module, "attention", self.modules[module]), given, result, implementation)

    def hear(self, prefix: str, given: dict[str, Any], result: Any, implementation: str) -> None:
        q, k, v = self._operands(given)
        mixed, probs = result if isinstance(result, tuple) else (result, None)
        if not self._is_whole(prefix, q, k):
            return
        tap, wants = self.listener.tap, self.listener.wants
        if prefix.startswith("text."):
            self._hear_keys(prefix, q, k, v, given, implementation)
        if self.listener.agreed(are_probs(probs, q, k, implementation)):
            scaling = given.get("scaling")
            if wants(prefix + "attn.scores"):
                scaling = q.shape[-1] ** -0.5 if scaling is None else scaling
                found = scores_behind(q, k, scaling, given.get("attention_mask"), probs)
                if self.listener.agreed(found is not None):
                    tap(prefix + "attn.scores", self._keys(prefix, found, -1))
            tap(prefix + "attn.probs", self._keys(prefix, probs, -1))
        self._hear_mix(prefix + "attn.mix", q, mixed)

    def _hear_mix(self, tap: str, q: Any, mixed: Any) -> None:
        """Keep what is mixed, for where the owner's output projection is not heard, whose input it should be."""
        if self.listener.wants(tap) and hasattr(mixed, "detach"):
            rows = mixed.unflatten(-1, (-1, q.shape[-1])) if mixed.ndim == 3 else mixed
            if rows.shape == q.transpose(1, 2).shape:
                self.listener.spare[tap] = rows.detach().clone()

    def _hear_keys(self, prefix, q, k, v, given, implementation) -> None:
        tap = self.listener.tap
        tap(prefix + "attn.q_rope", q, HEADS_FIRST)
        tap(prefix + "attn.k_rope", self._new_keys(prefix, q, k), HEADS_FIRST)
        if self.listener.with_cache:
            tap(prefix + "cache.k", self._keys(prefix, k, 2), HEADS_FIRST)
            tap(prefix + "cache.v", self._keys(prefix, v, 2), HEADS_FIRST)
        if self.listener.wants(prefix + "attn.visible"):
            seen = seen_cells(q, k, given, implementation)
            if seen is not None:
                for row, pads in enumerate(self.listener.pads):
                    keys = visible_keys(seen[row % len(seen)], self.listener.total, pads)
                    self.listener.give(row, prefix + "attn.visible", keys)

    def _new_keys(self, prefix: str, q: Any, k: Any) -> Any:
        """Return the keys of this pass: those that the cache was given, if attention has what it gave back."""
        cached, self.listener.cached = self.listener.cached, None
        if cached is not None and cached[1] is k and cached[0].shape[2:] == q.shape[2:]:
            return cached[0]
        return self._keys(prefix, k, 2)[:, :, -q.shape[2] :]

    def _keys(self, prefix: str, value: Any, axis: int) -> Any:
        """Cut off the slots of a static cache that no key was written to: they stand behind the keys of the text."""
        if prefix.startswith("vision."):
            return value
        return value.narrow(axis, 0, min(value.shape[axis], self.listener.total))

    @staticmethod
    def _operands(given: dict[str, Any]) -> tuple[Any, Any, Any]:
        return given.get("query"), given.get("key"), given.get("value")

    def _is_whole(self, prefix: str, q: Any, k: Any) -> bool:
        """Tell whether a call is of all queries and heads; part of them is no tap."""
        if not hasattr(q, "detach") or not hasattr(k, "detach") or q.ndim != 4 or k.ndim != 4:
            return False
        (queries, length), (keys, _) = (self.listener.heads(prefix, letter) for letter in "NK")
        whole = (queries, length) == (q.shape[1], q.shape[3]) and (keys, length) == (k.shape[1], k.shape[3])
        if prefix.startswith("vision."):
            return whole
        most = k.shape[2] if self.listener.has_slots else self.listener.total
        return whole and q.shape[2] == self.listener.tokens <= k.shape[2] <= most


def _names(function: Callable) -> tuple[str, ...]:
    """Name a function's arguments by place."""
    try:
        own = list(signature(function).parameters)
    except (TypeError, ValueError):
        own = []
    return (*FIRST, *own[len(FIRST) :])
