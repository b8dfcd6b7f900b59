"""The official-checkpoint path, end to end with the real witness: make goldens from a folder, then judge by them."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ref.cli import main
from ref.verify.golden import golden_root
from ref.weights.export import save_hugging_face
from ref.weights.resolve import load

pytestmark = pytest.mark.witness


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """A bfloat16 checkpoint in the official layout, in two shards, and goldens that transformers made of it."""
    place = tmp_path_factory.mktemp("official")
    folder, golden = place / "gemma-3-tiny-pt", place / "golden"
    save_hugging_face(load("synthetic:tiny").params, folder, shards=2)
    shutil.copytree(golden_root() / "schema", golden / "schema")
    make = [sys.executable, "-m", "ref", "golden", "make", "--weights", str(folder), "--out", str(golden)]
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(make, capture_output=True, text=True, cwd=root, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder, golden


@pytest.mark.parametrize("flags", [[], ["--dtype", "float64"], ["--ops", "definition"], ["--held-as", "float32"]])
def test_verify_agrees_with_the_witness_on_an_official_checkpoint(official, flags, capsys):
    folder, golden = official
    code = main(["verify", "--weights", str(folder), "--golden", str(golden), "--json", *flags])
    report = json.loads(capsys.readouterr().out)
    assert (code, report["verdict"]) == (0, "match")
    assert {row["tap"] for row in report["taps"]} >= {"text.embed", "text.layer.*.cache.k", "text.logits (untapped)"}


def test_other_weights_of_the_same_shape_do_not_pass(official, tmp_path, capsys):
    folder, golden = official
    other = tmp_path / folder.name
    save_hugging_face(load("synthetic:tiny:1").params, other)
    assert main(["verify", "--weights", str(other), "--golden", str(golden), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["first"]["tap"] == "text.embed"


def test_the_made_goldens_are_whole(official, capsys):
    assert main(["golden", "check", "--golden", str(official[1])]) == 0
