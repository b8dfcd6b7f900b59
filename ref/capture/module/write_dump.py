"""Capture any torch module by a table that says which of its modules is which tap.

Only hooks listen: nothing of the model or of torch is changed, and the hooks are gone afterwards.
"""

from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from ref.capture.module.draft import draft_table
from ref.capture.module.listen import hearing, modules_of
from ref.capture.module.run import Call, as_module, checked_call, device_of, run
from ref.capture.module.tables import TABLES
from ref.capture.passes import Pass
from ref.capture.places import Place, Table, places_of, shipped
from ref.capture.prompts import Prompt, check_prompt
from ref.capture.transformers.policy import arithmetic_of
from ref.capture.transformers.tensors import Product, name_of, to_numpy
from ref.capture.transformers.wrapped import is_compiled, traced_anew
from ref.capture.values import Values, check_taps, finish
from ref.config import VisionConfig, as_fields
from ref.dump.write import DumpWriter
from ref.errors import wanted
from ref.weights.resolve import Loaded, load, weights_name


def capture_module(
    model: Any,
    ids: Any,
    out_dir: str | Path,
    *,
    table: Table | str | None = None,
    weights: str | Loaded = "270m",
    call: Call | None = None,
    steps: int = 0,
    left_pads: Sequence[int] | None = None,
    pixel_values: Any = None,
    taps: Sequence[str] = ("*",),
) -> Path:
    """Run a torch module on token ids and write the taps that a table names as a dump.

    Args:
        model: any `torch.nn.Module`, compiled or not; an `ExportedProgram` is unflattened into modules.
        ids: [T] or [B, T] integers; tensors, arrays or lists. Each row is its own pass of the dump.
        out_dir: where the dump will be; must not exist or be empty.
        table: module -> tap, layout and side, as `ref.capture.places` says; or the name of one in TABLES. None takes
            the one that is known for the model; if there is none, a draft is printed.
        weights: what the model holds, as `--weights` takes it; lengths of axes come from there.
        call: (model, ids [B, T] tensor) -> what the model returns; by default `model(ids)`. Of steps, pads and images
            it takes a third argument, a `ref.capture.passes.Pass` of tensors: mask, positions, types, pixels, cached,
            and what the model returned in the pass before. The cache is the model's own, or the call's.
        steps: greedy cached decode steps after the prompt, each a pass of its own.
        left_pads: pads of each row; mask and positions are then those that `generate` of transformers makes.
        pixel_values: [images, C, Y, X] in [-1, 1], in the order of their soft tokens.
        taps: patterns of the taps to keep.

    Returns:
        out_dir. Values have the dtype that they had. The logits are what the call returns, a tensor or its `logits`,
        unless the table has a place for them. Of a module that was not called a `LeftOut` warning says so.

    Raises:
        BadInput: a table that names a module or tap that is not there, a module that is used again in the same pass, a
            shape unlike the layout, a model on the meta device, nothing heard, ids out of the vocabulary, steps, pads
            or images without a call that hands them on, images and soft tokens unlike each other.

    Rounding: pixels to the dtype of the weights first.
    Source: torch 2.13 `nn.Module.register_forward_hook`; `torch.export.unflatten`.
    """
    loaded = load(weights) if isinstance(weights, str) else weights
    config, vision = loaded.params.config, _vision(loaded, pixel_values)
    model = as_module(model)
    modules, device, dtype = modules_of(model), device_of(model), _held_dtype(model)
    pixels = _rounded(pixel_values, dtype)
    prompt = check_prompt(ids, config, steps=steps, left_pads=left_pads, pixels=pixels, vision=vision)
    runs = checked_call(model, call, prompt, steps)
    table = _table(table, model, modules, prompt, loaded, call)
    places = places_of(table, modules, config.layers, vision.layers if vision else 0)
    check_layers(places, modules, config.layers)
    check_taps(places, taps)
    described = {"config": as_fields(config, vision), "weights": _held(loaded.name, dtype)}
    policy: dict[str, Any] = {}
    with DumpWriter(Path(out_dir), described, policy, _producer(model)) as writer, traced_anew(model):
        values = Values(writer, config, taps, vision)
        with hearing(modules, places, values):
            values.run(prompt, steps, places, _runner(runs, device))
        heard = Product(values.dtype or dtype, None)
        policy.update(arithmetic_of(dtype, heard, "not said", device, is_compiled(model)))
    return finish(values, writer)


