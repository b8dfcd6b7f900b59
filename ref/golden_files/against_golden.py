"""Run the reference over golden cases and measure every tap in multiples of the float32 noise floor."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from ref.errors import wanted
from ref.golden_files.files import Case, Pass
from ref.golden_files.sampled import LIMIT, blank_padding, made_pixels, relative_l2, take_samples
from ref.model.cache import empty_cache
from ref.model.multimodal import Images, embed_images
from ref.model.params import TextParams, VisionParams
from ref.model.taps import Recorder
from ref.model.text import How, forward
from ref.ops.visibility import prompt_starts

SUMMING = 1e-12  # by so much lengths may differ for the order in which float64 squares were added


class Finding(NamedTuple):
    """What one tap of one pass measured."""

    case: str
    number: int
    tap: str
    error: float  # relative L2 distance from truth
    floor: float
    ratio: float
    verdict: str  # match | bug


class GroupFinding(NamedTuple):
    """What the taps of one group measured, layers folded, in all cases and passes."""

    group: str
    worst: Finding  # that with the largest ratio
    count: int  # of findings
    first: tuple[int, Finding] | None  # the first bug: its index in the order of execution, and itself

    @property
    def verdict(self) -> str:
        """Whether any is a bug."""
        return "bug" if self.first else "match"


def run_golden(
    params: TextParams, case: Case, how: How, tapped: bool, vision: VisionParams | None = None
) -> list[Finding]:
    """Run one case and measure it.

    Args:
        params: the weights that the case was made from.
        case: from `read_case`.
        vision: the tower, for cases with images.
        how: ops and dtype; its taps are replaced.
        tapped: listen to every tap, which runs scores, softmax and mix one by one; else to the logits alone, so that
            the fused attention that users run is what is measured.

    Returns:
        One Finding per tap and pass, in the order of execution; `text.logits.top` and `argmax` end each pass.

    Source: own; README, "What `verify` shows".
    Differs: fixed thresholds elsewhere; here the limit is twice what valid float32 runs of the witness make.
    """
    findings: list[Finding] = []
    cache = None
    if len(case.passes) > 1:
        context = case.passes[-1].cached + case.passes[-1].ids.shape[1]
        cache = empty_cache(params.config, case.passes[0].left_pads, context, how.dtype)
    for one in case.passes:
        findings_of_logits: list[Finding] = []

        def keep(name, value, one=one, extra=findings_of_logits):
            if name == "text.logits":
                extra.extend(judge_top(case, one, value))
            return as_kept(name, value, one)

        wanted_taps = [tap for tap in one.rows if tapped or tap == "text.logits"]
        recorder = Recorder(*wanted_taps or ["nothing"], keep=keep)
        now = how._replace(taps=recorder, logits="all" if one.rows else "none")
        soft = embed_images(_images(vision, one), one.ids, params.config, now) if one.images else None
        _, cache = forward(params, one.ids, now, cache, None if cache else starts(one), soft)
        findings += [judge(case, one, tap, recorder.values.get(tap)) for tap in in_order(wanted_taps, recorder.values)]
        findings += findings_of_logits
    return findings


def _images(vision: VisionParams | None, one: Pass) -> Images:
    if vision is None:
        raise wanted("weights", "golden case with images", "a vision tower", "none")
    return Images(vision, made_pixels(one.images, vision.config.image))


def starts(one: Pass) -> np.ndarray:
    """Return `first` of a pass without a cache: left pads, or where each packed prompt starts."""
    return prompt_starts([one.packed], one.left_pads)[0] if one.packed else one.left_pads


def in_order(taps: list[str], reported: Iterable[str]) -> list[str]:
    """Put taps in the order they were reported in; what was never reported comes last, and is a bug."""
    return [tap for tap in reported if tap in taps] + [tap for tap in taps if tap not in reported]


class Kept(NamedTuple):
    """What is kept of a value while a model runs: as the golden has it, and two facts of the whole."""

    values: np.ndarray  # all of it, or its samples
    shape: tuple[int, ...]
    norm: float


def as_kept(name: str, value: np.ndarray, one: Pass) -> Kept:
    """Zero padding, then keep all of the value or its samples, as the golden does."""
    value = blank_padding(name, value, one.left_pads, one.cached + one.ids.shape[1])
    if one.rows[name]["kept"] != "samples":
        return Kept(np.array(value), value.shape, 0.0)
    norm = float(np.sqrt(np.einsum("i,i->", value.reshape(-1), value.reshape(-1), dtype=np.float64)))
    return Kept(take_samples(value), value.shape, norm)


def judge(case: Case, one: Pass, tap: str, kept: Kept | None) -> Finding:
    """Measure one tap: integers must be equal, floats within LIMIT floors of truth, and so must the whole's length.

    The length sees what samples can miss: a wrong token, a wrong channel. It is at most as far from truth as the whole
    value is, so a valid run has it well within the floor.
    """
    row, truth = one.rows[tap], one.truth[tap]
    if kept is None or list(kept.shape) != row["shape"]:
        return Finding(case.id, one.number, tap, np.inf, row["floor"], np.inf, "bug")
    value = kept.values
    if row["kept"] == "exact":
        equal = bool((value == truth).all())
        return Finding(case.id, one.number, tap, 0.0 if equal else 1.0, 0.0, 0.0 if equal else np.inf, _word(equal))
    # a floor below what storing truth in float32 costs cannot be: six runs may agree where the value is one product
    floor = max(row["floor"], relative_l2(truth.astype(np.float32), truth))
    error = relative_l2(value, truth)
    if row["kept"] == "samples":
        length = relative_l2(np.array([kept.norm]), np.array([row["norm"]]))
        error = max(error, length if length > SUMMING else 0.0)
    ratio = error / floor if floor else (0.0 if error == 0 else np.inf)
    return Finding(case.id, one.number, tap, error, floor, float(ratio), _word(ratio <= LIMIT))


def judge_top(case: Case, one: Pass, logits: np.ndarray) -> list[Finding]:
    """Judge the largest logits of every position, and the arg-max.

    The floor is the ensemble's largest error over the pass: at one position twelve runs can agree by chance, and among
    hundreds some do. The arg-max must be truth's wherever the margin is more than twice the error that is allowed.
    """
    ids, truth = one.truth["top.ids"], one.truth["top.logits"]
    valid = one.cached + np.arange(one.ids.shape[1]) >= one.left_pads[:, None]
    floor = float(one.truth["top.error"][valid].max())
    error = np.abs(np.take_along_axis(logits, ids, -1).astype(np.float64) - truth).max(-1)
    error = np.where(valid, np.where(np.isnan(error), np.inf, error), 0.0)
    worst, size = float(error.max()), float(np.abs(truth[valid]).max())
    ratio = worst / floor
    top = Finding(case.id, one.number, "text.logits.top", worst / size, floor / size, ratio, _word(ratio <= LIMIT))
    sure = valid & (truth[..., 0] - truth[..., 1] > 2 * LIMIT * floor)
    wrong = sure & (logits.argmax(-1) != ids[..., 0])
    share = float(wrong.sum() / max(1, sure.sum()))
    verdict = _word(not wrong.any())
    return [top, Finding(case.id, one.number, "argmax", share, 0.0, np.inf if wrong.any() else 0.0, verdict)]


def _word(good) -> str:
    return "match" if good else "bug"


def by_group(findings: list[Finding]) -> dict[str, GroupFinding]:
    """Reduce findings to one per tap group (layers folded): the worst ratio and where it is.

    Args:
        findings: of any number of cases.

    Returns:
        group -> its finding, in the order of execution.
    """
    from ref.model.taps import tap_group

    groups: dict[str, list[tuple[int, Finding]]] = {}
    for index, one in enumerate(findings):
        groups.setdefault(tap_group(one.tap), []).append((index, one))
    return {
        group: GroupFinding(
            group,
            max((one for _, one in ones), key=lambda one: one.ratio),
            len(ones),
            next(((index, one) for index, one in ones if one.verdict != "match"), None),
        )
        for group, ones in groups.items()
    }
