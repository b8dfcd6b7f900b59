"""What may be wrapped around a model: adapters, a compiler, and hooks that bring its weights from elsewhere."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ref.capture.transformers.model import text_model
from ref.errors import wanted


def untraced(function: Callable) -> Callable:
    """Keep a compiler out of a function that listens, and of all that it calls."""
    import torch

    return torch.compiler.disable(function)


def untraced_here(function: Callable) -> Callable:
    """Keep a compiler out of a function that listens, but not of the one that it listens to."""
    import torch

    return torch.compiler.disable(function, recursive=False)


def unwrapped(module: Any) -> Any:
    """Return the module that `torch.compile` was given, or the module itself."""
    return getattr(module, "_orig_mod", module)


def is_compiled(model: Any) -> bool:
    """Tell whether any part of a model is compiled, by `torch.compile` or by its own `compile`."""
    return any(
        hasattr(one, "_orig_mod")
        or getattr(one, "_compiled_call_impl", None) is not None
        or hasattr(one.forward, "_torchdynamo_orig_callable")
        for one in model.modules()
    )


@contextmanager
def traced_anew(model: Any) -> Iterator[None]:
    """Have a compiled model traced with the hooks that it has now, and afterwards without them.

    Args:
        model: compiled or not.

    Source: torch 2.13 `torch._dynamo.config.skip_nnmodule_hook_guards`: a trace does not notice hooks that come later.
    """
    if not is_compiled(model):
        yield
        return
    import torch

    torch.compiler.reset()
    try:
        yield
    finally:
        torch.compiler.reset()


def device_of(model: Any) -> Any:
    """Return the device that a model takes its inputs on.

    Args:
        model: transformers'.

    Raises:
        BadInput: its weights are nowhere, and no hook of accelerate says where they will be.

    Source: accelerate 1.15 `AlignDevicesHook`; of an offloaded model the weights are on `meta` between calls.
    """
    import torch

    text = text_model(model)
    device = next(text.parameters()).device
    if device.type != "meta":
        return device
    for module in (text.embed_tokens, text, model):
        hook = getattr(module, "_hf_hook", None)
        for one in getattr(hook, "hooks", [hook]):
            found = getattr(one, "execution_device", None)
            if found is not None:
                return torch.device(found)
    want = "weights, or a hook of accelerate that brings them to a device"
    raise wanted("model", "capture", want, "weights on the device meta, which holds none")


def without_adapters(model: Any) -> Any:
    """Return the model that adapters were put around, where they change nothing.

    Args:
        model: a PeftModel, a model with adapters in it, or any other.

    Returns:
        A PeftModel's base model; any other as it is.

    Raises:
        BadInput: an adapter adds to the weights: it is neither merged into them, nor disabled, nor zero.

    Source: peft 0.21 `PeftModel.get_base_model`, `BaseTunerLayer`.
    """
    if hasattr(model, "peft_config") and hasattr(model, "get_base_model"):
        if getattr(model.active_peft_config, "is_prompt_learning", False):
            raise _adapted("a learnt prompt")
        model = model.get_base_model()
    for name, module in model.named_modules() if hasattr(model, "named_modules") else ():
        if hasattr(module, "active_adapters") and hasattr(module, "merged_adapters") and _adds(module):
            raise _adapted(f"{', '.join(module.active_adapters)} in {name}")
    return model


def _adapted(got: str) -> Exception:
    want = (
        "none, or merged ones (merge_and_unload), disabled ones or zeros: the dump is judged against the base weights"
    )
    return wanted("adapters", "capture", want, got)


def _adds(module: Any) -> bool:
    """Tell whether a layer with adapters computes something else than the layer inside it."""
    if module.disable_adapters or module.merged_adapters:
        return False
    kept = getattr(module, "modules_to_save", None)
    if kept is not None:  # trained copies of a whole module
        return any(not _equal(kept[one], module.original_module) for one in module.active_adapters if one in kept)
    tables = [getattr(module, name, ()) for name in module.adapter_layer_names]  # of a part of it, by a dotted name
    active = {one for one in module.active_adapters if any(one in table for table in tables)}
    return any(not _is_zero(module, one) for one in active)


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
