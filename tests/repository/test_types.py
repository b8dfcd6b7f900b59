"""Public functions say what they take and return: every argument and every result is annotated."""

import importlib
import inspect
import pkgutil

import pytest

import ref

# what argparse and frameworks hand over has no types of ours; the mistakes are given a Context
EXCUSED = ("ref.capture", "ref.commands", "ref.mutants")
MODULES = sorted(one.name for one in pkgutil.walk_packages(ref.__path__, "ref.") if not one.name.endswith("__main__"))


def functions_of(module):
    """Yield (name, function) of what is public and defined in a module: functions, and methods of its classes."""
    for name, value in vars(module).items():
        if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
            continue
        if inspect.isclass(value):
            for inner, method in vars(value).items():
                method = getattr(method, "__func__", getattr(method, "fget", method))  # of classes, of properties
                if not inner.startswith("_") and inspect.isfunction(method) and method.__module__ == module.__name__:
                    yield f"{name}.{inner}", method
        elif inspect.isfunction(getattr(value, "py_func", value)):
            yield name, inspect.unwrap(getattr(value, "py_func", value))


def unannotated(function):
    """Return the arguments without a type, and `return`."""
    signature = inspect.signature(function)
    names = [name for name, one in signature.parameters.items() if one.annotation is one.empty]
    names = [name for place, name in enumerate(names) if not (place == 0 and name in ("self", "cls"))]
    return names + ["return"] * (signature.return_annotation is signature.empty)


def test_what_counts_as_unannotated():
    def none(self, x, *, y=1): ...
    def some(x: int, y) -> int: ...
    def every(self, x: int, *rest: int) -> None: ...

    assert unannotated(none) == ["x", "y", "return"]
    assert unannotated(some) == ["y"]
    assert unannotated(every) == []


def test_compiled_functions_and_methods_are_looked_at():
    crops, blocks = (importlib.import_module(f"ref.ops.{name}") for name in ("pan_and_scan", "blocks"))
    assert {"count_crops", "crop_boxes", "cut"} <= dict(functions_of(crops)).keys()
    assert {"decode", "Blocks.rows", "Blocks.take_rows"} <= dict(functions_of(blocks)).keys()
    assert "decode_q4_0" not in dict(functions_of(blocks))  # imported there


@pytest.mark.parametrize("name", [name for name in MODULES if not name.startswith(EXCUSED)])
def test_every_public_function_is_annotated(name):
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "ref":
            raise
        pytest.skip(f"an extra is missing: {error}")
    missing = {function: unannotated(value) for function, value in functions_of(module)}
    assert {function: names for function, names in missing.items() if names} == {}
