"""Exercises: a right answer passes, a wrong one is told which known mistake it is; ports broken on purpose."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

import ref
from ref import compare
from ref.errors import BadInput
from ref.golden_files.files import golden_root
from ref.measure.floor import LIMIT
from ref.mutants import tap_mutants
from ref.ops.norm import rms_norm
from ref.testing import break_port, break_port_blindly, check_like, check_op, exercise

IDS = [20 + i % 70 for i in range(19)]


def without_one(x, scale, eps):
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * scale


def test_the_definition_is_a_right_answer():
    check_op(rms_norm, "rms_norm")


def test_a_wrong_answer_is_told_its_vector_and_which_mistake_it_is():
    with pytest.raises(AssertionError) as refused:
        check_op(without_one, "rms_norm")
    said = str(refused.value)
    assert "as norm_without_plus_one: " in said
    assert "norm_plus_one_twice" not in said
    row = next(row for row in vectors("rms_norm") if row["comment"] in said and row["result"] == "must")
    assert f"eps = {row['inputs']['eps']}" in said


def test_an_answer_that_is_no_known_mistake_is_just_wrong():
    with pytest.raises(AssertionError) as refused:
        check_op(lambda x, scale, eps: x, "rms_norm")
    assert "\nas " not in str(refused.value)


def vectors(op):
    return json.loads((golden_root() / f"vectors/{op}.json").read_text())["vectors"]


@pytest.mark.parametrize("op", ["rope", "geglu", "softmax", "sampling", "layer_norm", "gqa_attention", "embed_scale"])
def test_each_known_mistake_is_named(op):
    """A function that knows the right answers but makes one mistake on the inputs that show it."""
    rows = vectors(op)
    right = {json.dumps(row["inputs"]): row["expected"] for row in rows if row["result"] == "must"}
    for row in rows:
        if row["result"] == "must":
            continue

        def answer(row=row, **inputs):
            key = json.dumps({name: np.asarray(x).tolist() for name, x in inputs.items()})
            same = {json.dumps({n: np.asarray(x, float).tolist() for n, x in json.loads(k).items()}): k for k in right}
            found = same[json.dumps({n: np.asarray(x, float).tolist() for n, x in json.loads(key).items()})]
            return row["expected"] if found == json.dumps(row["inputs"]) else right[found]

        with pytest.raises(AssertionError) as refused:
            check_op(answer, op)
        for flag in row["flags"]:
            assert f"as {flag}: " in str(refused.value)


@pytest.mark.parametrize("answer", [None, "text", [[1.0, 2.0], [3.0]]])
def test_an_answer_that_is_no_array_is_wrong_like_another(answer):
    with pytest.raises(AssertionError, match="got "):
        check_op(lambda **inputs: answer, "rms_norm")


def test_only_the_arguments_that_an_answer_names_are_given():
    check_op(lambda **inputs: rms_norm(inputs["x"], inputs["scale"], inputs["eps"]), "rms_norm")
    with pytest.raises(AssertionError, match="wanted"):
        check_op(lambda x: x, "rms_norm")


def by_place(x, scale, eps, /):
    return rms_norm(x, scale, eps)


@pytest.mark.parametrize(
    ("answer", "got"),
    [(lambda x, weight, eps=1e-6: x, "weight"), (by_place, "x"), (lambda x, *, gain: x, "gain")],
)
def test_parameters_must_have_the_names_that_they_are_given_by(answer, got):
    want = r"some of x, scale, eps, by which it is called \(by keyword, never by place\)"
    with pytest.raises(BadInput, match=f"check_op: parameter of fn: wanted {want}, got {got}$"):
        check_op(answer, "rms_norm")


def test_a_function_that_does_not_tell_its_parameters_is_refused():
    with pytest.raises(BadInput, match="check_op: fn: wanted a function whose parameters can be read"):
        check_op(max, "rms_norm")


def test_an_unknown_operation_is_refused_with_those_there_are():
    with pytest.raises(BadInput, match=r"check_op: op: wanted one of .*rms_norm.*, got rmsnorm"):
        check_op(rms_norm, "rmsnorm")


@pytest.mark.parametrize(
    ("answer", "right", "told"),
    [
        (lambda x: x + 1, lambda x: x + 2, "Of 3\nwanted 5\ngot    4"),
        (lambda x: "a", lambda x: "b", "wanted 'b'\ngot    'a'"),
        (lambda x: np.zeros(2), lambda x: np.zeros(3), "wanted [0., 0., 0.]\ngot    [0., 0.]"),
        (lambda x: np.nan, lambda x: 1.0, "got    nan"),
        (lambda x: None, lambda x: np.zeros(3), "got    None"),
        (lambda x: [[1, 2], [3]], lambda x: np.zeros((2, 2)), "got    [[1, 2], [3]]"),
        (lambda x: ["a", "b"], lambda x: ["a", "c"], "wanted ['a', 'c']\ngot    ['a', 'b']"),
        (lambda x: ("a",), lambda x: ["a"], "got    ('a',)"),
    ],
)
def test_check_like_tells_the_first_case_that_differs(answer, right, told):
    with pytest.raises(AssertionError) as refused:
        check_like(answer, right, [(3,)])
    assert told in str(refused.value)


def test_check_like_passes_what_is_equal():
    check_like(lambda x, y: x * y, lambda x, y: y * x, [(2, 3), (0.5, 7)])
    check_like(lambda x: x * (1 + 1e-9), lambda x: x, [(2.0,)], rtol=1e-8)
    with pytest.raises(AssertionError):
        check_like(lambda x: x * (1 + 1e-7), lambda x: x, [(2.0,)], rtol=1e-8)


def test_an_exercise_prints_in_the_place_of_raising(capsys):
    exercise(check_op, without_one, "rms_norm")
    exercise(check_op, rms_norm, "rms_norm")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Not yet."
    assert lines[-1] == "Right."


def test_an_error_in_an_answer_is_its_own():
    with pytest.raises(ZeroDivisionError):
        exercise(check_op, lambda x, scale, eps: 1 / 0, "rms_norm")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_port_without_a_mistake_matches(tmp_path, dtype):
    assert compare(break_port(tmp_path / "port", ref.load("tiny"), IDS, dtype=dtype).path)["verdict"] == "match"


def test_a_mistake_is_found_in_the_layer_it_was_put_into(tmp_path):
    port = break_port(tmp_path / "port", ref.load("tiny"), IDS, "norm_without_plus_one", layer=3)
    report = compare(port.path)
    assert report["first"]["tap"] == "text.layer.3.attn.pre_norm"
    assert [row["mutant"] for row in report["diagnosis"] if row["verdict"] == "named"] == ["norm_without_plus_one"]


@pytest.mark.parametrize("seed", range(4))
def test_a_blind_mistake_shows_and_is_named_and_not_given_away(tmp_path, seed):
    port = break_port_blindly(tmp_path / "port", ref.load("tiny"), IDS, seed)
    assert port.mistake in tap_mutants()
    assert port.mistake not in repr(port)
    assert port.mistake not in (port.path / "dump.json").read_text()
    report = compare(port.path)
    assert report["verdict"] == "bug"
    assert port.mistake in [row["mutant"] for row in report["diagnosis"] if row["verdict"] in ("named", "tied")]


def test_two_mistakes_of_one_operation_in_different_layers_are_both_there(tmp_path):
    port = break_port(tmp_path / "port", ref.load("tiny"), IDS, "gelu_erf", 1, also=[("ffn_silu", 4)])
    assert (port.mistake, port.layer) == ("gelu_erf", 1)
    report = compare(port.path)
    assert {(row["mutant"], *row["layers"]) for row in report["causes"]} == set(port.planted)
    assert report["proof"]["verdict"] == "explained"


def test_one_blind_mistake_is_the_first_of_two(tmp_path):
    one, two = (break_port_blindly(tmp_path / str(n), ref.load("tiny"), IDS, 3, n) for n in (1, 2))
    assert one.planted == two.planted[:1]
    assert len({mistake for mistake, _ in two.planted}) == 2


@pytest.mark.parametrize("seed", [1, 2, 4])
def test_the_ports_of_notebook_14_are_answered_by_the_local_error_alone(tmp_path, seed):
    port = break_port_blindly(tmp_path / "port", ref.load("tiny"), list(range(3, 27)), seed, mistakes=2)
    report = compare(port.path)
    rows, layers = report["taps"], {layer for _, layer in port.planted}
    right = [row["tap"] for row in rows if row["verdict"] == "bug"]
    by_local, by_inherited = (
        [row["tap"] for row in rows if row[key] > LIMIT] for key in ("local_ratio", "inherited_ratio")
    )
    assert by_local == right
    assert {row["layer"] for row in rows if row["tap"] in right} == layers
    assert by_inherited != right
    first, worst = by_inherited[0], max(rows, key=lambda row: row["inherited_ratio"])
    assert [first] != right  # what is off first tells of one mistake, and of no other
    assert [worst["tap"]] != right
    assert {row["mutant"] for row in report["causes"]} == {mistake for mistake, _ in port.planted}
    assert report["proof"]["verdict"] == "explained"


@pytest.mark.parametrize(
    ("how", "line"),
    [
        ({"mistake": "norm"}, "break_port: no mistake is called norm; near: "),
        ({"mistake": "gelu_erf", "layer": 7}, "layer: wanted 0 .. 6, got 7"),
        (
            {"mistake": "embed_unscaled", "layer": 3},
            "mistake: wanted one of operations in the layers, got embed_unscaled",
        ),
        ({"mistake": "images_scaled"}, "mistake: wanted one of operations in text, got images_scaled"),
        (
            {"mistake": "gelu_erf", "layer": 3, "also": [("ffn_silu", None)]},
            "also: wanted mistakes of different operations, got two that change text.layer.*.ffn.act",
        ),
        ({"also": [("gelu_erf", 7)]}, "layer: wanted 0 .. 6, got 7"),
        ({"dtype": "float16"}, "dtype: wanted float32 or bfloat16, got float16"),
        ({"ids": [5, 200]}, "token id"),
    ],
)
def test_a_port_that_cannot_be_made_is_refused_and_nothing_is_left(tmp_path, how, line):
    with pytest.raises(BadInput, match=line):
        break_port(tmp_path / "port", ref.load("tiny"), **({"ids": IDS} | how))
    assert not list(tmp_path.iterdir())


def test_where_no_mistake_shows_there_is_no_blind_port(tmp_path, monkeypatch):
    monkeypatch.setattr("ref.testing.broken.tap_mutants", lambda: {"none": SimpleNamespace(rules={"text.embed": None})})
    monkeypatch.setattr("ref.testing.broken._rules", lambda *_: {})
    with pytest.raises(BadInput, match="a prompt in which 1 mistake can be seen, got one in which none can"):
        break_port_blindly(tmp_path / "port", ref.load("tiny"), IDS, 0)
    with pytest.raises(BadInput, match="mistakes: wanted 1 or more, got 0"):
        break_port_blindly(tmp_path / "port", ref.load("tiny"), IDS, 0, mistakes=0)
