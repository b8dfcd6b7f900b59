"""`assert_matches`, what it says, and the pytest plugin, as a user's test suite sees them."""

import math
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from support.report_causes import PROOF, cause, parameter, unexplained

import ref
from ref.dump.trace import trace
from ref.dump.write import DumpWriter, load_pass, read_dump
from ref.errors import BadInput
from ref.model.text import How
from ref.testing import assert_matches
from ref.testing.matching import describe

IDS = [2, 33, 5, 80, 7, 9, 11, 40, 41]


@pytest.fixture(scope="module")
def dump(tmp_path_factory):
    """A run of ours in float32, which is one valid implementation among others."""
    folder = tmp_path_factory.mktemp("dumps") / "good"
    trace(ref.load("tiny"), [IDS], folder, How(dtype=np.float32), ["*"], 0)
    return folder


@pytest.fixture(scope="module")
def arrays(dump):
    return {name: np.array(value) for name, value in load_pass(dump, read_dump(dump)["passes"][0]).items()}


def test_a_good_dump_passes_and_its_report_is_returned(dump):
    report = assert_matches(dump)  # the dump names its weights
    assert report["verdict"] == "match"
    assert report["coverage"]
    assert assert_matches(str(dump), "tiny")["verdict"] == "match"


def test_arrays_pass(arrays):
    assert assert_matches(arrays, "tiny", ids=IDS)["verdict"] == "match"
    some = {name: value for name, value in arrays.items() if name.startswith("text.layer.3.")}
    assert assert_matches(some, "tiny", ids=np.array(IDS))["verdict"] == "match"


def test_a_planted_bug_is_told_where_and_by_how_much(arrays):
    """The gate and the up projection of one layer exchanged, and all after it as it was."""
    wrong = dict(arrays)
    wrong["text.layer.2.ffn.gate"], wrong["text.layer.2.ffn.up"] = (
        arrays["text.layer.2.ffn.up"],
        arrays["text.layer.2.ffn.gate"],
    )
    with pytest.raises(AssertionError) as caught:
        assert_matches(wrong, "tiny", ids=IDS, err_msg="after the fusion of gate and up")
    lines = str(caught.value).splitlines()
    assert lines[1] == "Not equal to the reference of Gemma 3, by the noise floor of float32"
    assert lines[2] == "after the fusion of gate and up"
    assert lines[3].startswith("First divergence: text.layer.2.ffn.gate in pass 0")
    assert lines[4].startswith("Mismatched taps: ")
    table = [line.split()[0] for line in lines[6:8]]
    assert table == ["text.layer.2.ffn.gate", "text.layer.2.ffn.up"]


def test_a_dump_of_another_run_fails(dump, tmp_path):
    content = read_dump(dump)
    writer = DumpWriter(tmp_path / "wrong", content["model"], content["policy"])
    (one,) = content["passes"]
    tensors = load_pass(dump, one)
    tensors["text.embed"] = tensors["text.embed"] * np.float32(1.001)
    writer.add_pass(tensors, {name: one[name] for name in ("ids", "positions", "cached", "image_blocks", "left_pads")})
    with pytest.raises(AssertionError, match=r"First divergence: text\.embed in pass 0"):
        assert_matches(writer.close())


def test_bad_input_is_no_assertion(arrays, tmp_path):
    with pytest.raises(BadInput, match="assert_matches: ids: wanted token ids beside arrays, got none"):
        assert_matches(arrays)
    with pytest.raises(BadInput):
        assert_matches(tmp_path / "nothing")
    with pytest.raises(BadInput):
        assert_matches(arrays, "no-such-weights", ids=IDS)


# --- the message ----------------------------------------------------------------------------------------------------


def row(tap, verdict="bug", local=3.0, inherited=5.0, **more):
    metrics = {"max_abs": 0.25, "worst_token": 7}
    return {"tap": tap, "layer": None, "pass": 0, "verdict": verdict,
            "local_ratio": local, "inherited_ratio": inherited,
            "metrics": metrics, "nonfinite": None, "why": ""} | more  # fmt: skip


def report(taps, verdict="bug", first=0, **more):
    where = None if first is None else {"tap": taps[first]["tap"], "layer": None, "pass": 0}
    empty = {"causes": [], "proof": None, "fits": [], "decide": "", "policy": {"compute_dtype": "bfloat16"}}
    return {"verdict": verdict, "first": where, "taps": taps} | empty | more


def said(mutant, *taps, **more):
    """Make a cause at some taps of layer 3."""
    row = {"mutant": mutant, "what": f"What {mutant} is.", "seen_in": [], "needs": ""}
    row |= {"coefficient": 1.0, "stderr": 1e-4, "left": 0.5, "verdict": "named"}
    return cause(row, *(f"text.layer.3.{tap}" for tap in taps), **more)


