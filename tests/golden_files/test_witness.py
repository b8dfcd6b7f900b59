"""The official-checkpoint path, end to end with the real witness: make goldens from a folder, then judge by them."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.checkpoints import save_seeing
from support.reports import report_of

from ref.cli import main
from ref.golden_files.files import golden_root
from ref.weights.export import save_hugging_face
from ref.weights.resolve import load

pytestmark = pytest.mark.witness


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """A bfloat16 checkpoint in the official layout, in two shards, and goldens that transformers made of it."""
    place = tmp_path_factory.mktemp("official")
    return make_goldens(place, lambda folder: save_hugging_face(load("synthetic:tiny").params, folder, shards=2))


def make_goldens(place, save):
    """Write a checkpoint and have the witness make goldens of it; return (checkpoint, goldens)."""
    folder, golden = place / "gemma-3-tiny-pt", place / "golden"
    save(folder)
    shutil.copytree(golden_root() / "schema", golden / "schema")
    make = [sys.executable, "-m", "ref", "golden", "make", "--weights", str(folder), "--out", str(golden)]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(make, capture_output=True, text=True, cwd=root, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder, golden


@pytest.mark.parametrize("flags", [[], ["--dtype", "float64"], ["--ops", "definition"], ["--held-as", "float32"]])
def test_verify_agrees_with_the_witness_on_an_official_checkpoint(official, flags, capsys):
    folder, golden = official
    code = main(["verify", "--weights", str(folder), "--golden", str(golden), "--json", *flags])
    report = report_of(capsys.readouterr().out, "verify")
    assert (code, report["verdict"]) == (0, "match")
    assert {row["group"] for row in report["taps"]} >= {"text.embed", "text.layer.*.cache.k", "text.logits (untapped)"}


@pytest.fixture(scope="module")
def seeing(tmp_path_factory):
    """A multimodal checkpoint in the official layout, and goldens of text and images that transformers made of it."""
    place = tmp_path_factory.mktemp("seeing")
    return make_goldens(place, lambda folder: save_seeing(folder, shards=2, style="4.52"))


@pytest.mark.parametrize("flags", [[], ["--dtype", "float64"], ["--held-as", "float32"]])
def test_verify_agrees_with_the_witness_on_a_multimodal_checkpoint(seeing, flags, capsys):
    folder, golden = seeing
    code = main(["verify", "--weights", str(folder), "--golden", str(golden), "--json", *flags])
    report = report_of(capsys.readouterr().out, "verify")
    assert (code, report["verdict"]) == (0, "match")
    taps = {row["group"] for row in report["taps"]}
    assert taps >= {"vision.layer.*.attn.probs", "vision.soft_tokens", "model.merged", "text.layer.*.cache.k"}


def test_other_weights_of_the_same_shape_do_not_pass(official, tmp_path, capsys):
    folder, golden = official
    other = tmp_path / folder.name
    save_hugging_face(load("synthetic:tiny:1").params, other)
    assert main(["verify", "--weights", str(other), "--golden", str(golden), "--json"]) == 1
    assert report_of(capsys.readouterr().out, "verify")["first"]["tap"] == "text.embed"


def test_the_made_goldens_are_whole(official, capsys):
    assert main(["golden", "check", "--golden", str(official[1])]) == 0
