"""Small dumps judged: correct ones match, and say how far; a mistake is placed at the tap that it begins at."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from support.reports import checked

import ref
from ref import compare
from ref.dump.sketch import sketch
from ref.dump.sketching import sketching
from ref.dump.trace import trace
from ref.judge.ask import ask
from ref.judge.boundary import part_of
from ref.judge.case import Case
from ref.judge.compare import compare_with_profiles
from ref.judge.lanes import groups_of
from ref.judge.shard import judge_stage
from ref.model.text import How
from ref.ops import KERNEL
from ref.record import Recorder, Sketch
from ref.report.html import render_html
from ref.report.many import row_of
from ref.report.text import render_text
from ref.report.words import verdict_line
from ref.testing.broken import break_port

IDS = [2, *(20 + i * 7 % 70 for i in range(30))]
VALUES = 64
PLANTED = [  # mistake, the layer it is planted in, the tap it begins at
    ("pre_attn_norm_missing", 2, "text.layer.2.attn.pre_norm"),
    ("q_heads_transposed", 3, "text.layer.3.attn.q"),
    ("k_norm_missing", 4, "text.layer.4.attn.k_norm"),
    ("rope_missing", 1, "text.layer.1.attn.q_rope"),
    ("scale_missing", 2, "text.layer.2.attn.scores"),
    ("softmax_with_sink", 5, "text.layer.5.attn.probs"),
    ("keys_as_values", 0, "text.layer.0.attn.mix"),
    ("mix_heads_transposed", 2, "text.layer.2.attn.out"),
    ("attn_residual_missing", 6, "text.layer.6.mid"),
    ("gate_up_swapped", 3, "text.layer.3.ffn.act"),
    ("post_ffn_norm_missing", 1, "text.layer.1.ffn.post_norm"),
    ("ffn_residual_from_in", 2, "text.layer.2.out"),
    ("embed_unscaled", None, "text.embed"),
    ("final_norm_missing", None, "text.final_norm"),
    ("head_scaled", None, "text.logits"),
]


@pytest.fixture(scope="module")
def loaded():
    return ref.load("tiny")


def broken(folder, loaded, mistake, layer=None, dtype="float32", values=VALUES):
    with sketching(values):
        break_port(folder, loaded, IDS, mistake, layer, dtype)
    return folder


def changed(folder, change):
    """Rewrite a dump's only file of tensors."""
    [file] = folder.glob("*.safetensors")
    save_file(change(load_file(file)), file)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_correct_one_matches_and_says_how_far(dtype, loaded, tmp_path):
    report = checked(compare(broken(tmp_path / "dump", loaded, None, dtype=dtype), loaded=loaded))
    assert (report["verdict"], report["first"], report["causes"]) == ("match", None, [])
    alone = [row["tap"] for row in report["taps"] if row["local"] is not None]
    assert {tap.rpartition(".")[2] for tap in alone} == {"visible"}  # whole, and made of nothing
    count = report["compared"]["sketched"]
    assert 0 < count <= len(report["taps"]) - len(alone)
    line = verdict_line(report)
    assert "from the prompt on at most" in line
    assert f"{count} taps known by sketches; {len(alone)} taps on own inputs" in line


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("mistake", "layer", "tap"), PLANTED, ids=[one[0] for one in PLANTED])
def test_a_mistake_is_caught_and_placed(mistake, layer, tap, dtype, loaded, tmp_path):
    report = checked(compare(broken(tmp_path / "dump", loaded, mistake, layer, dtype), loaded=loaded))
    assert report["verdict"] == "bug"
    assert report["first"] == {"tap": tap, "layer": layer, "pass": 0}
    first = next(row for row in report["taps"] if row["tap"] == tap)
    assert "what lies between is" in first["why"] or tap == "text.embed"
    assert first["local"] is None
    others = [row for row in report["taps"] if row["verdict"] == "undetermined"]
    assert all(row["why"].startswith("follows from text.") for row in others)


