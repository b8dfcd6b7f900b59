"""KV memory, drawn: against the context with and without rings, and for other ratios and windows."""

from pathlib import Path
from typing import Any

from ref.config import find_size
from ref.errors import wanted
from ref.quant.memory import kv_bytes
from ref.show.canvas import new_figure, styled

CONTEXTS = [2**i for i in range(9, 18)]  # 512 .. 131,072
RATIOS, WINDOWS = range(1, 8), (512, 1024, 2048, 4096)


@styled
def plot_kv_memory(size: str = "4b", context: int = 32_768, kind: str = "bfloat16") -> Any:
    """Draw the cache of one size as the report's figures 6 and 5 do.

        left: against the context, for the released ratio and for all layers global;
        right: at one context, for 1 to 7 local layers to a global one and four windows

    Args:
        size: a row of `ref.config.SIZES`.
        context: of the right plot.
        kind: format of the cache, see `ref.quant.memory.kv_bytes`.

    Returns:
        The matplotlib figure.

    Raises:
        BadInput: an unknown size; matplotlib is not installed.

    Source: Gemma 3 Technical Report, figures 5 and 6, which show a 2B model.
    Differs: exact bytes here, not measured memory.
    """
    config = find_size(size)
    figure, (left, right) = new_figure(11, 4.4, columns=2)
    _against_context(left, config, kind)
    _against_ratio(right, config, context, kind)
    figure.suptitle(f"KV cache of Gemma 3 {size.upper()}, {kind}, one sequence")
    return figure


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure, whole or not at all.

    Args:
        figure: of matplotlib.
        path: a .png, .svg or .pdf file.

    Raises:
        BadInput: another suffix, or a place that cannot be written.
    """
    if path.suffix not in (".png", ".svg", ".pdf"):
        raise wanted("--plot", path, "a .png, .svg or .pdf file", path.suffix or "no suffix")
    part = path.with_name(f".{path.name}.part{path.suffix}")
    try:
        figure.savefig(part, dpi=150)
        part.replace(path)
    except OSError as error:
        raise wanted("--plot", path, "a place to write to", error.strerror) from None
    finally:
        part.unlink(missing_ok=True)


def _against_context(axes, config, kind: str) -> None:
    ratio = f"{config.global_every - 1}:1, window {config.window:,}"
    for label, all_global, style in ((f"{ratio} (rings)", False, "o-"), ("all layers global", True, "s--")):
        values = [kv_bytes(config, tokens, kind, all_global) / 1e9 for tokens in CONTEXTS]
        axes.plot(CONTEXTS, values, style, label=label)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(CONTEXTS, [f"{tokens // 1024}K" if tokens >= 1024 else str(tokens) for tokens in CONTEXTS])
    axes.set(xlabel="context, tokens", ylabel="GB", title="against the context")
    axes.grid()
    axes.legend()


def _against_ratio(axes, config, context: int, kind: str) -> None:
    for window, style in zip(WINDOWS, ("o-", "s-", "^-", "D-"), strict=True):
        kinds = [config._replace(global_every=ratio + 1, window=window) for ratio in RATIOS]
        axes.plot(RATIOS, [kv_bytes(one, context, kind) / 1e9 for one in kinds], style, label=f"window {window:,}")
    axes.axhline(kv_bytes(config, context, kind, True) / 1e9, ls="--", color="grey", label="all layers global")
    axes.set_xticks(list(RATIOS), [f"{ratio}:1" for ratio in RATIOS])
    axes.set(xlabel="local layers to a global one", ylabel="GB", title=f"at {context:,} tokens", ylim=(0, None))
    axes.grid()
    axes.legend()
