"""The goldens are whole, small and complete, and the reference matches them: each case, both ops, tapped and not."""

import json
import shutil
from functools import cache

import numpy as np
import pytest
from tiny import BOTH, TINY, params

from ref.cli import main
from ref.errors import BadInput
from ref.model.cache import empty_cache
from ref.model.taps import LAYER_TAPS, Recorder, tap_group, tap_names
from ref.model.text import How, forward
from ref.verify.against_golden import LIMIT, by_group, run_golden
from ref.verify.golden import check_golden, find_cases, golden_root, manifest_of, read_case
from ref.verify.sample import relative_l2, sample_places, take_samples
from ref.verify.suite import AGREEMENT
from ref.weights.resolve import load

ROOT = golden_root()
TINY_CASES = [folder.name for folder in find_cases(ROOT, "tiny")]
REAL_CASES = [folder.name for folder in find_cases(ROOT, "270m")]
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
TAPPED = pytest.mark.parametrize("tapped", [True, False], ids=["tapped", "untapped"])
# Our ring's bookkeeping: no other implementation keeps it. Checked by itself below.
UNWITNESSED = {"text.layer.*.cache.positions"}


@cache
def case_of(weights, name):
    return read_case(next(folder for folder in find_cases(ROOT, weights) if folder.name == name))


def assert_matches(weights, case, ops, dtype, tapped):
    findings = run_golden(weights, case, How(ops=ops, dtype=dtype), tapped)
    worst = max(findings, key=lambda one: one.ratio)
    assert {one.verdict for one in findings} == {"match"}, worst
    assert worst.ratio <= LIMIT
    if dtype == np.float64:
        assert max(one.error for one in findings if one.floor) <= AGREEMENT
    kept = [one for one in case.passes if one.rows]
    expected = sum(len(one.rows) if tapped else 1 for one in kept) + len(kept)  # and an arg-max each
    assert len(findings) == expected


@DTYPES
@TAPPED
@pytest.mark.parametrize("ops", BOTH)
@pytest.mark.parametrize("name", TINY_CASES)
def test_tiny_matches(name, ops, tapped, dtype):
    assert_matches(params(), case_of("tiny", name), BOTH[ops], dtype, tapped)


@pytest.fixture(scope="module")
def real():
    return load("270m").params


@pytest.mark.weights
@TAPPED
@pytest.mark.parametrize("name", ["short", "chat", "scripts"])
def test_270m_matches(real, name, tapped):
    assert_matches(real, case_of("270m", name), BOTH["kernel"], np.float32, tapped)


@pytest.mark.weights
@pytest.mark.parametrize(("name", "dtype"), [("short", np.float64), ("cached", np.float32), ("long", np.float32)])
def test_270m_matches_in_float64_beyond_the_window_and_round_the_ring(real, name, dtype):
    assert_matches(real, case_of("270m", name), BOTH["kernel"], dtype, tapped=name != "long")


def test_there_are_cases_of_both_weights():
    assert TINY_CASES == ["cached", "packed", "padded"]
    assert REAL_CASES == ["cached", "chat", "long", "scripts", "short"]


@pytest.mark.parametrize("weights", ["tiny", "270m"])
def test_every_tap_has_a_witness(weights):
    cases = [case_of(weights, folder.name) for folder in find_cases(ROOT, weights)]
    witnessed = {tap for case in cases for one in case.passes for tap in one.rows}
    layers = {"tiny": 7, "270m": 18}[weights]
    missing = set(tap_names(layers, cached=True)) - witnessed
    assert {tap_group(tap) for tap in missing} <= UNWITNESSED
    assert not witnessed - set(tap_names(layers, cached=True))


def test_positions_in_the_ring_are_the_newest_ones():
    case, cache_of = case_of("tiny", "cached"), empty_cache(TINY, np.zeros(1), 40, np.float32)
    for one in case.passes:
        taps = Recorder("*.cache.positions")
        _, cache_of = forward(params(), one.ids, How(taps=taps), cache_of)
        total = one.cached + one.ids.shape[1]
        for layer in range(TINY.layers):
            slots = min(TINY.window_of(layer) or total, total)
            got = taps.values[f"text.layer.{layer}.cache.positions"]
            np.testing.assert_array_equal(got, [range(total - slots, total)])


def test_floors_are_of_at_least_six_runs_and_truth_is_in_float64():
    for folder in [*find_cases(ROOT, "tiny"), *find_cases(ROOT, "270m")]:
        whole = json.loads((folder / "case.json").read_text())
        assert whole["float32_runs"] >= 6
        assert whole["source"]["name"] == "transformers"
        for one in case_of(folder.relative_to(ROOT).parts[1], folder.name).passes:
            for tap, row in one.rows.items():
                exact = LAYER_TAPS.get(tap.split(".", 3)[-1]) if ".layer." in tap else None
                assert (row["kept"] == "exact") == bool(exact and exact.exact), tap
                assert one.truth[tap].dtype == (np.int64 if row["kept"] == "exact" else np.float64), tap
                assert row["kept"] == "exact" or 0 <= row["floor"] < 1e-4, tap


