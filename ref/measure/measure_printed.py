"""Taps of which a text shows a few values only: compared with the run from the prompt, at those places."""

from dataclasses import replace

import numpy as np

from ref.emulate.one_pass import Unknown
from ref.measure.floor import LIMIT, WORST, in_floors, least
from ref.measure.measure_tap import Measured, undetermined
from ref.measure.pass_runs import PassRuns
from ref.measure.tap_finding import TapFinding
from ref.model.taps import row_of

MOST = 2**25  # values of a tap that may be computed whole for the sake of a few of them


def measure_partial(pass_runs: PassRuns, tap: str) -> Measured:
    """Measure the printed values of a tap; what was printed says nothing of its inputs, so there is no local error.

        error = rms over places of max(0, |printed - truth| - half a printed digit);  floor: that of the worst valid run

    Args:
        pass_runs: the pass; its `partial` has the tap.
        tap: its name.

    Source: own; llama.cpp's `llama-eval-callback` prints three values from each end of each axis.
    Differs: people compare such texts by eye.
    """
    shown = pass_runs.partial[tap]
    blank = TapFinding(tap, pass_runs.number, shown.dtype, why=f"{len(shown.values)} printed values")
    try:
        if is_too_large(pass_runs, tap):
            raise Unknown("too large to be computed whole for a few printed values")
        places = _places(shown, pass_runs.own.value(tap))
        truth, *runs = (run.value(tap)[places] for run in (pass_runs.own, *pass_runs.owns))
    except Unknown as error:
        return undetermined(blank, str(error))
    size = _rms(truth)
    error = _rms(np.maximum(0, np.abs(shown.values - truth) - shown.step))
    lowest = size * least(truth, "float32", len(truth))
    floor = max(*(_rms(run - truth) for run in pass_runs.of_few(runs)), lowest)
    if in_floors(error, floor) * WORST > LIMIT:  # few runs do not settle it
        floor = max(*(_rms(run - truth) for run in runs), lowest)
    ratio = in_floors(error, floor) * WORST
    finding = replace(
        blank,
        inherited=error / size if size else error,
        floor=floor / size if size else floor,
        inherited_ratio=ratio,
        verdict="match" if ratio <= LIMIT else "bug",
    )
    return Measured(finding, {}, None, None, None)


def is_too_large(pass_runs: PassRuns, tap: str) -> bool:
    """Tell whether a tap of the whole pass is more than may be computed; what is printed may be of its last token."""
    axis, shape = row_of(tap).token_axis, pass_runs.partial[tap].shape
    return int(np.prod(shape)) // max(1, shape[axis]) * pass_runs.one_pass.ids.shape[1] > MOST


def _places(shown, value) -> tuple:
    places = shown.places.copy()
    places[:, 1] += shown.first_token
    if (places.max(axis=0) >= value.shape).any():
        raise Unknown(f"printed as {list(shown.shape)}, which this pass has not")
    return tuple(places.T)


def _rms(x) -> float:
    return float(np.sqrt(np.mean(np.square(x, dtype=np.float64))))
