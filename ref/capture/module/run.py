"""A torch module that is run on token ids, and on what goes in beside them."""

from collections.abc import Callable
from inspect import signature
from typing import Any

from ref.capture.passes import Pass
from ref.capture.prompts import Prompt
from ref.capture.transformers.tensors import of_numpy
from ref.capture.transformers.wrapped import device_of_hooks
from ref.errors import wanted

Call = Callable[..., Any]  # (model, ids) or (model, ids, Pass) -> what the model returns


def as_module(model: Any) -> Any:
    """Return a module that can be heard.

    Args:
        model: a module, or an `ExportedProgram`.

    Raises:
        BadInput: neither; what is left of a model that was compiled ahead of time has no modules.
    """
    import torch

    if isinstance(model, torch.export.ExportedProgram):
        return torch.export.unflatten(model)
    if not isinstance(model, torch.nn.Module):
        want = "a torch.nn.Module or an ExportedProgram; what was compiled ahead of time has no modules"
        raise wanted("model", "capture", want, type(model).__name__)
    return model


def device_of(model: Any) -> Any:
    """Return the device that a module's ids belong on.

    Raises:
        BadInput: its weights are on the meta device, and no hook of accelerate says where they will be.
    """
    import torch

    devices = [one.device for one in model.parameters()]
    if any(one.type == "meta" for one in devices):
        return device_of_hooks(model.modules())
    return devices[0] if devices else torch.device("cpu")


def checked_call(model: Any, call: Call | None, prompt: Prompt, steps: int) -> Callable[[Pass], Any]:
    """Return what runs a pass, having refused a call that could not hand on what goes in beside the ids.

    Args:
        model: from `as_module`.
        call: as `capture_module`.
        prompt: what will be run.
        steps: cached steps after it.

    Raises:
        BadInput: steps, pads or images, and a call that takes none; a model that takes more than ids.
    """
    beside = {"steps": steps, "left_pads": any(prompt.pads), "pixel_values": prompt.pixels is not None}
    asked = ", ".join(name for name, there in beside.items() if there)
    takes_pass = call is not None and _takes(call, 3) and (asked or not _takes(call, 2))
    if asked and not takes_pass:
        want = f"call=lambda model, ids, at: ..., which hands on what {asked} need, such as at.mask and at.positions"
        raise wanted("call", "capture", want, "none" if call is None else "one of (model, ids)")
    if call is None:
        if not _takes(getattr(model, "_orig_mod", model).forward, 1):
            want = "call=lambda model, ids: ... of a model that takes more than ids"
            raise wanted("call", "capture", want, "none")
        return lambda at: model(at.ids)
    if not takes_pass and not _takes(call, 2):
        raise wanted("call", "capture", "a function of (model, ids) or (model, ids, at)", "one of others")
    return (lambda at: call(model, at.ids, at)) if takes_pass else (lambda at: call(model, at.ids))


def _takes(function: Callable, count: int) -> bool:
    """Tell whether a function can be called with so many arguments; one that does not say can."""
    try:
        signature(function).bind(*[None] * count)
    except TypeError:
        return False
    except ValueError:
        return True
    return True


def run(call: Callable[[Pass], Any], at: Pass, device: Any, returned: Any = None) -> Any:
    """Run a pass, and return what the model returns.

    Args:
        call: from `checked_call`.
        at: the pass, of arrays.
        device: from `device_of`.
        returned: by the pass before.
    """
    import torch

    arrays = {name: getattr(at, name) for name in ("ids", "mask", "positions", "types", "pixels")}
    tensors = {name: None if one is None else of_numpy(one.copy()).to(device) for name, one in arrays.items()}
    with torch.no_grad():
        return call(at._replace(**tensors, returned=returned))