def test_what_follows_is_told_of_and_nothing_else(loaded, tmp_path):
    """Queries and keys are wrong beside each other: neither is made from the other."""
    report = compare(broken(tmp_path / "dump", loaded, "rope_missing", 1), loaded=loaded)
    bugs = [row["tap"] for row in report["taps"] if row["verdict"] == "bug"]
    assert bugs == ["text.layer.1.attn.q_rope", "text.layer.1.attn.k_rope"]
    scores = next(row for row in report["taps"] if row["tap"] == "text.layer.1.attn.scores")
    assert scores["why"] == "follows from text.layer.1.attn.q_rope (pass 0), which is wrong before it"
    text = render_text(report)
    assert "follows from" not in text  # one line a group is enough
    assert "follows from" in render_text(report, everything=True)
    assert "a small dump does not tell which mistake" in text


def test_a_wrong_mask_is_named_where_it_is_kept_whole(loaded, tmp_path):
    report = compare(broken(tmp_path / "dump", loaded, "window_minus_one", 2, values=31 * 31), loaded=loaded)
    assert report["compared"]["sketched"] > 100
    assert report["first"]["tap"] == "text.layer.2.attn.visible"
    assert [cause["mutant"] for cause in report["causes"]][:1] == ["window_minus_one"]


def test_next_asks_for_the_taps_around_it_whole(loaded, tmp_path):
    folder = broken(tmp_path / "dump", loaded, "gate_up_swapped", 3)
    content = json.loads((folder / "dump.json").read_text())
    content["producer"] = {"name": "transformers", "version": "5"}
    (folder / "dump.json").write_text(json.dumps(content))
    report = checked(compare(folder, loaded=loaded))
    row = report["next"][0]
    assert row["why"] == (
        "what is wrong at text.layer.3.ffn.act cannot be told from a sketch: capture text.layer.3.ffn.gate, "
        "text.layer.3.ffn.up, text.layer.3.ffn.act whole"
    )
    taps = [f"--taps text.layer.3.ffn.{one}" for one in ("gate", "up", "act")]
    assert row["command"].endswith(f"--like {folder} {' '.join(taps)} -o next-dump")


def test_taps_between_that_the_dump_lacks_are_asked_for_too(loaded, tmp_path):
    with sketching(VALUES):
        break_port(tmp_path / "all", loaded, IDS, "gate_up_swapped", 3)
    content = json.loads((tmp_path / "all" / "dump.json").read_text())
    tensors = content["passes"][0]["tensors"]
    content["passes"][0]["tensors"] = {
        tap: one for tap, one in tensors.items() if ".ffn.g" not in tap and ".up" not in tap
    }
    (tmp_path / "all" / "dump.json").write_text(json.dumps(content))
    report = compare(tmp_path / "all", loaded=loaded)
    why = next(row["why"] for row in report["taps"] if row["tap"] == report["first"]["tap"])
    assert why.endswith("where text.layer.3.ffn.pre_norm matches: what lies between is linear, geglu")
    asked = {f"text.layer.3.ffn.{one}" for one in ("pre_norm", "gate", "up", "act")}
    assert all(tap in report["next"][0]["why"] for tap in asked)


