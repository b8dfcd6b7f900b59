"""`compare`: a dump in, the report out."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ref.diagnosis.break_ties import contradictions
from ref.diagnosis.evidence import conclusions
from ref.diagnosis.find_arithmetic import ENDS, PRODUCTS, WIDE
from ref.dump.claims import check_model, check_prompt, differing_settings
from ref.dump.open import Dump, arrays_as_dump, open_dump
from ref.emulate.policy import FAMILIES, POLICIES
from ref.errors import BadInput, wanted
from ref.judge.judgement import Judgement, Profiles, Question, judge_dump, known_taps, possible_taps
from ref.judge.stored_format import held_as, values_as_computed
from ref.judge.trust import check_arithmetic, check_digests, position_notes, source_notes
from ref.measure.floor import LIMIT
from ref.measure.parallel import blas_for_runs
from ref.model.taps import tap_group
from ref.ops.visibility import Composition

TWO_SIDED = ("gemma", "keras")


def compare(dump: str | Path | Mapping[str, Any] | Dump, weights: str | None = None, **how: Any) -> dict[str, Any]:
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
    memory: str | int | None = None,
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
        memory: how much may be used, as `--memory`: bytes or 6GB; None takes what is available.
        progress: called with a number of done and of all taps.

    Returns:
        (report, profiles): the report as `--json` prints it; of each (pass, tap) the errors of tokens and channels.

    Raises:
        BadInput: an unreadable dump, one of another model, ids unlike the prompt, tensors of impossible shapes, one
            that needs more memory than there is.

    Source: README, "Judging your implementation".
    """
    start, given = time.perf_counter(), loaded is not None
    names_weights = isinstance(dump, Dump) or (isinstance(dump, (str, Path)) and Path(dump).is_dir())
    if loaded is None and (weights or not names_weights):
        loaded = _load(weights or "270m", mmproj)
    opened = _open(dump, ids, names, loaded)
    if prompt is not None:
        check_prompt(opened, prompt)
    if loaded is None:
        loaded = _load(opened.weights.get("name"), mmproj)
        opened = _open(dump, ids, names, loaded)  # once more: now the lengths of axes are known, whatever it says
    check_arithmetic(opened, family, held)
    opened, notes = values_as_computed(opened)
    notes += check_digests(opened, loaded)
    check_model(opened, loaded.params.config, loaded.vision.config if loaded.vision else None)
    heard = {tap: tensor.dtype for one in opened.passes for tap, tensor in one.tensors.items()}
    family = family or family_of(opened.policy, str(opened.producer.get("name")), heard)
    if family not in FAMILIES and family not in POLICIES:
        raise wanted("--policy", "compare", f"one of {', '.join([*FAMILIES, *POLICIES])}", family)
    held = held or held_as(opened)
    composition = composition or ("two_sided" if opened.producer.get("name") in TWO_SIDED else "current")
    question = Question(opened, loaded, held, composition, progress, memory)
    with blas_for_runs():
        judged = judge_dump(question, family)
        report = _report(judged, loaded)
    chosen, more = source_notes(weights, opened, given)
    notes += [*more, *position_notes(opened.passes, [pass_runs.one_pass for pass_runs in judged.all_runs])]
    report |= {
        "compared": _compared(opened, judged),
        "arithmetic": _arithmetic(judged, str(opened.policy.get("compute_dtype") or "not said")),
        "coverage": judged.hearing.coverage.lines(judged.all_runs, judged.rows),
        "settings": differing_settings(opened, loaded.params.config),
        "unaligned": opened.unaligned + _impossible(opened, judged),
        "producer": opened.producer,
        "policy": opened.policy | {"judged_as": judged.family},
        "weights": opened.weights | {"judged_against": loaded.name, "held": held, "from": chosen},
        "notes": notes,
        "passes": [
            {"ids": pass_runs.one_pass.ids.shape[1], "cached": pass_runs.one_pass.cached}
            for pass_runs in judged.all_runs
        ],
        "seconds": round(time.perf_counter() - start, 2),
    }
    return report, judged.profiles


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


def family_of(policy: Mapping[str, Any], producer: str = "", heard: Mapping[str, str] | None = None) -> str:
    """Return whose noise floor a dump is measured by, from what its producer says of its arithmetic.

    Args:
        policy: of the dump.
        producer: its name; those whose rounding is known are measured by their own runs.
        heard: tap -> dtype of its tensor. Narrow products beside a wide residual stream are autocast's.

    Returns:
        `llama.cpp` where activations are quantised or keys are kept narrower than the arithmetic; what is said of
        operands and sums of products; else the dtype, after the producer's name where that is known.
    """
    compute = str(policy.get("compute_dtype") or "float32")
    quantised = str(policy.get("matmul_activations") or compute).startswith("q8")
    narrow = policy.get("kv_dtype") == "float16" and compute == "float32"
    products = policy.get("products") or _autocast(heard or {})
    if compute == "float32" and products in ("bfloat16", "float16"):
        return f"autocast-{products}"
    if quantised or narrow:
        return "llama.cpp-flash" if policy.get("attention_impl") == "flash" else "llama.cpp"
    if compute == "float64" and policy.get("rope_angle") == "float32":
        compute = "float32"  # transformers in double keeps float32 in norms, softmax and angles
    return _by_products(policy, compute) or _by_producer(producer, compute)


