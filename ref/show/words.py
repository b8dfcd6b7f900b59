"""What notebooks print: shapes with the names of their axes, the source of a definition, a verdict in a few lines."""

import inspect
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from ref.errors import pip_install, wanted
from ref.model.taps import layer_of, tap_row

if TYPE_CHECKING:
    from ref.weights.resolve import Loaded


def shapes(values: Mapping[str, np.ndarray], layer: int | None = None) -> str:
    """Write the shape of each tap, with the names of its axes, and what it is made of.

    Args:
        values: tap -> value, such as a Recorder's.
        layer: of the layers only this one; None: all.

    Returns:
        A line a tap: name, `B=1 T=6 N=4 H=256`, dtype, the operation and its inputs.
    """
    lines = []
    for tap, value in values.items():
        row = tap_row(tap)
        if layer is not None and layer_of(tap) not in (None, layer):
            continue
        axes = row.axes.split() if row else []
        axes = axes if len(axes) == value.ndim else ["?"] * value.ndim  # a name or a rank that nobody knows
        sizes = " ".join(f"{axis}={size}" for axis, size in zip(axes, value.shape, strict=True))
        made = f"{row.op}({', '.join(row.inputs)})" if row else ""
        lines.append(f"{tap:<30} {sizes:<24} {value.dtype.name:<9} {made}")
    return "\n".join(lines)


def verdict(dump: str | Path, loaded: "Loaded") -> str:
    """Judge a dump and return the line that `gemma3-ref compare` ends with, wrapped.

    Args:
        dump: its folder.
        loaded: the weights, from `ref.load`.

    Raises:
        BadInput: as `ref.compare`.
    """
    from ref.judge.compare import compare
    from ref.report.words import verdict_line

    return fill(verdict_line(compare(dump, loaded=loaded)), 110, subsequent_indent="  ")


def source(function: Callable[..., Any], doc: bool = True) -> Any:
    """Return the source of a function for a notebook to display, as Markdown.

    Args:
        function: any of `ref`.
        doc: with its docstring.

    Raises:
        BadInput: IPython is not installed.
    """
    try:
        from IPython.core.display import Markdown
    except ImportError:
        raise wanted("IPython", "source", pip_install("notebooks"), "not installed") from None
    text = inspect.getsource(function)
    if not doc and function.__doc__:
        text = re.sub(r'\n *r?""".*?"""', "", text, count=1, flags=re.S)
    return Markdown(f"`{function.__module__}`\n```python\n{text.rstrip()}\n```")
