"""`verify` passes the right model and finds wrong ones, naming the first tap that shows it."""

import json
import shutil

import numpy as np
import pytest
from support.command_line import PROMPT, greedy, json_of
from support.tiny import TINY

from ref.cli import main
from ref.golden_files import verify_all as suite
from ref.golden_files.against_golden import Kept, judge, judge_top
from ref.golden_files.files import golden_root, read_case
from ref.model.taps import tap_group
from ref.ops import DEFINITION, KERNEL
from ref.report.figures import floors
from ref.weights import resolve
from ref.weights.resolve import load


@pytest.mark.parametrize(
    "flags", [(), ("--dtype", "float64"), ("--ops", "definition"), ("--case", "packed", "--held-as", "float32")]
)
def test_verify_tiny_matches(capsys, flags):
    report = json_of(capsys, "verify", "--weights", "tiny", *flags)
    assert (report["verdict"], report["first"], report["diagnosis"]) == ("match", None, [])
    assert {row["verdict"] for row in report["taps"]} == {"match"}
    assert all(row["inherited_ratio"] <= 2 and row["local"] is None for row in report["taps"])
    taps = [row["group"] for row in report["taps"]]
    assert {"text.embed", "text.layer.*.attn.probs", "text.logits (untapped)", "argmax"} <= set(taps)
    assert report["weights"] == {"name": "tiny", "held_as": "float32" if "float32" in flags else "file", "tensors": 132}
    assert isinstance(report["coverage"], list)


