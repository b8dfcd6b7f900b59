"""Graphs that torch exports from transformers' Gemma 3, for prompts of any length: plain, with a cache, with images."""

import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ref.capture.onnx.files import needs
from ref.capture.onnx.forms import FORMS, without_checks
from ref.capture.transformers.model import build_from, import_transformers
from ref.errors import unknown, wanted
from ref.weights.resolve import load

NEW = "a new file, its weights beside it"


def export_weights(
    weights: str,
    path: str | Path,
    *,
    dtype: str = "float32",
    attention: str = "eager",
    inputs: str = "ids",
    mmproj: str | None = None,
) -> Path:
    """Write the graph of weights as the command line names them; their text part unless images go in.

    Args:
        weights: anything that `--weights` takes.
        path: where the graph will be; its weights lie beside it, in PATH.data.
        dtype, attention: as `ref.capture.transformers.build_model`.
        inputs: as `export`.
        mmproj: the vision tower of a `.gguf` file.

    Returns:
        path.

    Raises:
        BadInput: as `build_model` and `export`.
    """
    loaded = load(weights, mmproj=mmproj)
    loaded = loaded if inputs == "images" else loaded._replace(vision=None)
    return export(build_from(loaded, dtype, attention), path, inputs=inputs)


def export(model: Any, path: str | Path, *, inputs: str = "ids", opset: int | None = None) -> Path:
    """Write the graph of a transformers model, patched or not, which gives logits.

    Args:
        model: a loaded Gemma3ForCausalLM, or Gemma3ForConditionalGeneration, on the CPU.
        path: where the graph will be; its weights lie beside it, in PATH.data.
        inputs: `ids`, without a cache; `cache`: besides a mask, positions and the keys and values of earlier passes,
            which come out longer; `images`: besides pixels and token types, without a cache.
        opset: of ONNX; None for torch's choice. From 23 on the attention of `sdpa` is one node.

    Returns:
        path.

    Raises:
        BadInput: something is there already, a package is missing, the exporter refuses the model, images of a model
            that does not see.

    Source: torch 2.13 `torch.onnx.export(dynamo=True)`; optimum's names of inputs and outputs.
    """
    torch, _ = import_transformers()
    needs("onnxscript")
    out = Path(path)
    names = [out.name, f"{out.name}.data"]
    if any(out.with_name(name).exists() for name in names):
        raise wanted("graph", out, NEW, "something in the way")
    if not out.parent.is_dir():
        raise wanted("graph", out, NEW, f"no folder {out.parent}")
    if inputs not in FORMS:
        raise unknown("inputs of a graph", "export", inputs, FORMS)
    form = FORMS[inputs](model)
    how = {"dynamo": True, "verbose": False, "opset_version": opset, "custom_translation_table": without_checks(torch)}
    how |= {"dynamic_shapes": form.shapes, "input_names": form.inputs, "output_names": form.outputs}
    with _quiet(), torch.no_grad():
        try:
            graph = torch.onnx.export(form.module, form.example, **how)
        except Exception as error:  # a dozen kinds, of torch.export and of the exporter
            raise wanted("graph", out, "a model that torch.onnx.export takes", error) from None
    _save(graph, out, names)
    return out


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the exporter says of other packages, and of its own future, from the screen."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _save(graph: Any, out: Path, names: list[str]) -> None:
    """Write graph and weights under another folder's names, then give them their places: the graph comes last."""
    try:
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
        try:
            graph.save(str(folder / out.name), external_data=True)
            for name in reversed(names):
                if (folder / name).exists():  # a small model has its weights in the graph
                    (folder / name).rename(out.with_name(name))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise wanted("graph", out, NEW, error.strerror) from None
