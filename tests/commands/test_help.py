"""Help: what a command is for, an example that its own parser takes, the exit codes that it can give."""

import argparse
import shlex

import pytest
from support.refusing import refusal

from ref.cli import build_parser
from ref.commands import BUG, REGRESSED, UNDETERMINED
from ref.commands.about import MEANINGS
from ref.errors import nearest


def parsers(parser=None, name=""):
    """List every command and its parser, those with commands of their own included."""
    for action in (parser or build_parser())._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, one in action.choices.items():
                yield f"{name} {word}".strip(), one
                yield from parsers(one, f"{name} {word}".strip())


ALL = dict(parsers())
TRACE = ["trace", "--weights", "tiny", "--ids", "2", "-o", "d"]


def examples(text):
    lines = text[text.index("\nexample") :].splitlines()[2:]
    return [line.strip() for line in lines[: lines.index("")]]


@pytest.mark.parametrize("name", ALL)
def test_help_says_what_it_is_for_then_an_example_then_the_exit_codes(name):
    text = ALL[name].format_help()
    first = text.splitlines()[0]
    assert first == first.strip() != ""
    assert not first.startswith("usage")
    assert len(first) <= 100
    assert text.index("usage: ") < text.index("\nexample") < text.index("\nexit codes:\n")
    for example in examples(text):
        program, *words = shlex.split(example)
        assert program == "gemma3-ref"
        assert " ".join(words).startswith(name)
        build_parser().parse_args(words)


def test_exit_codes_are_those_that_a_command_can_give():
    def codes(name):
        lines = ALL[name].format_help().split("exit codes:\n")[1].splitlines()
        return {int(line.split()[0]) for line in lines}

    judging = {"compare": {BUG, UNDETERMINED, REGRESSED}, "verify": {BUG, UNDETERMINED}, "check-rule": {BUG}}
    judging |= {"golden": {BUG}, "golden check": {BUG}}
    for name in ALL:
        assert codes(name) == {0, 2, 4} | judging.get(name, set())
    assert set(MEANINGS) == {0, 1, 2, 3, 4, 5}


def test_compare_says_it_in_words_that_a_stranger_knows():
    text = ALL["compare"].format_help()
    assert text.startswith("find the first wrong operation of a port")
    weights, machine = text.index("the weights that the dump"), text.index("who does it:")
    assert (
        text.index("  --weights", weights)
        < text.index("the port's arithmetic")
        < machine
        < text.index("  --threads", machine)
    )


@pytest.mark.parametrize(
    ("words", "near"),
    [
        (["compar", "x"], "near: compare"),
        (["compare", "x", "--htlm", "y"], "near: --html"),
        (["verify", "--ops", "kernels"], "near: kernel"),
        (
            ["trace", "--weights", "tiny", "--ids", "2", "-o", "d", "--taps", "text.layer.1.attn.qrope"],
            "near: text.layer.1.attn.q_rope",
        ),
        ([*TRACE, "--taps", "text.layers.1.*"], "near: text.layer.1."),
        (
            ["trace", "--weights", "tiny", "--ids", "2", "-o", "d", "--taps", "text.embed", "--taps", "text.logit"],
            "near: text.logits",
        ),
    ],
)
def test_a_mistake_in_a_flag_names_what_is_near(capsys, tmp_path, monkeypatch, words, near):
    monkeypatch.chdir(tmp_path)
    assert near in refusal(capsys, *words)
    assert list(tmp_path.iterdir()) == []


def test_nearest_names_at_most_three_and_none_where_none_is_like_it():
    assert nearest("gelu", ["gelu_erf", "rope"]) == "gelu_erf"
    assert nearest("zzz", ["gelu_erf", "rope"]) == ""
    assert nearest("aaaa", [f"aaa{i}" for i in range(9)]).count(",") == 2
    assert nearest(None, []) == nearest("x" * 100_000, ["rope"]) == ""
