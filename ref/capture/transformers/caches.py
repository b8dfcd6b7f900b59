"""The cache that a model of transformers is run with: its owner's, or one by the name that `generate` has for it."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from ref.capture.adapters import CACHES
from ref.capture.transformers.attention import replaced
from ref.capture.transformers.listen import Listener
from ref.capture.transformers.model import import_transformers
from ref.capture.transformers.wrapped import device_of, untraced
from ref.errors import one_line, wanted

STATIC = ("static", "offloaded_static")


def check_cache(given: Any, longest: int) -> None:
    """Refuse a cache that cannot take what is to be run.

    Args:
        given: a name of CACHES, a cache of transformers, or None for one that grows.
        longest: how many keys a row will have.

    Raises:
        BadInput: another name, no cache, one that holds keys already, or one that is too short.
    """
    if given is None or given in CACHES:
        return
    want = f"{', '.join(CACHES)}, or an empty cache of transformers"
    if not hasattr(given, "get_seq_length") or not hasattr(given, "update"):
        raise wanted("cache", "capture", want, given if isinstance(given, str) else type(given).__name__)
    if held := int(given.get_seq_length()):
        raise wanted("cache", "capture", "an empty cache", f"one of {held} keys")
    room = [one.max_cache_len for one in getattr(given, "layers", ()) if not getattr(one, "is_sliding", False)
            and hasattr(one, "max_cache_len")]  # fmt: skip
    if room and min(room) < longest:
        raise wanted("cache", "capture", f"a cache of {longest} keys or more", min(room))


def make_cache(given: Any, model: Any, longest: int) -> Any:
    """Return the cache.

    Args:
        given, longest: as `check_cache`.
        model: transformers'.

    Raises:
        BadInput: transformers does not make it for this model.

    Source: transformers 5.23 `GenerationMixin._prepare_cache_for_generation`.
    """
    if given is not None and not isinstance(given, str):
        return given
    _, transformers = import_transformers()
    name, config = given or "dynamic", model.config.get_text_config()
    more = {"offloading": True} if name.startswith("offloaded") else {}
    if more and device_of(model).type == "cpu":
        raise wanted("cache", "capture", f"a model on an accelerator, for {name}", "one on the CPU")
    try:
        if name in STATIC:
            return transformers.StaticCache(config=config, max_cache_len=longest, **more)
        return transformers.DynamicCache(config=config, **more)
    except (ValueError, RuntimeError) as error:
        raise wanted("cache", "capture", "a cache that transformers makes", one_line(error)) from None


@contextmanager
def hear_cache(cache: Any, listener: Listener) -> Iterator[None]:
    """Tell the listener which keys are new until the end of a `with` statement: a slot may be the wrong one.

    Args:
        cache: transformers', or None.
        listener: is told what each layer caches.
    """
    if cache is None:
        yield
        return
    update = cache.update
    listener.has_slots = any(hasattr(layer, "max_cache_len") for layer in getattr(cache, "layers", ()))

    @untraced
    def tell(new: Any, given: Any) -> None:
        listener.cached = (new, given)

    @wraps(update)
    def heard(*args, **kwargs):
        result = update(*args, **kwargs)
        new = args[0] if args else kwargs.get("key_states")
        if isinstance(result, tuple) and result:
            tell(new, result[0])
        return result

    with replaced(cache, "update", heard):
        yield
