"""The goldens are whole and small; damage is found; how they are sampled and measured."""

import json
import shutil

import numpy as np
import pytest
from support.tiny import params

from ref.cli import main
from ref.errors import BadInput
from ref.golden_files.against_golden import by_group, run_golden
from ref.golden_files.files import check_golden, golden_root, manifest_of, read_case
from ref.golden_files.sampled import relative_l2, sample_places, take_samples
from ref.model.text import How

ROOT = golden_root()


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
    assert "case.json: wanted what case.schema.json says" in line
    with pytest.raises(BadInput, match=r"case\.json: wanted what case\.schema\.json says"):
        read_case(path.parent)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"files": 3}', '{"format_version": 1, "cases": [], "files": {"a": "b"}}']
)
def test_a_broken_manifest_is_refused(copied, capsys, content):
    (copied / "MANIFEST.json").write_text(content)
    assert main(["golden", "check", "--golden", str(copied)]) == 2
    assert "MANIFEST.json: wanted what manifest.schema.json says" in capsys.readouterr().err


def test_a_case_whose_tensors_are_damaged_is_refused(copied):
    path = copied / "cases" / "tiny" / "packed" / "pass00.safetensors"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(BadInput, match=r"pass00\.safetensors: file: wanted a safetensors file, got"):
        read_case(path.parent)


def test_a_wrong_tensor_is_a_bug_at_its_tap_alone():
    case = read_case(ROOT / "cases" / "tiny" / "packed")
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
    findings = run_golden(params(), read_case(ROOT / "cases" / "tiny" / "packed"), How(), tapped=True)
    bad = [one._replace(verdict="bug", ratio=9.0) if one.tap.endswith("2.mid") else one for one in findings]
    rows = by_group(bad)
    assert [group for group, row in rows.items() if row.verdict == "bug"] == ["text.layer.*.mid"]
    row = rows["text.layer.*.mid"]
    assert (row.count, row.worst.tap) == (7, "text.layer.2.mid")
    assert row.first == (bad.index(row.worst), row.worst)
