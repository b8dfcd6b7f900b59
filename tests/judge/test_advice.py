"""What to capture next: what is missing and can be had, in commands that the capture of this project takes."""

import itertools
import shlex
from fnmatch import fnmatchcase
from inspect import signature

import numpy as np
import pytest
from support.judged import as_dump, cached_passes, captured, dumped
from support.lora import save_adapter

import ref
from ref import compare
from ref.capture.adapters import ADAPTERS, load_adapter
from ref.cli import build_parser
from ref.config import BOS, SIZES
from ref.judge.advice import Advice
from ref.judge.capture_command import PRODUCERS, Commands, Source, as_patterns
from ref.judge.case import Question
from ref.judge.judgement import judge_dump
from ref.model.taps import tap_names
from ref.mutants import tap_mutants
from ref.testing.broken import broken_taps

TINY = SIZES["tiny"]
LAYER = "text.layer.3."
RNG = np.random.default_rng(0)


def unknown(x):
    """Make a mistake that nobody knows."""
    return x + 0.3 * np.std(x) * RNG.standard_normal(x.shape).astype(x.dtype)


def by(producer, dump, folder, **policy):
    """Say that a dump is of one of our adapters, and lies in a folder."""
    named = dump._replace(producer={"name": producer, "version": "1"}, where=str(folder))
    return named._replace(policy=dump.policy | policy, weights=dump.weights | {"dtype": dump.policy["compute_dtype"]})


def judged(dump, **how):
    return compare(dump, loaded=ref.load("tiny"), **how)


def first(report):
    """Return the most urgent advice, and the taps of its command."""
    one = report["next"][0]
    words = shlex.split(one["command"])
    if words:
        build_parser().parse_args(words[1:])  # the command is one that we have
    return one, [word for flag, word in itertools.pairwise(words) if flag == "--taps"]


def matched(patterns, names):
    return {name for name in names for one in patterns if fnmatchcase(name, one)}


@pytest.fixture(scope="module")
def clean():
    return captured()


def test_an_unknown_mistake_asks_for_what_lies_between_it_and_its_inputs(clean, tmp_path):
    wrong = clean | {LAYER + "attn.q_rope": unknown(clean[LAYER + "attn.q_rope"])}
    kept = {tap: x for tap, x in wrong.items() if not tap.endswith((".attn.q", ".attn.q_norm"))}
    report = judged(by("transformers", dumped(kept), tmp_path))
    one, taps = first(report)
    assert taps == [LAYER + "attn.q", LAYER + "attn.q_norm"]
    assert f"--like {tmp_path}" in one["command"]
    assert "--weights tiny --dtype float32" in one["command"]
    assert one["prompt"] == ""
    assert report["decide"].startswith(one["why"])
    assert f"no known mistake explains {LAYER}attn.q_rope (pass 0): capture" in one["why"]


@pytest.mark.parametrize("merged", [False, True])
def test_a_command_puts_the_adapter_of_the_judgement_on_the_weights(clean, tmp_path, merged):
    save_adapter(tmp_path / "lora", ["q"])
    kept = {tap: x for tap, x in clean.items() if not tap.endswith((".attn.q", ".attn.q_norm"))}
    wrong = dumped(kept | {LAYER + "attn.q_rope": unknown(clean[LAYER + "attn.q_rope"])})
    wrong = wrong._replace(adapter={"name": "lora", "merged": merged})
    one, _ = first(judged(by("transformers", wrong, tmp_path), adapter=tmp_path / "lora"))
    more = " --merged yes" if merged else ""
    assert f"--weights tiny --adapter {tmp_path / 'lora'}{more} --dtype float32" in one["command"]
    one, _ = first(judged(by("mlx", wrong, tmp_path), adapter=tmp_path / "lora"))
    assert one["command"] == ""  # its command knows no adapters


def test_a_command_names_the_tower_of_the_judgement(clean, tmp_path):
    dump = by("transformers", dumped(clean), tmp_path)
    words = shlex.split(Commands(dump, Source("a.gguf", mmproj="b.gguf"), "next").write([]))
    assert words[3:7] == ["--weights", "a.gguf", "--mmproj", "b.gguf"]


def test_what_is_all_there_is_not_asked_for(clean, tmp_path):
    wrong = clean | {LAYER + "ffn.act": unknown(clean[LAYER + "ffn.act"])}
    one, taps = first(judged(by("transformers", dumped(wrong), tmp_path)))
    assert taps == []
    assert "whose inputs are all in the dump: the mistake is in the operation (geglu) or its weights" in one["why"]
    assert one["command"] == ""


def test_in_a_narrow_format_float32_is_asked_for(tmp_path):
    arrays = captured(dtype="bfloat16")
    wrong = arrays | {LAYER + "ffn.act": unknown(arrays[LAYER + "ffn.act"].astype(np.float32))}
    one, taps = first(judged(by("transformers", dumped(wrong, "bfloat16"), tmp_path)))
    assert taps == []
    assert "--dtype float32" in one["command"]


