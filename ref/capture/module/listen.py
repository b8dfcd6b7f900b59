"""Hooks on the places of a table; every value is copied when it is heard, since it may be written over later."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from ref.capture.places import Place
from ref.capture.transformers.tensors import to_numpy
from ref.capture.transformers.wrapped import untraced
from ref.capture.values import Values
from ref.errors import wanted

WRAPPERS = ("_orig_mod", "module")  # what torch.compile and DataParallel put around a model


def modules_of(model: Any) -> dict[str, Any]:
    """Return the modules of a model under their names, without what wrappers put before them.

    Args:
        model: a torch module.

    Returns:
        A module that stands at several places under each name.
    """
    found = {}
    for name, module in model.named_modules(remove_duplicate=False):
        parts = name.split(".")
        while len(parts) > 1 and parts[0] in WRAPPERS:
            parts = parts[1:]
        found[".".join(one for one in parts if one != WRAPPERS[0])] = getattr(module, "_orig_mod", module)
    return found


@contextmanager
def hearing(modules: dict[str, Any], places: list[Place], values: Values) -> Iterator[None]:
    """Listen to places while a block runs.

    Args:
        modules: by name.
        places: of the table.
        values: is told.
    """
    with ExitStack() as stack:
        for place in places:
            module = modules[place.module]
            if place.side == "input":
                handle = module.register_forward_pre_hook(untraced(_on_input(place, values)), with_kwargs=True)
            else:
                handle = module.register_forward_hook(untraced(_on_output(place, values)))
            stack.callback(handle.remove)
        yield


def _on_input(place: Place, values: Values):
    def hook(module, args, kwargs):
        if values.wants(place):
            several = (*args, *([] if args else kwargs.values()))
            values.take(place, to_numpy(one_of(place, several, kwargs, ordered=not is_unflattened(module))))

    return hook


def _on_output(place: Place, values: Values):
    def hook(module, args, out):
        if values.wants(place):
            several = out if isinstance(out, (tuple, list)) else [out]
            values.take(place, to_numpy(one_of(place, several, out)))

    return hook


def is_unflattened(module: Any) -> bool:
    """Tell whether a module is of `torch.export.unflatten`: its arguments come in the reverse order of first use.

    Source: torch 2.13 `torch/export/unflatten.py` `_ModuleFrame.remap_input`.
    """
    return type(module).__module__ == "torch.export.unflatten"


def one_of(place: Place, several: Any, named: Any, *, ordered: bool = True) -> Any:
    """Return the value of a place that a row means.

    Args:
        place: of the table.
        several: positional ones.
        named: what has them by name, as keys or attributes.
        ordered: whether the first input is the one that the model's code has first; it is then meant.

    Raises:
        BadInput: there is no such value, or several and the row does not say which.
    """
    tensors = [at for at, one in enumerate(several) if hasattr(one, "shape")]
    if isinstance(place.which, int):
        found = several[place.which] if place.which < len(several) else None
    elif isinstance(place.which, str):
        found = named.get(place.which) if hasattr(named, "get") else getattr(named, place.which, None)
    elif len(tensors) == 1 or (place.side == "input" and ordered and tensors):
        found = several[tensors[0]]
    else:
        say = " or ".join(f"{place.side}[{at}]" for at in tensors) or "a value that is a tensor"
        got = f"{len(tensors)} tensors" if tensors else type(several[0] if len(several) else None).__name__
        raise wanted(f"{place}", "table", f"one tensor; write {say}", got)
    if not hasattr(found, "shape"):
        raise wanted(f"{place}", "table", f"a tensor at {place.side}[{place.which}]", type(found).__name__)
    return found
