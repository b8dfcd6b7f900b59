"""`compare`: a dump in, the report out."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ref.dump.claims import check_prompt
from ref.dump.open import Dump
from ref.dump.read_server_json import ServerAnswer, is_server_json, read_server_json
from ref.golden_files.report_format import headed
from ref.judge.adapters import put_adapter
from ref.judge.advice import FOLDER, Advice
from ref.judge.ask import ask, load_named
from ref.judge.capture_command import Source
from ref.judge.choice import chosen, left_out
from ref.judge.jobs import fingerprint_of, names_of
from ref.judge.judgement import Profiles, judge_dump
from ref.judge.logits_alone import explained, judge_last
from ref.judge.make_report import count_taps, found_in, impossible_tensors, other_arithmetic, taps_of_dump
from ref.judge.next_prompt import PlannedPrompt
from ref.judge.prompt_digest import prompt_digest
from ref.judge.rank_notes import rank_notes
from ref.judge.server_answers import judge_answer
from ref.judge.spread import HERE, Spread, helped
from ref.judge.trust import position_notes
from ref.measure.parallel import blas_for_runs
from ref.ops.visibility import Composition

if TYPE_CHECKING:
    from ref.weights.resolve import Loaded


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
    load: "Callable[[str, str, str | None], Loaded] | None" = None,
    memory: str | int | None = None,
    progress: Callable[[int, int], Any] | None = None,
    say: Callable[[str], Any] | None = None,
    next_folder: str = FOLDER,
    advised: Callable[[dict[str, PlannedPrompt]], Any] | None = None,
    spread: Spread = HERE,
    layers: str | None = None,
    taps: Sequence[str] | None = None,
    sample: int | None = None,
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
        load: called in the place of `ref.load`, with its arguments, by who judges many dumps of the same weights.
        memory: how much may be used, as `--memory`: bytes or 6GB; None takes what is available.
        progress: called with a number of done and of all taps; of logits alone then of mistakes that are tried.
        say: called with lines on what is known so far, where it takes long.
        next_folder: where the prompts that the report's `next` speaks of will be written.
        advised: called with those prompts, by file name.
        spread: who does the work: this process, others of this machine, Dask's workers, any executor.
        layers: those that are judged, such as `3,9-11` or `embed,0-5`; None: all.
        taps: patterns of those that are judged, such as `text.layer.*.attn.q`; None: all.
        sample: how many layers are to stand for all; None: all.

    Returns:
        (report, profiles): the report as `--json` prints it; of each (pass, tap) the errors of tokens and channels.

    Raises:
        BadInput: an unreadable dump, one of another model, ids unlike the prompt, tensors of impossible shapes, one
            that needs more memory than there is.

    Source: README, "Judging your implementation".
    """
    start, source_of_weights = time.perf_counter(), "given" if loaded else "--weights" if weights else "default"
    if isinstance(dump, (str, Path)) and is_server_json(dump):
        dump = read_server_json(dump)
    if isinstance(dump, ServerAnswer):
        how = {"family": family, "held": held, "chosen": source_of_weights, "progress": progress, "say": say}
        tokens = ids if ids is not None else prompt
        loaded, _ = put_adapter(loaded or load_named(weights or "270m", mmproj, load), adapter, None, "server's answer")
        return judge_answer(dump, loaded, prompt=tokens, **how), {}
    alone = spread.is_none and spread.resume is None
    named = None if alone else names_of(dump, weights, loaded, mmproj, adapter, ids, names, held, composition)
    asked = ask(dump, weights, ids, names, mmproj, adapter, family, held, composition, loaded, load)
    if prompt is not None:
        check_prompt(asked.opened, prompt)
    opened, notes, said = asked.opened, list(asked.notes), asked.said
    choice = chosen(layers, taps, sample, asked.loaded.params.config, taps_of_dump(opened))
    question = asked.question._replace(progress=progress, memory=memory, choice=choice)
    if opened.last:
        with blas_for_runs():
            report = judge_last(question, asked.family, say) | said
        report |= {"policy": opened.policy | {"judged_as": asked.family}, "notes": [*notes, *asked.source_notes]}
        return headed("compare", report | {"seconds": round(time.perf_counter() - start, 2)}), {}
    notes += asked.source_notes
    named = named and named._replace(fingerprint=fingerprint_of(opened, asked.loaded), choice=choice)
    with blas_for_runs(), helped(spread) as by:
        judged = judge_dump(question, asked.family, named, by)
        merged, folder = bool(asked.on_it and asked.on_it["merged"]), None if adapter is None else str(adapter)
        source = Source(asked.loaded.name, mmproj, bool(asked.on_it), folder, merged)
        advice = Advice(judged, opened, source, next_folder)
        report = found_in(judged, asked.loaded, advice)
        from_logits, constant = explained(judged, question, report, say)
    if advised:
        advised(advice.prompts)
    if from_logits:
        named_there = any(row["verdict"] == "named" for row in from_logits["ranked"])
        report |= {"from_logits": from_logits, "decide": "" if named_there else report["decide"]}
        report |= {"next": []} if named_there else {}
    notes += rank_notes(judged.findings)
    notes += [*constant, *position_notes(opened.passes, [pass_runs.one_pass for pass_runs in judged.all_runs])]
    report |= said | {
        "compared": count_taps(opened, judged),
        "arithmetic": other_arithmetic(judged, str(opened.policy.get("compute_dtype") or "not said")),
        "coverage": judged.hearing.coverage.lines(judged.all_runs, judged.findings),
        "unaligned": opened.unaligned + impossible_tensors(opened, judged),
        "policy": opened.policy | {"judged_as": judged.family},
        "notes": notes,
        "passes": [
            {"ids": pass_runs.one_pass.ids.shape[1], "cached": pass_runs.one_pass.cached, "prompt": prompt_digest(one)}
            for pass_runs, one in zip(judged.all_runs, opened.passes, strict=True)
        ],
        "seconds": round(time.perf_counter() - start, 2),
    }
    if not choice.is_all:
        counts: Any = report["compared"]
        report |= {"left_out": left_out(choice, counts["taps"], counts["of_dump"], judged.cut)}
    return headed("compare", report), judged.profiles
