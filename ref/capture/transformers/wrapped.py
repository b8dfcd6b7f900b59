"""What may be wrapped around a model: a compiler, and hooks that bring its weights from elsewhere."""

from collections.abc import Callable, Iterable, Iterator
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
    text = text_model(model)
    device = next(text.parameters()).device
    return device if device.type != "meta" else device_of_hooks((text.embed_tokens, text, model))


def device_of_hooks(modules: Iterable[Any]) -> Any:
    """Return the device on which the first module runs that a hook of accelerate brings its weights to.

    Args:
        modules: whose weights are on `meta`.

    Raises:
        BadInput: none has such a hook.
    """
    import torch

    for module in modules:
        hook = getattr(module, "_hf_hook", None)
        for one in getattr(hook, "hooks", [hook]):
            found = getattr(one, "execution_device", None)
            if found is not None:
                return torch.device(found)
    want = "weights, or a hook of accelerate that brings them to a device"
    raise wanted("model", "capture", want, "weights on the device meta, which holds none")