def test_a_step_follows_from_the_prompts_pass(loaded, tmp_path):
    """What is wrong in the keys of the prompt is wrong in what a step looks up."""
    trace(loaded, [IDS], tmp_path / "whole", How(KERNEL, np.float32), ["*"], 1)
    with sketching(16):
        break_port(tmp_path / "first", loaded, IDS, "k_norm_missing", 2)
    sketch(tmp_path / "whole", tmp_path / "dump", values=16)
    content, wrong = (json.loads((tmp_path / name / "dump.json").read_text()) for name in ("dump", "first"))
    tap = "text.layer.2.attn.k_rope"
    content["passes"][0]["tensors"] = {tap: wrong["passes"][0]["tensors"][tap]}
    tensors = content["passes"][1]["tensors"]
    content["passes"][1]["tensors"] = {"text.layer.2.attn.scores": tensors["text.layer.2.attn.scores"]}
    (tmp_path / "dump" / "dump.json").write_text(json.dumps(content))
    (tmp_path / "dump" / "pass0000.safetensors").write_bytes((tmp_path / "first" / "pass0000.safetensors").read_bytes())
    changed_file = tmp_path / "dump" / "pass0001.safetensors"
    save_file({name: x + 1 if x.dtype.kind == "f" else x for name, x in load_file(changed_file).items()}, changed_file)
    report = compare(tmp_path / "dump", loaded=loaded)
    assert report["first"] == {"tap": tap, "layer": 2, "pass": 0}
    assert report["taps"][-1]["why"] == f"follows from {tap} (pass 0), which is wrong before it"


def test_some_layers_are_judged_from_the_prompt_on(loaded, tmp_path):
    """Layers before them are gone through: there is nothing else to compare with."""
    folder = broken(tmp_path / "dump", loaded, "gate_up_swapped", 3)
    report = compare(folder, loaded=loaded, layers="3-4")
    assert report["first"]["tap"] == "text.layer.3.ffn.act"
    assert {row["layer"] for row in report["taps"] if row["tap"] != "text.layer.5.in"} == {3, 4}
    every = {row["tap"]: row["inherited_ratio"] for row in compare(folder, loaded=loaded)["taps"]}
    assert all(row["inherited_ratio"] == every[row["tap"]] for row in report["taps"])
    assert not any("was not measured" in line for line in report["left_out"])


def test_nothing_is_run_on_inputs_that_are_not_there(loaded, tmp_path):
    """What queries see is whole and made of nothing; with one value more, runs on the dump's own inputs go on."""
    break_port(tmp_path / "whole", loaded, IDS)
    small, whole = (ask(tmp_path / name, loaded=loaded) for name in (broken(tmp_path / "dump", loaded, None), "whole"))
    tap = "text.layer.5.mid"
    [one] = small.opened.passes
    more = one._replace(tensors=one.tensors | {tap: whole.opened.passes[0].tensors[tap]})
    for tensors, parts in ((one, {"own"}), (more, {"own", "local", "span"})):
        case = Case(small.question._replace(dump=small.opened._replace(passes=[tensors])), small.family)
        left, made = {}, case.all_runs[0].few
        for stage in case.stages[:3]:
            left = judge_stage(case, stage, left, made).left
            assert {part_of(key) for key in left} == parts
        [group] = groups_of(case, 1)
        assert len(group.lanes) == 1 + (len(made) if parts == {"own"} else 6)


def test_norms_alone_tell(loaded, tmp_path):
    """A factor that the values at the places do not show."""
    folder = broken(tmp_path / "dump", loaded, None)
    changed(folder, lambda x: x | {"text.layer.3.mid.norms": x["text.layer.3.mid.norms"] * np.float32(1.0001)})
    report = compare(folder, loaded=loaded)
    assert report["first"]["tap"] == "text.layer.3.mid"


def test_an_error_that_grows_slowly_may_begin_before(loaded, tmp_path):
    folder = broken(tmp_path / "dump", loaded, None)
    rows = {row["tap"]: row for row in compare(folder, loaded=loaded)["taps"]}
    taps = {"text.layer.3.mid": 3.0, "text.layer.3.ffn.pre_norm": 8.0}  # floors

    def noisy(arrays):
        rng = np.random.default_rng(0)
        more = {
            tap: arrays[tap] * (1 + much * rows[tap]["floor"] * rng.choice([-1, 1], arrays[tap].shape))
            for tap, much in taps.items()
        }
        return arrays | {tap: value.astype(np.float32) for tap, value in more.items()}

    changed(folder, noisy)
    report = compare(folder, loaded=loaded)
    row = next(row for row in report["taps"] if row["tap"] == report["first"]["tap"])
    assert row["tap"] == "text.layer.3.ffn.pre_norm"
    assert row["why"].endswith("what lies between is rms_norm, or before: these are near the limit")


