"""What every plot shares: a transparent figure whose inks can be read on white and on black."""

from collections.abc import Callable, Sequence
from functools import cache, wraps
from typing import Any, ParamSpec, TypeVar

from ref.errors import pip_install, wanted

INK = "#7c7c7c"  # 4 to 1 on white as on black
BLUE, ORANGE, GREEN, PINK = "#3987e5", "#d9730d", "#2a9d63", "#cc5a9e"
DPI = 90
INKS = (
    "text.color",
    "axes.labelcolor",
    "axes.titlecolor",
    "axes.edgecolor",
    "xtick.color",
    "ytick.color",
    "grid.color",
)
GROUNDS = ("axes.facecolor", "figure.facecolor", "savefig.facecolor", "legend.facecolor")
STYLE: dict[Any, Any] = {**dict.fromkeys(INKS, INK), **dict.fromkeys(GROUNDS, "none")}
STYLE |= {"font.size": 9, "legend.frameon": False, "grid.alpha": 0.3}

Given = ParamSpec("Given")
Figure = TypeVar("Figure")


def styled(plot: Callable[Given, Figure]) -> Callable[Given, Figure]:
    """Run a function that draws under the style that all plots share.

    Raises:
        BadInput: matplotlib is not installed.
    """

    @wraps(plot)
    def draw(*args: Given.args, **how: Given.kwargs) -> Figure:
        try:
            import matplotlib as mpl
            from matplotlib import rcsetup
        except ImportError:
            raise wanted("matplotlib", plot.__name__, pip_install("plot"), "not installed") from None
        style: dict[Any, Any] = STYLE | {"axes.prop_cycle": rcsetup.cycler(color=[BLUE, ORANGE, GREEN, PINK, INK])}
        with mpl.rc_context(style):
            return plot(*args, **how)

    return draw


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1, **subplots: Any) -> tuple[Any, Any]:
    """Make a figure and its axes, inside a styled function.

    Args:
        width, height: in inches.
        rows, columns: of axes.
        subplots: handed to matplotlib's `Figure.subplots`.

    Returns:
        (figure, axes): axes as `Figure.subplots` returns them.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", dpi=DPI)
    return figure, figure.subplots(rows, columns, **subplots)


def readable(piece: str, most: int = 12) -> str:
    """Return a token's text as a label: spaces are seen, line breaks are signs, long ones are cut.

    Signs that matplotlib's own font lacks, such as Chinese ones, are written as numbers: U+7684.
    """
    text = piece.replace("\n", "⏎").replace("\t", "⇥").replace(" ", "▁")
    text = text if len(text) <= most else text[: most - 1] + "…"
    text = "".join(sign if _has(sign) else f"U+{ord(sign):04X}" for sign in text)
    return text.replace("$", r"\$")  # else matplotlib's mathematics


@cache
def _has(sign: str) -> bool:
    from matplotlib.font_manager import findfont, get_font

    return bool(get_font(findfont("DejaVu Sans")).get_char_index(ord(sign)))


def label_tokens(axis: Any, pieces: Sequence[str], most: int = 40) -> None:
    """Write tokens beside an axis; of many every so many-th."""
    step = -(-len(pieces) // most)
    axis.set_ticks(range(0, len(pieces), step), [readable(piece) for piece in pieces[::step]])
