"""`gemma3-ref capture onnx`: a graph, or one that is exported first."""

from collections.abc import Sequence
from pathlib import Path

from ref.capture.onnx.export import export_weights
from ref.capture.onnx.files import needs
from ref.capture.onnx.runtimes import RUNTIMES
from ref.capture.onnx.write_dump import capture
from ref.errors import wanted


def capture_weights(
    weights: str,
    prompts: Sequence[Sequence[int]],
    out: Path,
    *,
    graph: str = "",
    runtime: str = "ort",
    export: str | None = None,
    precision: str = "f32",
    steps: int = 0,
    dtype: str | None = None,
    attention: str | None = None,
    n_threads: int | None = None,
    taps: Sequence[str] = ("*",),
) -> Path:
    """Write a dump of a graph, after it was exported if that is asked for.

    Args:
        weights: what the graph was made from, as the command line names it.
        prompts: token ids; each is run for itself.
        out: where; empty or new.
        graph: the .onnx file; new, where it is exported.
        runtime, precision, n_threads, taps: as `capture`.
        export: `transformers:W`; None where the graph is there.
        steps: 0, since a graph is run without a cache.
        dtype, attention: of an export, float32 and eager by default; a graph that is there has its own.

    Returns:
        out.

    Raises:
        BadInput: cached steps, a dtype or attention of a graph that is there, another export; as `capture` and
            `export_weights`.
    """
    if steps:
        raise wanted("max-new-tokens", "capture", "0: a graph is run without a cache", steps)
    asked = {"--dtype": dtype, "--attention": attention}
    for flag, value in asked.items():
        if value and not export:
            raise wanted(flag, "capture", "none without --export: the graph has its own", value)
    if export:
        maker, _, source = export.partition(":")
        if maker != "transformers" or not source:
            raise wanted("--export", "capture", "transformers:W, with W as --weights takes it", export)
        needs(RUNTIMES[runtime].package)  # before the minutes that an export may take
        export_weights(source, graph, dtype=dtype or "float32", attention=attention or "eager")
    how = {"runtime": runtime, "weights": weights, "taps": taps, "n_threads": n_threads, "precision": precision}
    return capture(graph, prompts, out, **how)
