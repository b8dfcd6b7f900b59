"""KV memory, drawn: against the context with and without rings, and for other ratios and windows."""

from pathlib import Path

from ref.config import SIZES
from ref.errors import wanted
from ref.quant.memory import kv_bytes

CONTEXTS = [2**i for i in range(9, 18)]  # 512 .. 131,072
RATIOS, WINDOWS = range(1, 8), (512, 1024, 2048, 4096)


def plot_kv_memory(size: str, context: int, kind: str, path: Path) -> None:
    """Draw the cache of one size as the report's figures 6 and 5 do.

        left: against the context, for the released ratio and for all layers global;
        right: at one context, for 1 to 7 local layers to a global one and four windows

    Args:
        size: a row of `ref.config.SIZES`.
        context: of the right plot.
        kind: format of the cache, see `ref.quant.memory.kv_bytes`.
        path: a .png, .svg or .pdf file.

    Raises:
        BadInput: matplotlib is not installed, or a file that it does not write.

    Source: Gemma 3 Technical Report, figures 5 and 6, which show a 2B model.
    Differs: exact bytes here, not measured memory.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise wanted("matplotlib", "--plot", 'pip install "gemma3-ref[plot]"', "not installed") from None
    if path.suffix not in (".png", ".svg", ".pdf"):
        raise wanted("--plot", path, "a .png, .svg or .pdf file", path.suffix or "no suffix")
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    _against_context(left, size, kind)
    _against_ratio(right, size, context, kind)
    figure.suptitle(f"KV cache of Gemma 3 {size.upper()}, {kind}, one sequence")
    part = path.with_name(f".{path.name}.part{path.suffix}")
    try:
        figure.savefig(part, dpi=150)
        part.replace(path)
    except OSError as error:
        raise wanted("--plot", path, "a place to write to", error.strerror) from None


def _against_context(axes, size: str, kind: str) -> None:
    config = SIZES[size]
    ratio = f"{config.global_every - 1}:1, window {config.window:,}"
    for label, all_global, style in ((f"{ratio} (rings)", False, "o-"), ("all layers global", True, "s--")):
        values = [kv_bytes(config, tokens, kind, all_global) / 1e9 for tokens in CONTEXTS]
        axes.plot(CONTEXTS, values, style, label=label)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(CONTEXTS, [f"{tokens // 1024}K" if tokens >= 1024 else str(tokens) for tokens in CONTEXTS])
    axes.set(xlabel="context, tokens", ylabel="GB", title="against the context")
    axes.grid(alpha=0.3)
    axes.legend()


def _against_ratio(axes, size: str, context: int, kind: str) -> None:
    config = SIZES[size]
    for window, style in zip(WINDOWS, ("o-", "s-", "^-", "D-"), strict=True):
        kinds = [config._replace(global_every=ratio + 1, window=window) for ratio in RATIOS]
        axes.plot(RATIOS, [kv_bytes(one, context, kind) / 1e9 for one in kinds], style, label=f"window {window:,}")
    axes.axhline(kv_bytes(config, context, kind, True) / 1e9, ls="--", color="grey", label="all layers global")
    axes.set_xticks(list(RATIOS), [f"{ratio}:1" for ratio in RATIOS])
    axes.set(xlabel="local layers to a global one", ylabel="GB", title=f"at {context:,} tokens", ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()
