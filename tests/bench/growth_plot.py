"""The picture of the rows of growth: time and memory by length, both axes logarithmic."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw the rows of growth.

    Args:
        rows: of `--json`; others than growth are left out.
        path: of the SVG.

    Raises:
        ImportError: matplotlib is not installed (extra [plot]).
    """
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "growth"  # the same figures give the same file
    from matplotlib import pyplot as plt
    from matplotlib.ticker import LogLocator

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for row in rows:
        here = [one for one in row["entries"] if one["name"].replace(",", "").isdigit()]
        lengths = [int(one["name"].replace(",", "")) for one in here]
        axes[0].plot(lengths, [one["seconds"] for one in here], "o-", label=row["what"])
        axes[1].plot(lengths, [one["peak"] / 1e9 for one in here], "o-")
        axes[0].plot(lengths, [here[0]["seconds"] * one / lengths[0] for one in lengths], ":", color="gray")
    for axis, title in zip(axes, ("seconds (dotted: in proportion)", "peak memory, GB"), strict=True):
        axis.set(xscale="log", yscale="log", xlabel="length", title=title)
        axis.set_xticks(lengths, [f"{one // 1024}k" for one in lengths], minor=False)
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.minorticks_off()
    figure.legend(loc="outside lower center", ncols=2, fontsize="small", frameon=False)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
