"""`compare`: a dump in, the report out."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ref.errors import BadInput, wanted
from ref.ops.visibility import Composition
from ref.verify.at_tap import Measured
from ref.verify.bench import Bench
from ref.verify.claims import check_model, check_prompt, differing_settings
from ref.verify.consistency import contradictions
from ref.verify.coverage import Coverage
from ref.verify.diagnose import classes_of, conclusions, evidence_at
from ref.verify.emulate import emulate
from ref.verify.fits import fits_of
from ref.verify.floor import LIMIT
from ref.verify.hidden import Hidden
from ref.verify.judge import judge
from ref.verify.open_dump import Dump, arrays_as_dump, open_dump
from ref.verify.parallel import blas_for_runs
from ref.verify.policy import FAMILIES, POLICIES, members_of
from ref.verify.stages import stages_of, taps_of
from ref.verify.world import World, world_of

TWO_SIDED = ("gemma", "keras")
Profiles = dict[tuple[int, str], dict[str, list[float]]]
DIAGNOSED = 4  # bad taps of one group that are diagnosed: those after it tell the same


def compare(dump, weights: str | None = None, **how) -> dict[str, Any]:
    """Judge a dump against the reference: see `compare_with_profiles`, whose report this returns."""
    return compare_with_profiles(dump, weights, **how)[0]


def compare_with_profiles(
    dump: str | Path | Mapping[str, Any] | Dump,
    weights: str | None = None,
    *,
    ids=None,
    names: str | None = None,
    prompt=None,
    mmproj: str | None = None,
    family: str | None = None,
    held: str | None = None,
    composition: Composition | None = None,
    loaded=None,
    progress=None,
) -> tuple[dict[str, Any], Profiles]:
    """Judge a dump: every tap locally and as inherited, the first divergence, and which known mistake it is.

    Args:
        dump: a version-1 folder, a .npz or .safetensors file with ids and names, or arrays by tap name with ids.
        weights: as `--weights`; None takes what the dump names, and 270m for a file that names none.
        ids: token ids of a bare file or of arrays.
        names: the alias table of a bare file: ref, transformers, gemma, llama.cpp, keras, mlx, transformer_lens.
        prompt: ids that the first pass must have; None does not check.
        mmproj: the vision tower of a .gguf file.
        family: whose noise floor: a key of FAMILIES or POLICIES; None goes by the dump's policy.
        held: the dtype that the producer held its weights in; None takes what the dump says.
        composition: of window and image block; None goes by the producer.
        loaded: weights that are in memory already, in the place of `weights`.
        progress: called with a number of done and of all taps.

    Returns:
        (report, profiles): the report as `--json` prints it; of each (pass, tap) the errors of tokens and channels.

    Raises:
        BadInput: an unreadable dump, one of another model, ids unlike the prompt, tensors of impossible shapes.

    Source: README, "Judging your implementation".
    Differs: no known.
    """
    start = time.perf_counter()
    names_weights = isinstance(dump, Dump) or (isinstance(dump, (str, Path)) and Path(dump).is_dir())
    if loaded is None and (weights or not names_weights):
        loaded = _load(weights or "270m", mmproj)
    opened = _open(dump, ids, names, loaded)
    if prompt is not None:
        check_prompt(opened, prompt)
    if loaded is None:
        loaded = _load(opened.weights.get("name"), mmproj)
    check_model(opened, loaded.params.config, loaded.vision.config if loaded.vision else None)
    family = family or family_of(opened.policy, str(opened.producer.get("name")))
    if family not in FAMILIES and family not in POLICIES:
        raise wanted("--policy", "compare", f"one of {', '.join([*FAMILIES, *POLICIES])}", family)
    held = held or str(opened.weights.get("dtype"))
    composition = composition or ("two_sided" if opened.producer.get("name") in TWO_SIDED else "current")
    benches = _benches(opened, loaded, family, held, composition)
    hearing = _Hearing(family)
    with blas_for_runs():
        rows, profiles = _measure(benches, loaded, hearing, progress)
        report = _report(rows, hearing, benches, loaded)
    report |= {
        "coverage": hearing.coverage.lines(benches, rows),
        "settings": differing_settings(opened, loaded.params.config),
        "unaligned": opened.unaligned,
        "producer": opened.producer,
        "policy": opened.policy | {"judged_as": family},
        "weights": opened.weights | {"judged_against": loaded.name, "held": held},
        "passes": [{"ids": bench.world.ids.shape[1], "cached": bench.world.cached} for bench in benches],
        "seconds": round(time.perf_counter() - start, 2),
    }
    return report, profiles


def _open(dump, ids, names, loaded) -> Dump:
    config: dict[str, Any] | None = loaded.params.config._asdict() if loaded else None
    if config is not None and loaded.vision:
        config["vision"] = loaded.vision.config._asdict()
    if isinstance(dump, Dump):
        return dump
    if isinstance(dump, Mapping):
        return arrays_as_dump(dump, ids, names, config=config)
    return open_dump(dump, ids, names, config)


def _load(weights: str | None, mmproj: str | None):
    from ref.weights.resolve import load

    if not weights or weights == "not said":
        raise wanted("--weights", "compare", "the weights that the dump was made with", "none, and the dump names none")
    try:
        return load(weights, "file", mmproj)
    except BadInput as error:
        raise BadInput(f"{error} (the dump's weights; say which with --weights)") from None


def family_of(policy: Mapping[str, Any], producer: str = "") -> str:
    """Return whose noise floor a dump is measured by, from what its producer says of its arithmetic.

    Args:
        policy: of the dump.
        producer: its name; those whose rounding is known are measured by their own runs.

    Returns:
        `llama.cpp` where activations are quantised or keys are kept narrower than the arithmetic; else the dtype,
        after the producer's name where that is known.
    """
    compute = str(policy.get("compute_dtype") or "float32")
    quantised = str(policy.get("matmul_activations") or compute).startswith("q8")
    narrow = policy.get("kv_dtype") == "float16" and compute == "float32"
    if quantised or narrow:
        return "llama.cpp-flash" if policy.get("attention_impl") == "flash" else "llama.cpp"
    if compute == "float64" and policy.get("rope_angle") == "float32":
        compute = "float32"  # transformers in double keeps float32 in norms, softmax and angles
    own = f"{producer}-{compute}"
    known = own in FAMILIES or (own in POLICIES and compute != "float32")
    return own if known else compute if compute in FAMILIES else "float32"


def _benches(opened: Dump, loaded, family: str, held: str, composition: Composition) -> list[Bench]:
    benches: list[Bench] = []
    members = [emulate(policy, order) for policy, order in members_of(family)]  # they share what they make of weights
    for one in opened.passes:
        before = benches[-1] if one.cached else None
        world = _world(one, loaded, held, composition, before.world if before else None)
        known = {tap for stage in stages_of(world) for tap in taps_of(stage, True, True)}
        stored = {tap: tensor for tap, tensor in one.tensors.items() if tap in known}
        for tap in sorted(one.tensors.keys() - known):
            opened.unaligned.append({"name": tap, "why": "no such value in this pass of this model"})
        bench = Bench(one.number, world, stored, members, before)
        bench.partial = {tap: shown for tap, shown in opened.partial.get(one.number, {}).items() if tap in known}
        benches.append(bench)
    return benches


def _world(one, loaded, held, composition, before: World | None) -> World:
    return world_of(
        loaded,
        one.ids,
        positions=one.positions,
        cached=one.cached,
        left_pads=one.left_pads,
        blocks=one.image_blocks or None,
        pixels=one.pixels,
        composition=composition,
        held=held if held in ("bfloat16", "float16") else "file",
        before=before,
    )


class _Hearing:
    """What listens while the judge goes through a dump."""

    def __init__(self, family: str):
        self.hidden, self.coverage = Hidden(), Coverage()
        self.low = not family.endswith(("float32", "float64"))
        self.diagnosed: dict[str, int] = {}
        self.evidence: list[tuple[Measured, list, list[int]]] = []
        self.fits: list[dict[str, Any]] = []

    def __call__(self, bench: Bench, tap: str, found: Measured) -> None:
        row = found.row
        if row["verdict"] == "bug" and found.value is not None and not row["nonfinite"]:
            self._diagnose(bench, tap, found)
        elif self.low:
            self.hidden.listen(bench, tap, found)
        if row["verdict"] == "match" and found.value is not None:
            self.coverage.listen(bench, tap, found)

    def _diagnose(self, bench: Bench, tap: str, found: Measured) -> None:
        group = found.row["group"]
        self.diagnosed[group] = self.diagnosed.get(group, 0) + 1
        if self.diagnosed[group] > DIAGNOSED:
            return
        evidence = evidence_at(bench, tap, found)
        self.evidence.append((found, evidence, classes_of(evidence, found)))
        unexplained = not evidence or not evidence[0].explains
        if unexplained and not tap.endswith("attn.visible") and found.floor and found.value is not None:
            assert found.truth is not None
            more = fits_of(found.value, found.truth, found.floor, tap, found.row["local_ratio"])
            self.fits += [fit | {"tap": tap, "pass": bench.number} for fit in more]


def _measure(benches, loaded, hearing, progress):
    rows, profiles = [], {}
    total = sum(len(bench.stored) + len(bench.partial) for bench in benches)
    for found in judge(benches, loaded, benches[0].world.held, hearing):
        rows.append(found.row)
        profiles[found.row["pass"], found.row["tap"]] = found.profile
        if progress:
            progress(len(rows), total)
    order = {name: i for i, name in enumerate(_all_taps(benches))}
    rows.sort(key=lambda row: (row["pass"], order[row["tap"]]))
    return rows, profiles


def _all_taps(benches) -> list[str]:
    names: dict[str, None] = {}
    for bench in benches:
        for stage in stages_of(bench.world):
            names |= dict.fromkeys(taps_of(stage, True, True))
    return list(names)


def _report(rows, hearing: _Hearing, benches, loaded) -> dict[str, Any]:
    hidden = hearing.hidden.found()
    for one in hidden:
        for row in rows:
            if row["tap"] in one["taps"] and row["pass"] == one["pass"]:
                row["verdict"], row["why"] = "bug", f"below the noise floor: {one['mutant']}"
    bugs = [row for row in rows if row["verdict"] == "bug"]
    first = {key: bugs[0][key] for key in ("tap", "layer", "pass")} if bugs else None
    diagnosis = _first_diagnosis(rows, hearing, benches, loaded, first) or hidden
    if not bugs:
        _mark_inherited(rows)
    undetermined = not rows or any(row["verdict"] == "undetermined" for row in rows)
    return {
        "verdict": "bug" if bugs else "undetermined" if undetermined else "match",
        "first": first,
        "taps": rows,
        "diagnosis": diagnosis,
        "fits": [fit for fit in hearing.fits if first and fit["tap"] == first["tap"]],
        "decide": _decide(diagnosis, bool(bugs)),
    }


DRIFT = 2 * LIMIT  # floors that what is inherited may be off by while every operation matches


def _mark_inherited(rows) -> None:
    """Call a tap undetermined that is far off although no operation on the way is: something was not measured."""
    for row in rows:
        ratio = row["inherited_ratio"]
        if row["verdict"] == "match" and ratio is not None and ratio > DRIFT:
            row["verdict"], row["why"] = "undetermined", "each operation matches, but what has gathered does not"
            return


def _first_diagnosis(rows, hearing: _Hearing, benches, loaded, first) -> list[dict[str, Any]]:
    """Return the conclusions at the first bad tap; ties are broken by the taps that match."""
    for found, evidence, classes in hearing.evidence:
        if first is None or (found.row["tap"], found.row["pass"]) != (first["tap"], first["pass"]):
            continue
        out = conclusions(evidence, classes)
        tied = [row for row in out if row["class"] == 0 and row["verdict"] == "tied"]
        if len(tied) > 1:
            names = [row["mutant"] for row in tied]
            counts = contradictions(benches, loaded, benches[0].world.held, names, rows)
            least = min(counts.values())
            for row in tied:
                row["contradictions"] = counts[row["mutant"]]
                if row["contradictions"] > least:
                    row["verdict"], row["class"] = "cleared", len(out) + row["contradictions"]
            left = [row for row in tied if row["contradictions"] == least]
            if len(left) == 1:
                left[0]["verdict"] = "named"
            out.sort(key=lambda row: row["class"])
        return out
    return []


def _decide(diagnosis: list[dict[str, Any]], bug: bool) -> str:
    """Say what input would decide between what is left."""
    if not bug:
        return ""
    tied = [row for row in diagnosis if row["verdict"] == "tied"]
    if tied:
        return "; ".join(f"{row['mutant']} shows with: {row['needs']}" for row in tied)
    if any(row["verdict"] == "named" for row in diagnosis):
        return ""
    return "no mutant explains it: dump the taps between this one and the last that matches, in float32"