def test_verify_prints_a_table_and_the_verdict_last(capsys):
    assert main(["verify", "--weights", "tiny", "--case", "padded"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("tiny: tiny/padded\n")
    assert out.splitlines()[-1] == "verdict: match"
    assert err.endswith(" s\n")


def swap_norms(p):
    layers = list(p.layers)
    a, b = layers[3].post_attn_norm, layers[3].post_ffn_norm
    layers[3] = layers[3]._replace(post_attn_norm=b, post_ffn_norm=a)
    return p._replace(layers=layers)


def configured(**settings):
    return lambda p: p._replace(config=p.config._replace(**settings))


def transposed_heads(p):
    """Tile kv heads over queries instead of repeating them, by permuting the query heads of one layer."""
    layers, c = list(p.layers), TINY
    q = layers[6].q.reshape(c.kv_heads, -1, c.head_dim, c.width).transpose(1, 0, 2, 3).reshape(layers[6].q.shape)
    layers[6] = layers[6]._replace(q=np.ascontiguousarray(q))
    return p._replace(layers=layers)


def nan_gain(p):
    return p._replace(final_norm=np.full_like(p.final_norm, np.nan))


# what is wrong with the model: the first tap that shows it, in the first case, `tiny/cached`
WRONG = {
    "norms swapped": (swap_norms, "text.layer.3.attn.post_norm", 3),
    "window one longer": (configured(window=6), None, 0),
    "window one shorter": (configured(window=4), None, 0),
    "query scale": (configured(query_scale=10**-0.5), "text.layer.0.attn.scores", 0),
    "no RoPE factor": (configured(rope_factor=1.0), "text.layer.5.attn.q_rope", 5),
    "local base on no layer": (configured(rope_base_local=1e6), "text.layer.0.attn.q_rope", 0),
    "a global layer every 7": (configured(global_every=7), "text.layer.5.attn.q_rope", 5),
    "heads tiled": (transposed_heads, "text.layer.6.attn.q", 6),
    "eps": (configured(rms_eps=1e-5), "text.layer.0.attn.pre_norm", 0),
    "not a number": (nan_gain, "text.final_norm", None),
}


@pytest.mark.parametrize("name", WRONG)
def test_verify_finds_a_wrong_model_and_names_the_first_tap_that_shows_it(capsys, monkeypatch, name):
    change, tap, layer = WRONG[name]
    loaded = load("tiny")
    loaded = loaded._replace(params=change(loaded.params))
    monkeypatch.setattr(resolve, "load", lambda *args: loaded)
    report = json_of(capsys, "verify", "--weights", "tiny", code=1)
    assert report["verdict"] == "bug"
    first = report["first"]
    assert (first["layer"], first["case"], first["weights"]) == (layer, "tiny/cached", "tiny")
    if tap:
        assert first["tap"] == tap
    else:  # a ring of another length: its contents differ, or the range of keys that is seen
        assert first["tap"].startswith("text.layer.0.")
        assert first["tap"].endswith(("cache.k", "attn.visible"))
    assert main(["verify", "--weights", "tiny"]) == 1
    last = capsys.readouterr().out.splitlines()[-1]
    place = (
        f"verdict: bug, first at tiny {first['case']} pass {first['pass']} {first['tap']}: {tap_group(first['tap'])}, "
    )
    row = next(row for row in report["taps"] if row["group"] == tap_group(first["tap"]) and row["verdict"] == "bug")
    far = "differs" if row["inherited_ratio"] is None else f"at most {floors(row['inherited_ratio'])} floors"
    count = sum(row["verdict"] == "bug" for row in report["taps"])
    assert last == f"{place}{far}; {count} of {len(report['taps'])} groups are wrong"


def test_verify_finds_an_error_that_only_the_fused_kernel_makes(capsys, monkeypatch):
    """Tapped runs take the three steps one by one: what users run must be measured too."""

    def attend(q, k, v, visible, scale, origin):
        return KERNEL.attend(q, k, v, visible, scale * 1.001, origin)

    broken = KERNEL._replace(attend=attend)
    monkeypatch.setattr("ref.ops.KERNEL", broken)
    report = json_of(capsys, "verify", "--weights", "tiny", "--case", "packed", code=1)
    assert report["first"]["tap"] == "text.logits (untapped)"
    assert {row["verdict"] for row in report["taps"] if "untapped" not in row["group"]} == {"match"}


def test_a_greedy_text_that_differs_is_a_bug(capsys, tmp_path):
    shutil.copytree(golden_root() / "cases", tmp_path / "cases")
    good = {"prompt": "a", "prompt_ids": PROMPT, "ids": greedy(5)}
    bad = {"prompt": "b", "prompt_ids": PROMPT[1:], "ids": [1, 1, 1, 1, 1]}
    (tmp_path / "real" / "tiny").mkdir(parents=True)
    flags = ["verify", "--weights", "tiny", "--golden", str(tmp_path)]
    about = {key: {} for key in ("weights", "config", "source", "generator", "environment")}
    about |= {"format_version": 1, "id": "tiny/greedy", "licence": ""}
    for prompts, code in ([good], 0), ([good, bad], 1):
        content = json.dumps({**about, "max_new_tokens": 5, "prompts": prompts})
        (tmp_path / "real" / "tiny" / "greedy.json").write_text(content)
        report = json_of(capsys, *flags, code=code)
        assert (report["verdict"], report["first"]) == ("bug" if code else "match", None)
        assert report["texts"] == {"'a'": True} | ({"'b'": False} if code else {})


def test_definition_and_kernel_are_what_the_flag_says(capsys, monkeypatch):
    seen = []
    monkeypatch.setattr(suite, "run_suite", lambda loaded, name, how, *rest: seen.append(how.ops) or empty(name))

    def empty(name):
        return suite.SuiteResult(name, "float32", ["x"], {}, {}, [], {})

    for flag in ("definition", "kernel"):
        json_of(capsys, "verify", "--weights", "tiny", "--ops", flag)
    assert seen == [DEFINITION, KERNEL]


def test_what_samples_miss_shows_in_the_length_and_what_is_missing_is_a_bug():
    folder = golden_root() / "real" / "270m" / "short"
    case = read_case(folder)
    one, tap = case.passes[0], "text.layer.3.ffn.gate"
    row = one.rows[tap]
    truth = one.truth[tap]
    good = Kept(truth, tuple(row["shape"]), row["norm"])
    assert judge(case, one, tap, good).verdict == "match"
    assert judge(case, one, tap, good._replace(norm=row["norm"] * 1.001)).verdict == "bug"
    assert judge(case, one, tap, good._replace(norm=float("nan"))).ratio == float("inf")
    assert judge(case, one, tap, good._replace(shape=(1, *row["shape"]))).verdict == "bug"
    assert judge(case, one, tap, None).verdict == "bug"


def test_swapped_or_drifted_largest_logits_are_a_bug():
    case = read_case(golden_root() / "real" / "270m" / "short")
    one = case.passes[0]
    ids, truth = one.truth["top.ids"], one.truth["top.logits"]
    logits = np.full((*ids.shape[:2], 262_144), -100.0)
    np.put_along_axis(logits, ids, truth, -1)
    assert [finding.verdict for finding in judge_top(case, one, logits)] == ["match", "match"]
    swapped = logits.copy()
    np.put_along_axis(swapped, ids, truth[..., [1, 0, *range(2, 8)]], -1)
    assert [finding.verdict for finding in judge_top(case, one, swapped)] == ["bug", "bug"]
    logits[0, -1, ids[0, -1, 0]] += 1e-3  # one value of the last position
    assert [finding.verdict for finding in judge_top(case, one, logits)] == ["bug", "match"]
    logits[0, -1, ids[0, -1, 0]] = np.nan
    assert judge_top(case, one, logits)[0].verdict == "bug"