def test_values_that_are_not_finite_are_found_where_no_place_is(loaded, tmp_path):
    break_port(tmp_path / "whole", loaded, IDS)
    tap = "text.layer.3.ffn.gate"

    def spoiled(arrays):
        value = arrays[tap].copy()
        value[0, 17, 5] = np.nan
        return arrays | {tap: value}

    changed(tmp_path / "whole", spoiled)
    report = checked(compare(sketch(tmp_path / "whole", tmp_path / "dump", values=40), loaded=loaded))
    assert report["first"]["tap"] == tap
    row = next(row for row in report["taps"] if row["tap"] == tap)
    assert row["why"].startswith("not finite at token 17")
    assert (row["nonfinite"]["count"], row["nonfinite"]["token"], row["nonfinite"]["channel"]) == (1, 17, 5)


def test_left_pads_count_nothing(loaded, tmp_path):
    """What a port leaves at padding is nobody's business, in values, norms and what is not finite."""
    ids, pads = [0, 0, 0, *IDS[:12]], 3
    break_port(tmp_path / "plain", loaded, IDS[:12])
    [file] = (tmp_path / "plain").glob("*.safetensors")
    arrays = load_file(file)
    with Recorder(tmp_path / "dump", ids, left_pads=pads, weights="tiny", sketch=Sketch(30)) as rec:
        for tap in ("text.embed", "text.layer.0.attn.q", "text.layer.2.mid"):
            rubbish = np.full((1, pads, *arrays[tap].shape[2:]), np.nan, np.float32)
            rec(tap, np.concatenate([rubbish, arrays[tap]], axis=1))
    report = compare(tmp_path / "dump", loaded=loaded)
    assert report["compared"]["sketched"] == 3
    assert report["verdict"] == "match"


def test_bfloat16_stored_as_float32_is_seen(loaded, tmp_path):
    break_port(tmp_path / "whole", loaded, IDS, dtype="bfloat16")
    content = json.loads((tmp_path / "whole" / "dump.json").read_text())
    for entry in content["passes"][0]["tensors"].values():
        entry["dtype"] = entry["dtype"].replace("bfloat16", "float32")
    content["policy"] |= dict.fromkeys(("compute_dtype", "matmul_activations", "kv_dtype"), "float32")
    (tmp_path / "whole" / "dump.json").write_text(json.dumps(content))
    wide = lambda x: x.astype(np.float32) if x.dtype.kind == "V" or x.dtype.name == "bfloat16" else x  # noqa: E731
    changed(tmp_path / "whole", lambda arrays: {name: wide(x) for name, x in arrays.items()})
    report = compare(sketch(tmp_path / "whole", tmp_path / "dump", values=VALUES), loaded=loaded)
    assert report["verdict"] == "match"
    assert any("are bfloat16's" in note for note in report["notes"])


def test_of_many_dumps_its_cells_are_from_the_prompt_on(loaded, tmp_path):
    report = compare(broken(tmp_path / "dump", loaded, "scale_missing", 2), loaded=loaded)
    row = row_of(report, "small")
    by_tap = {one["tap"]: one["inherited_ratio"] for one in report["taps"]}
    assert row.cells[2] == ("bug", by_tap["text.layer.2.attn.scores"], "text.layer.2.attn.scores")
    assert row.cells[1].ratio == max(ratio for tap, ratio in by_tap.items() if tap.startswith("text.layer.1."))
    assert row.worst == max(by_tap.values())


def test_the_page_draws_it(loaded, tmp_path):
    report, profiles = compare_with_profiles(broken(tmp_path / "dump", loaded, "scale_missing", 2), loaded=loaded)
    page = render_html(report, profiles)
    assert "a small dump does not tell which mistake" in page
