"""Everything `verify` runs on one set of weights: golden cases both ways, greedy texts, official facts."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from ref.golden_files.against_golden import Finding, GroupFinding, by_group, run_golden
from ref.golden_files.files import find_cases, golden_root, read_case, read_checked
from ref.golden_files.official import Fact, run_official
from ref.model.generate import Sampling, generate
from ref.model.text import How
from ref.weights.resolve import Loaded, load, weights_name

AGREEMENT = 1e-10  # what two float64 runs may differ by, relative

COVERAGE = {
    "270m": [
        "270m alone does not show: kv heads tiled or repeated (K = 1), a RoPE factor, left padding; tiny does",
        "tiny alone shows images, with blocks shorter than the window, tiny-long longer ones; full width of the tower "
        "and of two 4B layers: gemma3-ref verify --weights synthetic:4b-pair",
        "none shows: positions beyond 720 in the model, bfloat16 arithmetic",
    ],
}


class SuiteResult(NamedTuple):
    """What one set of weights gave."""

    weights: str
    dtype: str
    cases: list[str]
    groups: dict[str, GroupFinding]
    texts: dict[str, bool]
    facts: list[Fact]  # official facts that ran
    not_run: dict[str, int]  # checkpoint -> how many facts did not


def run_suite(
    loaded: Loaded | None, weights: str, how: How, only: str | None = None, golden: Path | None = None
) -> SuiteResult:
    """Run the goldens of one set of weights.

    Args:
        loaded: the weights, or None to load them by name.
        weights: their name: `tiny`, `270m`, or a folder whose name is that of `golden/real/NAME`.
        how: ops and dtype; in float64 the unit is 1e-10 instead of the float32 noise floor.
        only: run only cases whose id contains this.
        golden: the goldens' folder; None for those that came along.
    """
    loaded = loaded or load(weights)
    root, name = golden or golden_root(), weights_name(weights)
    cases = [case for case in map(read_case, find_cases(root, name)) if not only or only in case.id]
    findings: list[Finding] = []
    for case in tqdm(cases, desc=f"verify {name}", disable=None, delay=1, leave=False):
        findings += run_golden(loaded.params, case, how, True, loaded.vision)
        fused = run_golden(loaded.params, case, how, False, loaded.vision)
        findings += [one._replace(tap=f"{one.tap} (untapped)") for one in fused]
    wide = np.dtype(how.dtype) == np.float64
    findings = [in_float64(one) for one in findings] if wide else findings
    greedy_file = root / "real" / name / "greedy.json"
    texts = run_greedy(loaded, greedy_file, how) if greedy_file.is_file() and not only and not wide else {}
    facts, not_run = run_official(loaded, name, root / "official", how) if not only else ([], {})
    ids = [case.id for case in cases]
    return SuiteResult(name, np.dtype(how.dtype).name, ids, by_group(findings), texts, facts, not_run)


def in_float64(one: Finding) -> Finding:
    """Judge a finding of a float64 run: the witness's float64 run must agree to 1e-10, whatever float32 would cost."""
    if one.floor == 0:
        return one
    ratio = one.error / AGREEMENT
    return one._replace(floor=AGREEMENT, ratio=ratio, verdict="match" if ratio <= 1 else "bug")


def run_greedy(loaded: Loaded, path: Path, how: How) -> dict[str, bool]:
    """Continue the golden prompts greedily, as one left-padded batch, and compare every id with transformers' own.

    Args:
        loaded: the weights.
        path: `greedy.json`.
        how: ops and dtype.

    Returns:
        prompt -> whether all ids are the same.
    """
    whole = read_checked(path, "greedy")
    rows: list[list[int]] = [[] for _ in whole["prompts"]]
    prompts = [one["prompt_ids"] for one in whole["prompts"]]
    steps = generate(loaded.params, prompts, whole["max_new_tokens"], Sampling(greedy=True), how=how)
    for step in tqdm(steps, total=whole["max_new_tokens"], desc="greedy", disable=None, delay=1, leave=False):
        for row, token in zip(rows, step, strict=True):
            row += [] if token is None else [token]
    return {repr(one["prompt"]): row == one["ids"] for one, row in zip(whole["prompts"], rows, strict=True)}