def _runner(runs: Callable, device: Any) -> Callable[[Pass], Any]:
    """Return what runs a pass, and gives its logits; each pass is told what the one before it returned."""
    returned = None

    def run_pass(at: Pass) -> Any:
        nonlocal returned
        returned = run(runs, at, device, returned)
        return _logits(returned)

    return run_pass


def _table(table: Any, model: Any, modules: dict[str, Any], prompt: Prompt, loaded: Loaded, call: Call | None) -> Table:
    if table is None:
        name = known_table(model, modules)
        if name is None:
            draft_table(model, prompt.ids, weights=loaded, call=call)
            want = "table={...}; a draft is printed: check it, and give it"
            raise wanted("table", "capture", want, f"none, and {type(model).__name__} is not known")
        return shipped(TABLES[name], modules)
    if isinstance(table, str):
        if table not in TABLES:
            raise wanted("table", "capture", f"a table, or one of {', '.join(TABLES)}", table)
        there = shipped(TABLES[table], modules)
        if not there:
            raise wanted("table", "capture", f"a model with modules of {table}", type(model).__name__)
        return there
    return table


def check_layers(places: Sequence[Place], modules: dict[str, Any], layers: int) -> None:
    """Refuse a model that goes on where the weights end: each of its lists has one more module of the same class.

    Args:
        places: of the table.
        modules: by name.
        layers: L, of the weights.

    Raises:
        BadInput: it does. A list of layers and a last norm does not: that is of another class.
    """
    patterns = {place.pattern for place in places if "{i}" in place.pattern}
    first, beyond = ([modules.get(one.replace("{i}", str(i))) for one in patterns] for i in (0, layers))
    if patterns and all(type(one) is type(other) for one, other in zip(first, beyond, strict=True)):
        raise wanted(f"modules {min(patterns)}", "table", f"{layers} of them, one a layer of the weights", "more")


def known_table(model: Any, modules: dict[str, Any]) -> str | None:
    """Return the name of the table that fits a model: whose modules of the first layer are all there."""
    found = []
    for name, table in TABLES.items():
        there = shipped(table, modules)
        if sum("{i}" in one for one in there) == sum("{i}" in one for one in table):
            found.append(name)
    return found[0] if found else None


def _logits(returned: Any) -> Any:
    value = getattr(returned, "logits", returned)
    value = value[0] if isinstance(value, (tuple, list)) and value else value
    return to_numpy(value) if hasattr(value, "detach") else None


def _held_dtype(model: Any) -> str:
    dtypes = [name_of(one.dtype) for one in model.parameters() if one.is_floating_point()]
    return dtypes[0] if dtypes else "float32"


def _held(name: str, dtype: str) -> dict[str, Any]:
    return {"name": weights_name(name), "dtype": dtype, "sha256": None}


def _vision(loaded: Loaded, pixels: Any) -> VisionConfig | None:
    return loaded.vision.config if loaded.vision and pixels is not None else None


def _rounded(pixels: Any, dtype: str) -> Any:
    """Return pixels in the dtype of the weights, as an array."""
    import torch

    if pixels is None:
        return None
    try:
        return to_numpy(torch.as_tensor(pixels).to(getattr(torch, dtype)))
    except (TypeError, ValueError, RuntimeError):
        return pixels  # refused with the others


def _producer(model: Any) -> dict[str, str]:
    """Name the library that the model's class is of."""
    inner = getattr(model, "_orig_mod", model)
    package = type(inner).__module__.split(".")[0]
    names = metadata.packages_distributions().get(package, [])
    return {"name": package, "version": metadata.version(names[0]) if names else "not said"}
