"""`check-rule`: programs in several languages, right and wrong."""

import json
import subprocess

import pytest
from support.child_programs import CAUSAL_AWK, CROPS_C, CROPS_PERL, RIGHT, VISIBILITY_JS, check, needs


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("c")
    (folder / "crops.c").write_text(CROPS_C)
    for name, active in (("right", ">="), ("wrong", ">")):
        subprocess.run(["gcc", f"-DACTIVE={active}", folder / "crops.c", "-o", folder / name], check=True)
    return folder


@needs("gcc")
def test_crops_in_c(capsys, compiled, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = check(capsys, "crops", "--exec", str(compiled / "right"), code=0)
    assert said.out == ""
    assert said.err.startswith("crops: all ")
    check(capsys, "crops", "--policy", "gemma_pytorch", "--exec", str(compiled / "right"), code=0)
    out = check(capsys, "crops", "--exec", str(compiled / "wrong"), code=1).out
    assert out.startswith("pan and scan: wrong on ")
    assert "  516 x 430 pixels\n" in out
    assert list(tmp_path.iterdir()) == []  # no folder of Hypothesis is left behind


@needs("gcc")
def test_json_of_a_counterexample(capsys, compiled):
    said = check(capsys, "crops", "--json", "--exec", str(compiled / "wrong"), code=1)
    report = json.loads(said.out)
    assert said.err == ""
    assert report["verdict"] == "bug"
    assert report["case"] == {
        "width": 516, "height": 430, "min_ratio": 1.2, "min_crop": 256, "max_crops": 4, "past_edge": "clip",
    }  # fmt: skip
    assert report["expected"] == [[0, 0, 430, 258], [0, 258, 430, 516]]
    assert report["got"] == []
    assert {"mutant", "diagnosis", "cases", "wrong", "problem"} <= set(report)


@needs("node")
def test_visibility_in_javascript(capsys, tmp_path):
    (tmp_path / "rule.js").write_text(VISIBILITY_JS)
    check(capsys, "visibility", "--exec", "node", str(tmp_path / "rule.js"), code=0)
    report = json.loads(
        check(capsys, "visibility", "--json", "--exec", "node", str(tmp_path / "rule.js"), "1", code=1).out
    )
    assert report["mutant"] == "window_plus_one"
    assert [m["mutant"] for m in report["diagnosis"]] == ["window_plus_one"]
    assert report["case"]["window"] == 2
    assert report["expected"] == [[1, 0, 0], [1, 1, 0], [0, 1, 1]]
    assert report["got"] == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]


@needs("mawk")
def test_a_causal_mask_in_awk(capsys, tmp_path):
    (tmp_path / "rule.awk").write_text(CAUSAL_AWK)
    program = ["--exec", "mawk", "-W", "interactive", "-f", str(tmp_path / "rule.awk")]
    without = [word for name in ("images", "pads", "packed", "local") for word in ("--without", name)]
    said = check(capsys, "visibility", *without, *program, code=0)
    assert said.err.endswith("cases are right; without images, local, packed, pads\n")
    assert "as if: image_causal: " in check(capsys, "visibility", *without[2:], *program, code=1).out
    report = json.loads(check(capsys, "visibility", "--json", *without, *program, code=0).out)
    assert (report["verdict"], report["case"], report["mutant"]) == ("match", None, None)


@needs("perl")
def test_crops_in_perl(capsys, tmp_path):
    (tmp_path / "rule.pl").write_text(CROPS_PERL)
    check(capsys, "crops", "--exec", "perl", str(tmp_path / "rule.pl"), code=0)
    out = check(capsys, "crops", "--policy", "gemma_pytorch", "--exec", "perl", str(tmp_path / "rule.pl"), code=1).out
    assert "wrong on" in out


def test_a_right_child_in_python_and_one_that_says_why_it_fails(capsys, child):
    check(capsys, "crops", "--exec", *child("print(crops(case))", RIGHT), code=0)
    body = 'print(json.dumps({"error": "too wide"} if case["width"] >= 2000 else crops(case)))'
    out = check(capsys, "crops", "--exec", *child(body, RIGHT), code=1).out
    assert "it raised RuleError: too wide" in out
    assert '"width": 20' in out  # shrunk


def test_an_answer_of_another_shape_is_a_wrong_answer(capsys, child):
    report = json.loads(check(capsys, "crops", "--json", "--exec", *child("print([1, 2, 3])"), code=1).out)
    assert report["got"] is None
    assert report["problem"] == "gave shape [3], wanted boxes [n, 4]"
