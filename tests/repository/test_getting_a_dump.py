"""docs/getting-a-dump.md: each snippet runs, where what it needs is installed, and its dump is judged."""

import re
import warnings
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest
from support.captures import gemma3_ref
from support.dump_page import PAGE, run_snippet
from support.mlx_models import IDS, needs_mlx
from support.torch_stranger import stranger, tiny

import ref
from ref.capture.adapters import ADAPTERS

if find_spec("torch"):
    import torch


class LogitsOf(torch.nn.Module if find_spec("torch") else object):
    """What is exported: ids in, logits out."""

    def __init__(self, model):
        super().__init__()
        self.m = model.eval()

    def forward(self, ids):
        return self.m(input_ids=ids, use_cache=False).logits


def run(marker, tmp_path, monkeypatch, **names):
    monkeypatch.chdir(tmp_path)
    return run_snippet(marker, "tiny", **names)


def verdict(tmp_path):
    return ref.compare(tmp_path / "dump", weights="tiny")["verdict"]


@pytest.mark.witness
def test_of_transformers(tmp_path, monkeypatch):
    from ref.capture.transformers import build_from

    run("dump of transformers", tmp_path, monkeypatch, model=build_from(tiny()), ids=IDS)
    assert verdict(tmp_path) == "match"


@pytest.mark.witness
def test_of_a_module_its_draft_and_compiled(tmp_path, monkeypatch, capsys):
    model = stranger()
    names = run("dump of a module", tmp_path, monkeypatch, model=model, ids=IDS)
    assert verdict(tmp_path) == "match"
    (tmp_path / "a").mkdir()
    given = {"model": model, "ids": IDS, "table": names["table"]}
    run("dump of a module step by step", tmp_path / "a", monkeypatch, **given)
    assert verdict(tmp_path / "a") == "match"
    run("draft of a module", tmp_path, monkeypatch, model=model, ids=IDS)
    shown = PAGE.split("It prints\n\n```\n")[1].split("```")[0].splitlines()
    assert set(shown) < set(capsys.readouterr().out.splitlines())
    (tmp_path / "b").mkdir()
    # inductor itself takes minutes: tests/capture/with_module/test_module_graphs.py has it
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    given = {"model": model, "ids": IDS, "table": {"last": "text.final_norm"}}
    run("dump of a compiled module", tmp_path / "b", monkeypatch, **given)
    assert verdict(tmp_path / "b") == "match"
    assert names["table"]["stack.{i}"] == [("L.in", "input"), "L.out"]


@pytest.mark.witness
def test_of_an_exported_program(tmp_path, monkeypatch):
    from ref.capture.transformers import build_from

    model = LogitsOf(build_from(tiny()))
    run("dump of an exported program", tmp_path, monkeypatch, model=model, ids=IDS)
    assert verdict(tmp_path) == "match"


@pytest.mark.witness
@pytest.mark.skipif(not find_spec("litgpt"), reason="needs litgpt: pip install litgpt==0.5.13")
def test_of_litgpt(tmp_path, monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from bench.field.of_litgpt import build

        model = build(tiny(), "float32")
    run("dump of litgpt", tmp_path, monkeypatch, model=model, ids=IDS)
    assert verdict(tmp_path) == "match"
    (tmp_path / "a").mkdir()
    run("dump of litgpt with its cache", tmp_path / "a", monkeypatch, model=model, ids=IDS[:5])
    assert verdict(tmp_path / "a") == "match"


@needs_mlx
def test_of_mlx(tmp_path, monkeypatch):
    from ref.capture.mlx.model import build_from

    run("dump of mlx", tmp_path, monkeypatch, model=build_from(tiny()), ids=IDS)
    assert verdict(tmp_path) == "match"


@pytest.mark.skipif(not find_spec("keras_hub"), reason="needs keras-hub")
def test_of_keras(tmp_path, monkeypatch):
    from support.keras_captures import running

    from ref.capture.keras.model import import_keras

    run("dump of keras", tmp_path, monkeypatch, model=running(import_keras()), ids=IDS)
    assert (tmp_path / "dump/dump.json").exists()


@pytest.mark.skipif(not find_spec("gemma"), reason="needs google-deepmind/gemma")
def test_of_gemma(tmp_path, monkeypatch):
    from support.gemma_captures import running

    from ref.capture.gemma.model import import_gemma

    pair = running(import_gemma())
    run("dump of gemma", tmp_path, monkeypatch, model=pair.model, params=pair.params, ids=IDS)
    assert (tmp_path / "dump/dump.json").exists()


def test_every_snippet_is_run_here():
    markers = set(re.findall(r"<!-- ((?:dump|draft) of .+?) -->", PAGE))
    own = Path(__file__).read_text()
    assert {one for one in markers if f'run("{one}"' not in own} == set()
    assert PAGE.count("```python") == len(markers) == 11


def test_every_adapter_has_its_command_on_the_page():
    assert [name for name in ADAPTERS if f"gemma3-ref capture {name} " not in PAGE] == []
    assert gemma3_ref("--list") == 0
