"""Graphs that torch exports from transformers' Gemma 3, for prompts of any length."""

import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ref.capture.onnx.files import needs
from ref.capture.transformers.model import build_from, import_transformers, text_config
from ref.errors import wanted
from ref.weights.resolve import load

EXAMPLE = [2, 3, 4, 5, 6, 7]  # ids of the pass that is traced; its length becomes a free one
NEW = "a new file, its weights beside it"


def export_weights(weights: str, path: str | Path, *, dtype: str = "float32", attention: str = "eager") -> Path:
    """Write the graph of weights as the command line names them; of those that see, their text part.

    Args:
        weights: anything that `--weights` takes.
        path: where the graph will be; its weights lie beside it, in PATH.data.
        dtype, attention: as `ref.capture.transformers.build_model`.

    Returns:
        path.

    Raises:
        BadInput: as `build_model` and `export`.
    """
    return export(build_from(load(weights)._replace(vision=None), dtype, attention), path)


def export(model: Any, path: str | Path, *, opset: int | None = None) -> Path:
    """Write the graph of a transformers model, patched or not: token ids in, logits out, no cache.

    Args:
        model: a loaded Gemma3ForCausalLM, on the CPU.
        path: where the graph will be; its weights lie beside it, in PATH.data.
        opset: of ONNX; None for torch's choice. From 23 on the attention of `sdpa` is one node.

    Returns:
        path.

    Raises:
        BadInput: something is there already, a package is missing, the exporter refuses the model.

    Source: torch 2.13 `torch.onnx.export(dynamo=True)`.
    """
    torch, _ = import_transformers()
    needs("onnxscript")
    out, most = Path(path), text_config(model).max_positions
    names = [out.name, f"{out.name}.data"]
    if any(out.with_name(name).exists() for name in names):
        raise wanted("graph", out, NEW, "something in the way")
    tokens = torch.export.Dim("tokens", min=1, max=most)
    with _quiet(), torch.no_grad():
        try:
            how = {"dynamo": True, "verbose": False, "dynamic_shapes": ({1: tokens},), "opset_version": opset}
            graph = torch.onnx.export(_of_logits(torch, model), (torch.tensor([EXAMPLE]),), **how)
        except Exception as error:  # a dozen kinds, of torch.export and of the exporter
            raise wanted("graph", out, "a model that torch.onnx.export takes", error) from None
    _save(graph, out, names)
    return out


def _of_logits(torch: Any, model: Any) -> Any:
    class OfLogits(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, input_ids):
            return self.model(input_ids=input_ids, use_cache=False).logits

    return OfLogits().eval()


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