def _autocast(heard: Mapping[str, str]) -> str | None:
    """Return the format of products where they are narrow and the residual stream is not."""
    formats = {dtype for tap, dtype in heard.items() if tap_group(tap) in PRODUCTS - ENDS}
    wide = any(dtype == "float32" for tap, dtype in heard.items() if tap_group(tap) in WIDE)
    return next(iter(formats)) if wide and len(formats) == 1 and "float32" not in formats else None


def _by_products(policy: Mapping[str, Any], compute: str) -> str | None:
    """Return the family of what a dump says of its products: "matmul_operands", "conv_operands", "accumulate"."""
    if compute == "float16":
        return "float16-sums" if policy.get("accumulate") == "float16" else None
    operands, patches = policy.get("matmul_operands"), policy.get("conv_operands")
    if compute != "float32":
        return None
    if operands in ("tf32", "bfloat16", "float16"):
        return "tf32" if operands == "tf32" else f"{operands}-operands"
    return f"{patches}-convolutions" if patches in ("tf32", "bfloat16") else None


def _by_producer(producer: str, compute: str) -> str:
    own = f"{producer}-{compute}"
    known = own in FAMILIES or (own in POLICIES and compute != "float32")
    return own if known else compute if compute in FAMILIES else "float32"


def _compared(opened: Dump, judged: Judgement) -> dict[str, Any]:
    """Count taps: those compared, those that the dump holds, those that the model has in passes of these kinds."""
    ours = sum(len(possible_taps(pass_runs.one_pass)) for pass_runs in judged.all_runs)
    theirs = len(judged.rows) + len(opened.unaligned) + len(_impossible(opened, judged))
    return {"taps": len(judged.rows), "of_dump": theirs, "of_model": ours}


def _impossible(opened: Dump, judged: Judgement) -> list[dict[str, str]]:
    """List tensors that this model has no place for in their pass."""
    why = "no such value in this pass of this model"
    return [
        {"name": tap, "why": why}
        for one, pass_runs in zip(opened.passes, judged.all_runs, strict=True)
        for tap in sorted((one.tensors.keys() | opened.partial.get(one.number, {})) - known_taps(pass_runs.one_pass))
    ]


def _arithmetic(judged: Judgement, declared: str) -> dict[str, Any] | None:
    """Return the arithmetic that all products have and the dump does not declare."""
    return judged.finding.row(declared) if judged.finding and not judged.partly else None


def _report(judged: Judgement, loaded) -> dict[str, Any]:
    rows, hearing = judged.rows, judged.hearing
    hidden = hearing.hidden.found()
    for one in hidden:
        for row in rows:
            if (row["tap"], row["pass"]) in zip(one["taps"], one["passes"], strict=True):
                row["verdict"], row["why"] = "bug", f"below the noise floor: {one['mutant']}"
    bugs = [row for row in rows if row["verdict"] == "bug"]
    first = {key: bugs[0][key] for key in ("tap", "layer", "pass")} if bugs else None
    diagnosis = _first_diagnosis(judged, loaded, first) or hidden
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
    """Call a tap undetermined that is far off although no operation on the way is: something was not measured.

    What follows a value beyond the format is far off by the format alone.
    """
    for row in rows:
        if row["overflow"]:
            return
        ratio = row["inherited_ratio"]
        if row["verdict"] == "match" and ratio is not None and ratio > DRIFT:
            row["verdict"], row["why"] = "undetermined", "each operation matches, but what has gathered does not"
            return


def _first_diagnosis(judged: Judgement, loaded, first) -> list[dict[str, Any]]:
    """Return the conclusions at the first bad tap; ties are broken by the taps that match."""
    rows, all_runs = judged.rows, judged.all_runs
    if judged.partly and judged.finding and first and first["tap"] == judged.finding.tap:
        return [judged.finding.mistake()]
    for found, evidence, classes in judged.hearing.evidence:
        if first is None or (found.row["tap"], found.row["pass"]) != (first["tap"], first["pass"]):
            continue
        out = conclusions(evidence, classes)
        tied = [row for row in out if row["class"] == 0 and row["verdict"] == "tied"]
        if len(tied) > 1:
            names = [row["mutant"] for row in tied]
            counts = contradictions(all_runs, loaded, all_runs[0].one_pass.held, names, rows)
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
