"""Which arithmetic a dump's products really have: TF32 and the like change every product, and nobody may have said so.

A product that is off is compared with the same product of rounded operands. If that explains it, the dump is judged
again by that arithmetic; if then every product of the dump is as far off as that arithmetic makes it, the dump has it.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ref.diagnosis.evidence import beside, prepared, project, without_pads
from ref.emulate.arithmetic import TRUTH
from ref.emulate.graph import Run
from ref.emulate.one_pass import Unknown
from ref.emulate.operands import OPERANDS, ROUND, as_it_is
from ref.emulate.policy import RANKS, ranks_family
from ref.emulate.products import added, slices
from ref.measure.distance import distance_of
from ref.measure.floor import LIMIT
from ref.measure.measure_tap import Measured, fitted
from ref.measure.pass_runs import PassRuns
from ref.measure.tap_finding import TapFinding
from ref.model.taps import tap_group
from ref.ops.linear import Weight, widen_jit

TEXT, TOWER = "text.layer.*.", "vision.layer.*."
PRODUCTS = {
    *(TEXT + name for name in ("attn.q", "attn.k", "attn.v", "attn.out", "ffn.gate", "ffn.up", "ffn.out")),
    *(TOWER + name for name in ("attn.q", "attn.k", "attn.v", "attn.out", "ffn.up", "ffn.out")),
    "vision.soft_tokens",
    "text.logits",
}
ATTENTION = {part + name for part in (TEXT, TOWER) for name in ("attn.scores", "attn.mix")}  # products of activations
ENDS = {"text.logits", "vision.soft_tokens"}  # products that may have a precision of their own
CONVOLUTIONS = {"vision.patch_embed"}
# values that stay wide under autocast, which narrows products only
WIDE = {TEXT + name for name in ("in", "attn.pre_norm", "mid", "ffn.pre_norm", "out")}
NEAR = 0.1  # by which a coefficient may miss 1
LEFT = 4 * LIMIT  # floors that may be left: sums of tensor cores are a little coarser than float32's
TIED = 1.5  # times what the best leaves, and no more than noise: as good
HALF, SURE = 0.5, 8.0  # of a tap behind several products: its least coefficient, in standard errors too
MUCH = 20  # times less than before is little, too: sums of float8 products are coarse themselves
SAME = 0.2  # floors of the arithmetic that a product must be off to have it


class Hypothesis(NamedTuple):
    """An arithmetic that would explain a dump."""

    family: str  # whose runs then make the floor
    what: str  # "products took TF32 operands"
    operand: str  # what operands are rounded to; empty where that is not what changes
    groups: frozenset[str]  # taps that it changes
    stored: tuple[str, ...]  # formats of values in which it is looked for
    ranks: int = 1  # that each round their sums


_ALL, _WIDE = frozenset(PRODUCTS), ("float32",)
HYPOTHESES = (
    Hypothesis("tf32", "products took TF32 operands", "tf32", _ALL, _WIDE),
    Hypothesis("bfloat16-operands", "products took bfloat16 operands", "bfloat16", _ALL, _WIDE),
    Hypothesis("float16-operands", "products took float16 operands", "float16", _ALL, _WIDE),
    Hypothesis("float8-operands-float32", "products took float8 operands", "float8", _ALL, _WIDE),
    Hypothesis("float8-operands", "products took float8 operands", "float8", _ALL, ("bfloat16", "float16")),
    Hypothesis("tf32-convolutions", "convolutions took TF32 operands", "tf32", frozenset(CONVOLUTIONS), _WIDE),
    Hypothesis("bfloat16-convolutions", "convolutions took bfloat16 operands", "bfloat16", frozenset(CONVOLUTIONS),
               _WIDE),
)  # fmt: skip
ROW_PARALLEL = frozenset({TEXT + "attn.out", TEXT + "ffn.out"})
HYPOTHESES += tuple(
    Hypothesis(ranks_family(kind, n), f"attn.out and ffn.out were added of {n} ranks' rounded sums", "", ROW_PARALLEL,
               (kind,), n)
    for kind in ("bfloat16", "float16")
    for n in RANKS
)  # fmt: skip
FLOAT16_SUMS = Hypothesis("float16-sums", "products were summed in float16", "", _ALL, ("float16",))


class Finding(NamedTuple):
    """A hypothesis that explains a product, and how well."""

    hypothesis: Hypothesis
    tap: str
    number: int  # of the pass
    coefficient: float | None  # 1: the operands were rounded so; 0: they were not. None where it cannot be projected
    stderr: float | None
    also: tuple[str, ...] = ()  # operands that explain it as well: TF32 and float16 have as many bits

    @property
    def what(self) -> str:
        """Say what explains the product, and what else would."""
        return self.hypothesis.what + "".join(f", or {operand}'s" for operand in self.also)

    def row(self, declared: str) -> dict[str, Any]:
        """Return it as a part of the report."""
        h = self.hypothesis
        numbers = {"coefficient": self.coefficient, "stderr": self.stderr}
        return {"judged_as": h.family, "what": self.what, "declared": declared, **numbers, "tap": self.tap} | {
            "pass": self.number,
            "mistake_of": "format",
        }

    def mistake(self) -> dict[str, Any]:
        """Return it as a mistake that is named: some products have it, others of the same dump have not."""
        h = self.hypothesis
        what = f"{self.what[0].upper()}{self.what[1:]}; but not all of them."
        head = {"mutant": h.family.replace("-", "_"), "what": what, "seen_in": [], "needs": "two tokens"}
        numbers = {"coefficient": self.coefficient, "stderr": self.stderr, "left": None, "class": 0}
        return head | numbers | {"verdict": "named", "tap": self.tap, "pass": self.number}


class OtherArithmetic(Exception):
    """Raised while judging: a product is explained by another arithmetic than the dump declares."""

    def __init__(self, finding: Finding):
        super().__init__(finding.hypothesis.what)
        self.finding = finding


def explained_by(pass_runs: PassRuns, tap: str, found: Measured, tried: Iterable[str]) -> Finding | None:
    """Look for the arithmetic that explains a product which is off.

    Args:
        pass_runs: the pass, while its runs hold the tap's inputs.
        tap: its name.
        found: what was measured there.
        tried: families that were judged by already.

    Returns:
        The hypothesis that leaves least, if its coefficient is 1 and it leaves noise; None if there is none.
    """
    findings = []
    for one in HYPOTHESES:
        here = involves(found.finding, one.groups) and found.finding.dtype in one.stored and one.family not in tried
        seen = _compared(pass_runs, tap, found, one) if here else None
        if seen and _explains(found.finding, one, *seen):
            findings.append((seen[2], Finding(one, tap, pass_runs.number, *seen[:2])))
    least = min((left for left, _ in findings), default=0.0)
    tied = [finding for left, finding in findings if left <= TIED * max(least, LIMIT / 2)]
    return (
        tied[0]._replace(also=tuple(one.hypothesis.operand for one in tied[1:] if one.hypothesis.operand))
        if tied
        else None
    )


def _explains(finding: TapFinding, one: Hypothesis, c: float, stderr: float, left: float) -> bool:
    """Tell whether a hypothesis explains a product; of a tap behind several, whether it has a part in it beyond doubt.

    Behind several products a rounding that falls the other way once is followed by others: most of the error is left.
    """
    if finding.group in one.groups:
        return abs(c - 1) < max(NEAR, 4 * stderr) and left <= max(LEFT, (finding.local_ratio or 0.0) / MUCH)
    return c > HALF and c > SURE * stderr


def _compared(pass_runs: PassRuns, tap: str, found: Measured, one: Hypothesis) -> tuple[float, float, float] | None:
    """Return (coefficient, standard error, floors that are left) of a hypothesis at a tap."""
    there, value, truth, floor = prepared(pass_runs, tap), found.value, found.truth, found.floor
    try:
        with np.errstate(all="ignore"):  # of values that a narrow operand cannot hold
            wrong, _ = rounded_run(there, one).recompute(tap)
    except Unknown:
        return None
    if value is None or truth is None or floor is None:
        return None
    _, wrong, valid = fitted(there.one_pass, tap, value, wrong)
    if not np.isfinite(wrong).all():
        return None
    c, stderr = project(*(without_pads(x, valid, tap) for x in (value, truth, wrong)))
    if stderr == np.inf or not c > 4 * stderr:
        return None
    return c, stderr, floor.ratio(distance_of(value, wrong, tap, valid))


def rounded_operations(one: Hypothesis) -> dict[str, Callable]:
    """Return the products of the truth with rounded operands: those of weights and of activations, or convolutions.

    Of ranks only those that sum over slices are others.
    """
    if one.ranks > 1:
        return {"row_parallel": partial(_over_ranks, one)}

    def rounded(x):
        return OPERANDS[one.operand](x.astype(np.float32)).astype(np.float64)

    def product(x, weight, bias=None):
        return TRUTH.linear(rounded(x), rounded(widen_jit(weight)), bias)

    def scores(q, k, scale):
        return TRUTH.scores(rounded(q), rounded(k), scale)

    def mix(probs, v):
        return TRUTH.mix(rounded(probs), rounded(v))

    def attend(q, k, v, seen, scale):
        return mix(TRUTH.softmax(scores(q, k, scale), seen), v)

    if one.groups == CONVOLUTIONS:
        return {"convolve": product}
    return {
        "linear": product,
        "row_parallel": product,
        "convolve": product,
        "scores": scores,
        "mix": mix,
        "attend": attend,
    }


def _over_ranks(one: Hypothesis, x: np.ndarray, weight: Weight, bias: np.ndarray | None = None) -> np.ndarray:
    """Return the sum of what ranks have made and rounded to the format of the dump."""
    rounded, wide = ROUND[one.stored[0]], widen_jit(weight)
    parts = [TRUTH.linear(x[..., here], wide[:, here]) for here in slices(x.shape[-1], one.ranks)]
    return added([rounded(part.astype(np.float32)) for part in parts], as_it_is, rounded).astype(np.float64)


def rounded_run(pass_runs: PassRuns, one: Hypothesis) -> Run:
    """Return a run on a dump's own inputs whose products round their operands, and sum in float64."""
    return beside(pass_runs, pass_runs.local, TRUTH._replace(**rounded_operations(one)))


