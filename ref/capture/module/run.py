"""A torch module that is run once on token ids."""

from collections.abc import Callable
from typing import Any

from ref.errors import wanted


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
        BadInput: its weights are on the meta device.
    """
    import torch

    devices = [one.device for one in model.parameters()]
    if any(one.type == "meta" for one in devices):
        raise wanted("model", "capture", "weights on a device", "weights on the device meta, which holds none")
    return devices[0] if devices else torch.device("cpu")


def run(model: Any, rows: list[list[int]], device: Any, call: Callable[[Any, Any], Any] | None) -> Any:
    """Run a module once on all rows, and return what it returns.

    Args:
        model: from `as_module`.
        rows: ids of one length.
        device: from `device_of`.
        call: as `capture_module`.
    """
    import torch

    with torch.no_grad():
        given = torch.tensor(rows, device=device)
        return call(model, given) if call else model(given)