def test_of_a_few_taps_far_apart_the_layers_are_asked_for(clean, tmp_path):
    kept = {"text.embed": clean["text.embed"], "text.logits": unknown(clean["text.logits"])}
    one, taps = first(judged(by("transformers", dumped(kept), tmp_path)))
    names = tap_names(TINY.layers)
    assert matched(taps, names) == {*(f"text.layer.{i}.out" for i in range(TINY.layers)), "text.final_norm"}
    assert "text.layer.*.out, text.final_norm" in one["why"]


@pytest.mark.parametrize("producer", PRODUCERS)
@pytest.mark.parametrize("last", ["attn.mix", "attn.out", "ffn.out", "out"])
def test_no_command_asks_for_what_is_there_or_cannot_be(clean, tmp_path, producer, last):
    kept = {"text.embed": clean["text.embed"], LAYER + "in": clean[LAYER + "in"]}
    kept |= {LAYER + "attn.v": clean[LAYER + "attn.v"], LAYER + last: unknown(clean[LAYER + last])}
    _, taps = first(judged(by(producer, dumped(kept), tmp_path)))
    assert taps
    asked = matched(taps, tap_names(TINY.layers, cached=True, vision_layers=2))
    assert not asked & set(kept)
    assert all(tap.startswith(LAYER) and ".cache." not in tap for tap in asked)
    assert asked <= {tap for tap in tap_names(TINY.layers) if tap.startswith(LAYER)}


def test_a_cached_pass_may_ask_for_its_cache_but_not_for_what_the_producer_lacks(tmp_path):
    passes = cached_passes([5, 1])
    arrays = passes.taps[1]
    kept = [["text.embed"], ["text.embed", LAYER + "attn.mix"]]
    passes.taps[1][LAYER + "attn.mix"] = unknown(arrays[LAYER + "attn.mix"])
    for producer, lacks in (("transformers", True), ("gemma", False)):
        report = judged(by(producer, as_dump(passes, kept), tmp_path))
        _, taps = first(report)
        assert not any(tap.endswith("cache.positions") for tap in taps) or not lacks


def test_fused_attention_is_not_asked_for_scores_unless_nothing_else_is_left(clean, tmp_path):
    wrong = clean | {LAYER + "attn.mix": unknown(clean[LAYER + "attn.mix"])}
    pairs = (LAYER + "attn.scores", LAYER + "attn.probs")
    kept = {tap: x for tap, x in wrong.items() if tap not in pairs}
    one, taps = first(judged(by("transformers", dumped(kept), tmp_path, attention_impl="sdpa")))
    assert taps == list(pairs)
    assert "--attention eager" in one["command"]
    assert "with eager attention" in one["why"]
    del kept[LAYER + "attn.q_rope"]
    one, taps = first(judged(by("transformers", dumped(kept), tmp_path, attention_impl="sdpa")))
    assert taps == [LAYER + "attn.q_rope"]
    assert "--attention sdpa" in one["command"]


def test_a_port_without_adapter_is_told_the_taps(clean):
    wrong = clean | {LAYER + "attn.q_rope": unknown(clean[LAYER + "attn.q_rope"])}
    del wrong[LAYER + "attn.q_norm"]
    report = judged(dumped(wrong))
    assert report["next"][0]["command"] == ""
    assert report["next"][0]["why"].endswith(f"between it and its inputs, {LAYER}attn.q_norm")


def test_ids_in_other_places_have_no_command(clean, tmp_path):
    wrong = clean | {LAYER + "attn.q_rope": unknown(clean[LAYER + "attn.q_rope"])}
    del wrong[LAYER + "attn.q_norm"]
    dump = by("transformers", dumped(wrong), tmp_path)
    two = np.array([*range(10), *range(9)])
    report = judged(dump._replace(passes=[dump.passes[0]._replace(positions=two)]))
    assert all("--like" not in one["command"] for one in report["next"])


def test_what_was_not_tried_for_want_of_tokens_says_how_many(tmp_path):
    arrays = captured(tokens=3)
    wrong = arrays | {LAYER + "attn.v": unknown(arrays[LAYER + "attn.v"])}
    prompts = {}
    report = judged(by("transformers", dumped(wrong), tmp_path), advised=prompts.update)
    [one] = [one for one in report["next"] if "want of tokens" in one["why"]]
    assert "factors of channels" in one["why"]
    assert "8 in one pass are enough" in one["why"]
    [row] = prompts[one["prompt"]].prompt.rows
    assert len(row) >= 8