def products_off(findings: list[TapFinding], groups: Iterable[str], tokens: list[int], least: float) -> bool:
    """Tell whether every tap that some operations made is off by so many floors; of one row it need not be.

    Args:
        findings: at every tap.
        groups: taps that count.
        tokens: of each pass, how many rows its products have.
        least: floors.
    """
    here = [one.local_ratio for one in findings if involves(one, groups) and tokens[one.pass_number] > 1]
    return all(ratio >= least for ratio in here if ratio is not None)


def involves(finding: TapFinding, groups: Iterable[str]) -> bool:
    """Tell whether a tap is one of some operations, or was made on the way through one that the dump does not show."""
    return any(tap_group(name) in groups for name in (finding.tap, *finding.span))


def summed_in_float16(findings: list[TapFinding], tokens: list[int]) -> Finding | None:
    """Tell whether all products of a float16 dump are off, and nothing else: their sums are then coarser than float32.

    Args:
        findings: at every tap.
        tokens: of each pass.
    """
    bad = [one for one in findings if one.verdict == "bug"]
    bad_products = [one for one in bad if one.group in PRODUCTS | ATTENTION and one.local is not None]
    only = bad and len(bad_products) == len(bad) and all(one.dtype == "float16" for one in bad)
    several = {one.group for one in bad} & PRODUCTS
    if not only or len(several) < 3 or not products_off(findings, several, tokens, 1.0):
        return None
    return Finding(FLOAT16_SUMS, bad[0].tap, bad[0].pass_number, None, None)