def test_the_message_names_the_first_the_worst_and_the_mistake():
    taps = [
        row("a", "match"),
        row("b", why="scores of 3 keys"),
        *(row(f"c{i}", local=i) for i in range(20)),
        row("d", "match"),
    ]
    scale = parameter("scale", 0.13249, 3e-5, 0.0625)
    causes = [said("window_plus_one", "attn.visible"), said("softmax_scale", "attn.scores", parameters=[scale])]
    assert describe(report(taps, first=1, causes=causes, proof=PROOF), "mine").splitlines() == [
        "",
        "Not equal to the reference of Gemma 3, by the noise floor of bfloat16",
        "mine",
        "First divergence: b in pass 0: 3.00 floors",
        "Mismatched taps: 21 / 23 (91.3%)",
        " tap  pass  local x floor  inherited x floor    max abs  worst token",
        " b       0              3                  5       0.25            7",
        *(f" c{i}     0  {i:13}  {5:17}       0.25            7" for i in range(13, 20)),
        " ... and 13 more",
        "Cause: attn.visible in layer 3: what window_plus_one is (window_plus_one)",
        "Cause: attn.scores in layer 3: what softmax_scale is (softmax_scale, scale 0.13249 +- 3e-05)",
        f"Proof (the model was run with what is named): {PROOF['says']}",
    ]


def test_ties_fits_and_what_would_decide():
    taps = [row("a")]
    text = describe(report(taps, causes=[said("x", "mid", verdict="tied", tied_with=["y"])], decide="a longer prompt"))
    assert text.splitlines()[-2:] == [
        "Cause: mid in layer 3: what x is (one of x, y: this input cannot tell which)",
        "To decide: a longer prompt",
    ]
    fits = [{"kind": "scale", "what": "everything times 1.01", "left": 0.5, "tap": "text.layer.3.mid"}]
    last = describe(report(taps, causes=[unexplained("text.layer.3.mid")], fits=fits)).splitlines()[-1]
    near = "though near it comes: everything times 1.01"
    assert last == f"Cause: mid in layer 3: no mistake that is known here, {near}"


def test_nan_and_missing_numbers_are_said():
    nan = {"count": 3, "token": 5, "channel": 1, "truth": 0.5}
    taps = [row("a", local=None, inherited=None, metrics=None), row("b", local=math.nan, nonfinite=nan)]
    lines = describe(report(taps)).splitlines()
    assert lines[-2].split() == ["a", "0", "-", "-", "-", "-"]
    assert lines[-1].endswith("3 NaN or infinite, first at token 5")


@pytest.mark.parametrize(("verdict", "allowed", "raises"), [
    ("match", False, False), ("undetermined", False, True), ("undetermined", True, False), ("bug", True, True),
])  # fmt: skip
def test_which_verdicts_pass(monkeypatch, verdict, allowed, raises):
    result = report([row("a", verdict)], verdict, None if verdict == "match" else 0, decide="more tokens")
    seen = []
    monkeypatch.setattr("ref.judge.compare.compare", lambda *args, **named: seen.append((args, named)) or result)
    if raises:
        with pytest.raises(AssertionError, match="cannot tell" if verdict == "undetermined" else "Not equal") as caught:
            assert_matches("d.npz", ids=[1], names="gemma", allow_undetermined=allowed, family="bfloat16")
        assert "To decide: more tokens" in str(caught.value)
    else:
        assert assert_matches("d.npz", ids=[1], names="gemma", allow_undetermined=allowed, family="bfloat16") is result
    assert seen == [(("d.npz",), {"weights": "270m", "ids": [1], "names": "gemma", "family": "bfloat16"})]


# --- the plugin -----------------------------------------------------------------------------------------------------

SUITE = """
import json
import numpy as np
import pytest

def test_functions(gemma3_ref):
    def mask(start, keys):
        return np.tril(np.ones((keys, keys), bool))[start:]
    gemma3_ref.check_visibility(mask)
    with pytest.raises(AssertionError, match="pan and scan: wrong on"):
        gemma3_ref.check_pan_and_scan(lambda width, height: [])
    assert callable(gemma3_ref.assert_matches)

def test_vectors(gemma3_ref):
    names = [json.loads(path.read_text())["op"] for path in gemma3_ref.vectors.glob("*.json")]
    assert "rms_norm" in names
    assert (gemma3_ref.golden / "MANIFEST.json").is_file()
"""


def python(*arguments, **env):
    environment = os.environ | env
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment)


def test_the_fixture_in_another_suite(tmp_path):
    (tmp_path / "test_theirs.py").write_text(SUITE)
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    ran = python(
        "-m",
        "pytest",
        "-q",
        "-p",
        "ref.testing.plugin",
        str(tmp_path),
        PYTEST_DISABLE_PLUGIN_AUTOLOAD="1",
        PYTEST_ADDOPTS="",
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "2 passed" in ran.stdout


def test_loading_the_plugin_loads_nothing_heavy():
    heavy = ["numpy", "numba", "hypothesis", "torch", "transformers", "safetensors", "PIL"]
    code = f"import sys, ref.testing.plugin; print([name for name in {heavy} if name in sys.modules])"
    assert python("-c", code).stdout == "[]\n"


def test_the_plugin_is_an_entry_point():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"gemma3_ref": "ref.testing.plugin"}


def test_names_of_the_package():
    import ref.testing

    assert all(callable(getattr(ref.testing, name)) for name in ref.testing._HOMES)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        ref.testing.nothing  # noqa: B018


def test_without_hypothesis_one_line_says_what_to_install(tmp_path):
    (tmp_path / "hypothesis.py").write_text("raise ImportError('none')")
    code = "import ref.testing as t\ntry: t.check_pan_and_scan\nexcept ValueError as e: print(type(e).__name__, e)"
    ran = python("-c", code, PYTHONPATH=str(tmp_path))
    line = 'ref.testing: hypothesis: wanted pip install -e ".[testing]", got not installed'
    assert ran.stdout == f"BadInput {line}\n", ran.stderr
