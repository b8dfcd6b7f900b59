"""A tap whose values are made and not measured, on the way to others."""

from functools import partial

from ref.dump.read_llama_text import PartialTap
from ref.dump.sketched import SketchedTap
from ref.emulate.narrow_truth import NARROW_TRUTH
from ref.measure.measure_printed import is_too_large
from ref.measure.parallel import side_by_side
from ref.measure.pass_runs import PassRuns, make


def pass_by(pass_runs: PassRuns, tap: str, truth: bool = True) -> None:
    """Make the values of a tap in the runs from the prompt, as measuring it does.

    What attention shows is rounded, what it does not show need not be: a run that skipped taps would be another. In
    float32 the truth from the prompt takes what the truth on the dump's own inputs has made.

    Args:
        pass_runs: the pass.
        tap: its name; the dump has it.
        truth: whether the truth is wanted, too.
    """
    shown = pass_runs.partial.get(tap)
    if isinstance(shown, PartialTap) and is_too_large(pass_runs, tap):
        return
    if isinstance(shown, SketchedTap) and tap == "text.logits":  # measured of the columns that are known; they are last
        return
    if truth and tap in pass_runs.stored and pass_runs.own.arithmetic is not NARROW_TRUTH:
        pass_runs.truths(tap)
    elif truth:
        make([tap], pass_runs.own)
    side_by_side(partial(make, [tap]), pass_runs.owns)