def test_a_basis_that_nothing_refutes_asks_for_the_tap_where_it_must_cancel(clean, tmp_path):
    heads = clean[LAYER + "attn.v"][:, :, ::-1]
    kept = {LAYER + "attn.pre_norm": clean[LAYER + "attn.pre_norm"], LAYER + "attn.v": np.ascontiguousarray(heads)}
    report = judged(by("transformers", dumped(kept), tmp_path))
    assert report["verdict"] == "undetermined"
    one, taps = first(report)
    assert taps == [LAYER + "attn.out"]
    assert "in another basis, and nothing tells whether it cancels" in one["why"]
    assert report["decide"] == one["why"]


def test_a_clean_dump_has_no_question_and_one_prompt_for_the_rest(clean, tmp_path):
    prompts = {}
    report = judged(by("transformers", dumped(clean), tmp_path), advised=prompts.update)
    assert (report["verdict"], report["decide"]) == ("match", "")
    [one] = report["next"]
    assert one["why"].startswith("not exercised: images, the cache, left pads")
    [(name, planned)] = prompts.items()
    assert name == one["prompt"] == "prompt.json"
    assert "--prompt-file next/prompt.json" in one["command"]
    prompt = planned.prompt
    assert (prompt.left_pads, prompt.steps, len(planned.pictures)) == ([0, 3], 2, len(prompt.images))
    assert prompt.rows[0][0] == prompt.rows[1][3] == BOS
    assert len(prompt.rows[0]) == len(prompt.rows[1])
    soft = TINY.vocabulary  # the first id after the vocabulary
    assert max(max(row) for row in prompt.rows) == soft
    assert prompt.rows[0].count(soft) == 4 * len(planned.pictures)


@pytest.mark.parametrize("producer", PRODUCERS)
def test_nothing_is_asked_of_an_adapter_that_it_does_not_take(clean, tmp_path, producer):
    prompts = {}
    judged(by(producer, dumped(clean), tmp_path), advised=prompts.update)
    can = PRODUCERS[producer]
    known = signature(load_adapter(ADAPTERS[(can.words or producer).split()[0]])).parameters
    assert (can.images, can.left_pads) == ("pixels" in known, "left_pads" in known)
    assert {(can.words or name).split()[0] for name, can in PRODUCERS.items()} == set(ADAPTERS)
    for planned in prompts.values():
        assert can.images or not planned.pictures
        assert can.left_pads or not planned.prompt.padded
        assert can.steps or not planned.prompt.steps


@pytest.mark.parametrize("only", [None, ("text.embed", "text.layer.0.in", "text.layer.0.attn.out")])
def test_tied_mistakes_get_the_prompt_that_tells_them_apart(tmp_path, only):
    rules, prompts = tap_mutants()["window_plus_one"].rules, {}
    arrays = captured(rules=rules, tokens=TINY.window + 1)  # with so few it is as if there were no window
    kept = {tap: x for tap, x in arrays.items() if only is None or tap in only}
    report = judged(by("transformers", dumped(kept), tmp_path), advised=prompts.update)
    assert (report["causes"][0]["verdict"], report["causes"][0]["tied_with"]) == ("tied", ["window_ignored"])
    one, _ = first(report)
    assert one["why"].startswith("window_plus_one and window_ignored explain text.layer.0.attn.")
    assert report["decide"].startswith(one["why"])
    [row] = prompts[one["prompt"]].prompt.rows
    again = dict(broken_taps(ref.load("tiny"), row, rules, "float32"))
    report = judged(dumped(again, ids=np.array(row)))
    assert [(cause["mutant"], cause["verdict"]) for cause in report["causes"]] == [("window_plus_one", "named")]


def test_what_is_smaller_than_rounding_noise_is_asked_for_in_float32(tmp_path):
    arrays = captured(dtype="bfloat16")
    dump = by("transformers", dumped(arrays, "bfloat16"), tmp_path)
    judgement = judge_dump(Question(dump, ref.load("tiny"), "bfloat16", "current"), "transformers-bfloat16")
    row = {"mutant": "ffn_gelu_erf", "verdict": "named"}
    several = Advice(judgement, dump, Source("tiny")).of([], [], [row])
    assert several[0].why == "ffn_gelu_erf is smaller than rounding noise at each value: in float32 it shows at each"
    assert "--dtype float32" in several[0].command
    assert not several[0].is_open


def test_patterns_match_what_they_stand_for_and_nothing_else():
    names = tap_names(TINY.layers)
    for wanted in (
        [f"text.layer.{i}.out" for i in range(TINY.layers)],
        [f"text.layer.{i}.attn.q" for i in range(TINY.layers)],
        [f"text.layer.{i}.attn.out" for i in range(3)],
        ["text.embed", "text.layer.2.mid"],
    ):
        patterns = as_patterns(wanted, names)
        assert matched(patterns, names) == set(wanted)
        assert len(patterns) <= 3
