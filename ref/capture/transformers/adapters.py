"""Adapters in and around a model of transformers: what they add is the dump's to say, or a line says why not."""

import re
import warnings
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from ref.errors import wanted
from ref.weights.adapter import read_adapter
from ref.weights.names import EMBEDDING, HUGGING_FACE_PREFIXES, LAYER_NAMES

TABLE = "embed_tokens"


def put_adapter(model: Any, folder: str | Path, merged: bool = False) -> Any:
    """Put a LoRA adapter on a model, by PEFT.

    Args:
        model: of transformers.
        folder: what PEFT's `save_pretrained` wrote.
        merged: whether it is added to the weights. Its matrices may be named as in a model with or without a tower.

    Returns:
        The model, with the adapter in its layers.

    Raises:
        BadInput: as `ref.weights.adapter.read_adapter`; PEFT is not installed, or finds no place for the adapter.
    """
    places = read_adapter(folder).factors
    try:
        peft = import_module("peft")
    except ImportError as error:
        raise wanted("--adapter", "capture", "pip install peft", error) from None
    own = HUGGING_FACE_PREFIXES[2 if hasattr(model.model, "language_model") else 0]
    config = peft.PeftConfig.from_pretrained(str(folder))
    config.target_modules = [_module(own, *place) for place in places]  # a tower has modules of the same names
    mapping = {rf"^({'|'.join(map(re.escape, HUGGING_FACE_PREFIXES))})(?=layers\.|{TABLE}\.)": own}
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "Found missing adapter keys")
            wrapped = peft.PeftModel.from_pretrained(model, str(folder), config=config, key_mapping=mapping)
    except (RuntimeError, ValueError, UserWarning) as error:  # matrices of other shapes; modules that are not there
        raise wanted("--adapter", folder, "an adapter of these weights", error) from None
    if merged:
        wrapped.merge_adapter()
    inner = without_adapters(wrapped)
    if adapter_of(inner) is None:
        raise wanted("--adapter", folder, "an adapter of these weights that changes something", "none of its matrices")
    return inner


def _module(prefix: str, field: str, layer: int | None) -> str:
    """Name a matrix as the model does."""
    if layer is None:
        return prefix + TABLE if field == EMBEDDING else "lm_head"
    return f"{prefix}layers.{layer}.{LAYER_NAMES[field][0]}"


def without_adapters(model: Any) -> Any:
    """Return the model that adapters were put around, where they add nothing or are plain LoRA.

    Args:
        model: a PeftModel, a model with adapters in it, or any other.

    Returns:
        A PeftModel's base model; any other as it is.

    Raises:
        BadInput: an adapter of another kind changes something, or several do at once.

    Source: peft 0.18.1 and 0.21 `PeftModel.get_base_model`, `BaseTunerLayer`.
    """
    if hasattr(model, "peft_config") and hasattr(model, "get_base_model"):
        if getattr(model.active_peft_config, "is_prompt_learning", False):
            raise _adapted("a learnt prompt")
        model = model.get_base_model()
    adapter_of(model)
    return model


def adapter_of(model: Any) -> dict[str, Any] | None:
    """Say which LoRA adapter is in a model, as a dump says it: {"name", "merged"}; None where none adds anything.

    Raises:
        BadInput: as `without_adapters`.
    """
    found: set[tuple[str, bool]] = set()
    for name, module in _tuned(model):
        adding = [(one, bool(module.merged_adapters)) for one in _active(module) if _adds(module, one)]
        other = next((one for one, _ in adding if not _is_lora(module, one)), None)
        if other is not None:
            raise _adapted(f"{other} in {name}")
        found |= set(adding)
    if len(found) > 1:
        words = sorted(f"{one}{' merged' * merged}" for one, merged in found)
        raise _adapted(f"several: {', '.join(words)}")
    return None if not found else dict(zip(("name", "merged"), found.pop(), strict=True))


def _tuned(model: Any) -> Iterator[tuple[str, Any]]:
    """Yield the layers that have adapters, by name."""
    for name, module in model.named_modules() if hasattr(model, "named_modules") else ():
        if hasattr(module, "active_adapters") and hasattr(module, "merged_adapters"):
            yield name, module


def _active(module: Any) -> list[str]:
    """List the adapters that take part: the merged ones, or those that are active."""
    return [] if module.disable_adapters else list(module.merged_adapters or module.active_adapters)


def _adapted(got: str) -> Exception:
    want = "none, or one of plain LoRA; else merged (merge_and_unload), disabled or zero"
    return wanted("adapters", "capture", want, got)


def _adds(module: Any, adapter: str) -> bool:
    """Tell whether a layer with an adapter computes something else than the layer inside it."""
    kept = getattr(module, "modules_to_save", None)
    if kept is not None:  # trained copies of a whole module
        return adapter in kept and not _equal(kept[adapter], module.original_module)
    # of a part of a module, by a dotted name
    there = any(adapter in getattr(module, name, ()) for name in module.adapter_layer_names)
    return there and not _is_zero(module, adapter)


def _is_lora(module: Any, adapter: str) -> bool:
    """Tell whether an adapter is W + (alpha / r) B A: neither a copy, nor DoRA, nor with a bias."""
    tables = (getattr(module, name, {}) for name in ("lora_A", "lora_embedding_A"))
    more = (getattr(module, name, {}) for name in ("use_dora", "lora_bias"))
    return any(adapter in one for one in tables) and not any(one.get(adapter, False) for one in more)


def _is_zero(module: Any, adapter: str) -> bool:
    """Tell whether one of LoRA's two matrices is zero, as before training; other kinds are never known to be."""
    if getattr(module, "use_dora", {}).get(adapter, False):
        return False
    for table in (getattr(module, name, {}) for name in ("lora_A", "lora_B", "lora_embedding_A", "lora_embedding_B")):
        if adapter in table:
            own = table[adapter]
            if not any(value.any() for value in (own.parameters() if hasattr(own, "parameters") else [own])):
                return True
    return False


def _equal(a: Any, b: Any) -> bool:
    own, other = dict(a.named_parameters()), dict(b.named_parameters())
    return own.keys() == other.keys() and all(own[name].equal(other[name]) for name in own)