def test_goldens_are_small():
    sizes = [file["bytes"] for file in manifest_of(ROOT)["files"].values()]
    assert sum(sizes) <= 40e6
    assert max(sizes) <= 10e6


def test_the_goldens_are_whole(capsys):
    assert main(["golden", "check", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"verdict": "match", "problems": []}
    assert main(["golden", "check"]) == 0
    assert capsys.readouterr().out.rstrip().endswith("MB: whole")


@pytest.fixture
def copied(tmp_path):
    """A small copy of the goldens, with a manifest of its own."""
    for part in ("cases/tiny/packed", "schema", "vectors"):
        shutil.copytree(ROOT / part, tmp_path / "golden" / part)
    (tmp_path / "golden" / "MANIFEST.json").write_text(json.dumps(manifest_of(tmp_path / "golden")))
    return tmp_path / "golden"


def problems_of(root, capsys):
    """Return the lines that `golden check` prints of damaged goldens."""
    assert main(["golden", "check", "--golden", str(root)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert main(["golden", "check", "--golden", str(root), "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {"verdict": "bug", "problems": lines}
    return lines


@pytest.mark.parametrize("name", ["cases/tiny/packed/pass00.safetensors", "schema/case.schema.json"])
def test_a_changed_byte_is_found_and_its_file_is_named(copied, capsys, name):
    assert check_golden(copied) == []
    data = bytearray((copied / name).read_bytes())
    place = data.rindex(b" ") if name.endswith("json") else len(data) - 1
    data[place] ^= 0x29  # a space to a tab: still JSON
    (copied / name).write_bytes(data)
    [line] = problems_of(copied, capsys)
    assert line.startswith(f"{name}: changed: wanted ")


def test_missing_and_unlisted_files_are_found(copied, capsys):
    (copied / "vectors" / "linear.json").rename(copied / "vectors" / "linear2.json")
    lines = problems_of(copied, capsys)
    assert [line.split(": ")[:2] for line in lines] == [
        ["vectors/linear.json", "missing"],
        ["vectors/linear2.json", "not in the manifest"],
    ]


def test_a_case_that_breaks_its_schema_is_found_even_if_listed(copied, capsys):
    path = copied / "cases" / "tiny" / "packed" / "case.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"more": 1}))
    (copied / "MANIFEST.json").write_text(json.dumps(manifest_of(copied)))
    [line] = problems_of(copied, capsys)
    assert line.startswith("cases/tiny/packed/case.json: schema: ")
    with pytest.raises(BadInput, match="case.json: wanted format version 1"):
        read_case(path.parent)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"files": 3}'])
def test_a_broken_manifest_is_refused(copied, capsys, content):
    (copied / "MANIFEST.json").write_text(content)
    assert main(["golden", "check", "--golden", str(copied)]) == 2
    assert "MANIFEST.json: wanted a list of the golden files" in capsys.readouterr().err


def test_a_case_whose_tensors_are_damaged_is_refused(copied):
    path = copied / "cases" / "tiny" / "packed" / "pass00.safetensors"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(BadInput, match="pass00.safetensors: file: wanted a safetensors file, got"):
        read_case(path.parent)


def test_a_wrong_tensor_is_a_bug_at_its_tap_alone():
    case = case_of("tiny", "packed")
    [one] = case.passes
    tap = "text.layer.3.ffn.act"
    changed = one._replace(truth=one.truth | {tap: one.truth[tap] * (1 + 1e-5)})
    for tapped in (True, False):
        findings = run_golden(params(), case._replace(passes=[changed]), How(), tapped)
        assert [f.tap for f in findings if f.verdict != "match"] == ([tap] if tapped else [])


def test_samples_are_the_same_places_in_every_language():
    assert sample_places(5).tolist() == [0, 1, 2, 3, 4]
    places = sample_places(10_007, 4)
    assert places.tolist() == [(i * 2_654_435_761 + 97) % 10_007 for i in range(4)]
    value = np.arange(20_000.0).reshape(100, 200)
    np.testing.assert_array_equal(take_samples(value.T), value.T.ravel()[sample_places(20_000)])
    assert len(set(sample_places(262_144).tolist())) == 512


@pytest.mark.parametrize(
    ("value", "truth", "distance"),
    [([3, 4.5], [3, 4], 0.1), ([0], [0], 0), ([1], [0], np.inf), ([np.nan, 1], [1, 1], np.inf), ([], [], 0)],
)
def test_the_distance_from_truth(value, truth, distance):
    assert relative_l2(np.array(value, np.float32), np.array(truth)) == pytest.approx(distance)


def test_groups_tell_the_worst_and_the_first():
    findings = run_golden(params(), case_of("tiny", "packed"), How(), tapped=True)
    bad = [one._replace(verdict="bug", ratio=9.0) if one.tap.endswith("2.mid") else one for one in findings]
    rows = by_group(bad)
    assert [group for group, row in rows.items() if row["verdict"] == "bug"] == ["text.layer.*.mid"]
    row = rows["text.layer.*.mid"]
    assert (row["count"], row["worst"].tap) == (7, "text.layer.2.mid")
    assert row["first"] == (bad.index(row["worst"]), row["worst"])
