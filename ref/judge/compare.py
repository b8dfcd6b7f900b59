"""`compare`: a dump in, the report out."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ref.dump.claims import check_model, check_prompt, differing_settings
from ref.dump.open import Dump, arrays_as_dump, open_dump
from ref.dump.read_server_json import ServerAnswer, is_server_json, read_server_json
from ref.dump.write import read_dump, says_sizes
from ref.errors import BadInput, wanted
from ref.golden_files.report_format import headed
from ref.judge.adapters import check_products, put_adapter
from ref.judge.advice import FOLDER, Advice
from ref.judge.capture_command import Source
from ref.judge.family import check_family, family_of
from ref.judge.judgement import Profiles, Question, judge_dump
from ref.judge.logits_alone import explained, judge_last
from ref.judge.make_report import count_taps, found_in, impossible_tensors, other_arithmetic
from ref.judge.next_prompt import PlannedPrompt
from ref.judge.server_answers import judge_answer
from ref.judge.stored_format import held_as, values_as_computed
from ref.judge.trust import check_arithmetic, check_digests, position_notes, source_notes
from ref.measure.parallel import blas_for_runs
from ref.ops.visibility import Composition

if TYPE_CHECKING:
    from ref.weights.resolve import Loaded

TWO_SIDED = ("gemma", "keras")


def compare(
    dump: str | Path | Mapping[str, Any] | Dump | ServerAnswer, weights: str | None = None, **how: Any
) -> dict[str, Any]:
    """Judge a dump against the reference: see `compare_with_profiles`, whose report this returns."""
    return compare_with_profiles(dump, weights, **how)[0]


def compare_with_profiles(
    dump: str | Path | Mapping[str, Any] | Dump | ServerAnswer,
    weights: str | None = None,
    *,
    ids: Sequence[Any] | None = None,
    names: str | None = None,
    prompt: Any = None,
    mmproj: str | None = None,
    adapter: str | Path | None = None,
    family: str | None = None,
    held: str | None = None,
    composition: Composition | None = None,
    loaded: "Loaded | None" = None,
    memory: str | int | None = None,
    progress: Callable[[int, int], Any] | None = None,
    say: Callable[[str], Any] | None = None,
    next_folder: str = FOLDER,
    advised: Callable[[dict[str, PlannedPrompt]], Any] | None = None,
) -> tuple[dict[str, Any], Profiles]:
    """Judge a dump: every tap locally and as inherited, the first divergence, and which known mistake it is.

    Args:
        dump: a folder, a .npz or .safetensors file with ids and names, or arrays by tap name with ids; a
            server's JSON of log-probabilities, or what `ref.dump.read_server_json` reads.
        weights: as `--weights`; None takes what the dump names, and 270m for a file that names none.
        ids: token ids of a bare file or of arrays; of a server's answer those of the prompt.
        names: the alias table of a bare file: ref, transformers, gemma, llama.cpp, keras, mlx, transformer_lens.
        prompt: ids that the first pass must have; None does not check.
        mmproj: the vision tower of a .gguf file.
        adapter: a LoRA adapter on the weights, as PEFT saves it; the dump says whether it was merged.
        family: whose noise floor: a key of FAMILIES or POLICIES; None goes by the dump's policy.
        held: the dtype that the producer held its weights in; None takes what the dump says.
        composition: of window and image block; None goes by the producer.
        loaded: weights that are in memory already, in the place of `weights`.
        memory: how much may be used, as `--memory`: bytes or 6GB; None takes what is available.
        progress: called with a number of done and of all taps; of logits alone then of mistakes that are tried.
        say: called with lines on what is known so far, where it takes long.
        next_folder: where the prompts that the report's `next` speaks of will be written.
        advised: called with those prompts, by file name.

    Returns:
        (report, profiles): the report as `--json` prints it; of each (pass, tap) the errors of tokens and channels.

    Raises:
        BadInput: an unreadable dump, one of another model, ids unlike the prompt, tensors of impossible shapes, one
            that needs more memory than there is.

    Source: README, "Judging your implementation".
    """
    start, given = time.perf_counter(), loaded is not None
    if isinstance(dump, (str, Path)) and is_server_json(dump):
        dump = read_server_json(dump)
    if isinstance(dump, ServerAnswer):
        chosen = "given" if given else "--weights" if weights else "default"
        how = {"family": family, "held": held, "chosen": chosen, "progress": progress, "say": say}
        tokens = ids if ids is not None else prompt
        loaded, _ = put_adapter(loaded or _load(weights or "270m", mmproj), adapter, None, "server's answer")
        return judge_answer(dump, loaded, prompt=tokens, **how), {}
    names_weights = isinstance(dump, Dump) or (isinstance(dump, (str, Path)) and Path(dump).is_dir())
    if loaded is None and (weights or not names_weights):
        loaded = _load(weights or "270m", mmproj)
    elif loaded is None and isinstance(dump, (str, Path)):
        loaded = _of_folder(Path(dump), mmproj)
    opened = _open(dump, ids, names, loaded)
    if prompt is not None:
        check_prompt(opened, prompt)
    if loaded is None:
        loaded = _load(opened.weights.get("name"), mmproj)
        opened = _open(dump, ids, names, loaded)  # once more: now the lengths of axes are known, whatever it says
    loaded, on_it = put_adapter(loaded, adapter, opened.adapter, opened.where)
    check_arithmetic(opened, family, held)
    opened, notes = values_as_computed(opened)
    notes += check_digests(opened, loaded)
    check_model(opened, loaded.params.config, loaded.vision.config if loaded.vision else None)
    heard = {tap: tensor.dtype for one in opened.passes for tap, tensor in one.tensors.items()}
    family = family or family_of(opened.policy, str(opened.producer.get("name")), heard)
    check_family(family)
    check_products(loaded, family)
    held = held or held_as(opened)
    composition = composition or ("two_sided" if opened.producer.get("name") in TWO_SIDED else "current")
    question = Question(opened, loaded, held, composition, progress, memory)
    chosen, more = source_notes(weights, opened, given)
    said = {"producer": opened.producer, "settings": differing_settings(opened, loaded.params.config)}
    said["weights"] = opened.weights | {"judged_against": loaded.name, "held_as": held, "from": chosen}
    said["weights"] |= {"adapter": on_it} if on_it else {}
    if opened.last:
        with blas_for_runs():
            report = judge_last(question, family, say) | said
        report |= {"policy": opened.policy | {"judged_as": family}, "notes": [*notes, *more]}
        return headed("compare", report | {"seconds": round(time.perf_counter() - start, 2)}), {}
    notes += more
    with blas_for_runs():
        judged = judge_dump(question, family)
        merged, folder = bool(on_it and on_it["merged"]), None if adapter is None else str(adapter)
        source = Source(loaded.name, mmproj, bool(on_it), folder, merged)
        advice = Advice(judged, opened, source, next_folder)
        report = found_in(judged, loaded, advice)
        alone, constant = explained(judged, question, report, say)
    if advised:
        advised(advice.prompts)
    if alone:
        named = any(row["verdict"] == "named" for row in alone["ranked"])
        report |= {"from_logits": alone, "decide": "" if named else report["decide"]}
        report |= {"next": []} if named else {}
    notes += [*constant, *position_notes(opened.passes, [pass_runs.one_pass for pass_runs in judged.all_runs])]
    report |= said | {
        "compared": count_taps(opened, judged),
        "arithmetic": other_arithmetic(judged, str(opened.policy.get("compute_dtype") or "not said")),
        "coverage": judged.hearing.coverage.lines(judged.all_runs, judged.findings),
        "unaligned": opened.unaligned + impossible_tensors(opened, judged),
        "policy": opened.policy | {"judged_as": judged.family},
        "notes": notes,
        "passes": [
            {"ids": pass_runs.one_pass.ids.shape[1], "cached": pass_runs.one_pass.cached}
            for pass_runs in judged.all_runs
        ],
        "seconds": round(time.perf_counter() - start, 2),
    }
    return headed("compare", report), judged.profiles


def _open(dump, ids, names, loaded) -> Dump:
    config: dict[str, Any] | None = loaded.params.config._asdict() if loaded else None
    if config is not None and loaded.vision:
        config["vision"] = loaded.vision.config._asdict()
    if isinstance(dump, Dump):
        return dump
    if isinstance(dump, Mapping):
        return arrays_as_dump(dump, ids, names, config=config)
    return open_dump(dump, ids, names, config)


def _of_folder(folder: Path, mmproj: str | None):
    """Load the weights that a dump names if it says no sizes: without them merged axes cannot be split."""
    if says_sizes(folder):
        return None
    return _load(read_dump(folder)["model"]["weights"]["name"], mmproj)


def _load(weights: str | None, mmproj: str | None):
    from ref.weights.resolve import load

    if not weights or weights == "not said":
        raise wanted("--weights", "compare", "the weights that the dump was made with", "none, and the dump names none")
    try:
        return load(weights, "file", mmproj)
    except BadInput as error:
        raise BadInput(f"{error} (the dump's weights; say which with --weights)") from None
