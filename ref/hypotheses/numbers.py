"""One free number: fitted by least squares with its standard error, and recognised where it is a known one."""

import math
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from ref.ops.rounding import bfloat16_values

STEPS, NEAR = 8, 3.0  # of Gauss-Newton; standard errors within which a number is taken for a known one


def fit_number(
    model: Callable[[float], np.ndarray], value: np.ndarray, starts: Iterable[float], relative: bool = True
) -> tuple[float, float]:
    """Fit one number by least squares.

        p = argmin ||y - m(p)||^2, the best of some starts refined by Gauss-Newton;
        stderr = sqrt(sum (J r)^2) / ||J||^2,    J = dm / dp,  r = y - m(p)

    Args:
        model: m, from a number to values of the shape of `value`.
        value: y, [...] float64.
        starts: numbers to begin with.
        relative: steps are multiples of the number, which stays positive.

    Returns:
        (p, its standard error).

    Source: White 1980, the estimator HC0; the rest is a textbook's.
    """

    def loss(p: float) -> float:
        left = value - model(p)
        return float(np.vdot(left, left))

    best = min(starts, key=loss)
    at = loss(best)
    for _ in range(STEPS):
        slope, left = _slope(model, best, relative), value - model(best)
        square = float(np.vdot(slope, slope))
        if square == 0:
            return best, math.inf
        step = float(np.vdot(slope, left)) / square
        while abs(step) > 1e-14 * abs(best) and not (_inside(best + step, relative) and loss(best + step) < at):
            step /= 4
        if abs(step) <= 1e-14 * abs(best):
            break
        best += step
        at = loss(best)
    slope, left = _slope(model, best, relative), value - model(best)
    square = float(np.vdot(slope, slope))
    return best, float(np.sqrt(np.sum((slope * left) ** 2))) / square if square else math.inf


def _inside(p: float, relative: bool) -> bool:
    return p > 0 or not relative


def _slope(model, p: float, relative: bool) -> np.ndarray:
    by = abs(p) * 1e-5 if relative else 1e-4
    return (model(p + by) - model(p - by)) / (2 * by)


def recognised(value: float, stderr: float, known: Mapping[str, float]) -> tuple[float, str] | None:
    """Return the known number that a fitted one is, with its name; None where it is none or could be several.

    Args:
        value: fitted.
        stderr: its standard error.
        known: name -> number.
    """
    within = max(NEAR * stderr, 2e-6 * abs(value))
    near = {name: number for name, number in known.items() if abs(number - value) <= within}
    if not near or within > 0.02 * abs(value):
        return None
    name = min(near, key=lambda name: (len(name), abs(near[name] - value)))
    return near[name], name


def known_roots(**sizes: float) -> dict[str, float]:
    """List the numbers that ports make of the sizes of a model: roots, their inverses, and both cut or rounded.

    Args:
        sizes: by the words that a reader knows them by, such as D=640.
    """
    out: dict[str, float] = {"1": 1.0}
    for name, size in sizes.items():
        root = math.sqrt(size)
        out |= {
            f"sqrt({name})": root,
            f"int(sqrt({name}))": float(int(root)),
            f"round(sqrt({name}))": float(round(root)),
        }
        out |= {f"bfloat16(sqrt({name}))": _narrow(root), f"float16(sqrt({name}))": float(np.float16(root))}
        out |= {name: float(size), f"1/sqrt({name})": 1 / root, f"1/{name}": 1 / size, f"{name}^(1/4)": size**0.25}
        out |= {f"1/int(sqrt({name}))": 1 / int(root), f"{name}^(-1/4)": size**-0.25}
    return out


def _narrow(x: float) -> float:
    return float(bfloat16_values(np.array([x], np.float32))[0])


FACTORS = {
    "2": 2.0,
    "1/2": 0.5,
    "sqrt(2)": 2**0.5,
    "1/sqrt(2)": 0.5**0.5,
    "4": 4.0,
    "1/4": 0.25,
    "8": 8.0,
    "1/8": 0.125,
}
