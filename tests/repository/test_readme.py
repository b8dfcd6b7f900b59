"""Python in README and in the pages of docs/: every block is Python, and those that run in seconds are run."""

import ast
import re
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import ref
from ref.cli import main
from ref.model.taps import Recorder
from ref.model.text import How

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
MOST_WORDS = 1250  # of README: what a newcomer reads; all else is on pages that it links
BLOCKS = [
    code
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    for code in re.findall(r"^```python\n(.*?)^```", path.read_text(), re.M | re.S)
]


def block(marker: str) -> str:
    return re.search(rf"<!-- {marker} -->\n```python\n(.*?)^```", README, re.M | re.S)[1]


def test_readme_is_short():
    assert len(README.split()) <= MOST_WORDS


@pytest.mark.parametrize("code", BLOCKS)
def test_what_a_block_imports_is_there(code):
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom):
            assert [one.name for one in node.names if not hasattr(import_module(node.module), one.name)] == []


@pytest.mark.weights
def test_a_forward_from_python_prints_what_it_says(capsys):
    [code] = [code for code in BLOCKS if "text.layer.5.attn.probs" in code]
    exec(code, {})
    assert f"# {capsys.readouterr().out.split(chr(10))[0]}: B N T S" in code


def my_port(ids):
    """What someone's port may have at hand: a layer's input, queries by head, logits."""
    taps = Recorder("text.layer.0.in", "text.layer.0.attn.q")
    logits, _ = ref.forward(ref.load("270m").params, [ids], How(taps=taps))
    return taps.values["text.layer.0.in"][0], taps.values["text.layer.0.attn.q"][0].transpose(1, 0, 2), logits[0]


def forgets_the_scale(ids):
    x, q, logits = my_port(ids)
    return x / np.float32(640**0.5), q, logits


@pytest.mark.weights
@pytest.mark.parametrize(
    ("port", "code", "verdict"),
    [(my_port, 0, "verdict: match"), (forgets_the_scale, 1, "verdict: bug, first at text.layer.0.in ")],
)
def test_the_ten_lines_of_savez_are_judged(tmp_path, monkeypatch, capsys, port, code, verdict):
    monkeypatch.chdir(tmp_path)
    exec(block("savez example"), {"my_port": port})
    assert main(["compare", "port.npz"]) == code
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(verdict), last


@pytest.mark.weights
def test_the_savez_example_is_of_the_prompt_that_it_names():
    ids = ref.load("270m").tokenizer().encode("The capital of France is")
    assert f"ids = {ids}" in block("savez example")
