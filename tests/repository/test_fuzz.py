"""The fuzzer itself: the same inputs from the same seed, a few of every reader, and a reader that fails is found."""

import sys
import time
from random import Random

import pytest
from fuzz import __main__ as fuzzing
from fuzz.mutate import json_bytes, junk, mutate_bytes, mutate_json

from ref.errors import BadInput

VALUE = {"a": [1, 2.5, "x", None, True], "b": {"c": {}, "d": []}}


@pytest.mark.parametrize("name", fuzzing.READERS)
def test_a_few_inputs_of_every_reader_are_read_or_refused(name):
    counts, found = fuzzing.fuzz(name, 11, range(3 if name == "judged" else 12), time.monotonic() + 120)
    assert found == {}
    assert counts["read"] + counts["refused"] == (3 if name == "judged" else 12)


def test_damage_is_drawn_from_the_seed_alone():
    def drawn(seed):
        r = Random(seed)
        return [repr(mutate_json(r, VALUE)) for _ in range(50)] + [mutate_bytes(r, bytes(100)) for _ in range(50)] + [
            json_bytes(r, VALUE), repr(junk(r))]  # fmt: skip

    assert drawn("3 x 7") == drawn("3 x 7") != drawn("3 x 8")
    assert VALUE == {"a": [1, 2.5, "x", None, True], "b": {"c": {}, "d": []}}


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (KeyError("x"), "KeyError at "),
        (MemoryError(), "MemoryError at "),
        (SystemExit(1), "SystemExit at "),
        (BadInput("two\nlines"), "unprintable refusal"),
        (BadInput("\x1b[31m"), "unprintable refusal"),
        (BadInput("x" * 3000), "unprintable refusal"),
    ],
    ids=repr,
)
def test_whatever_is_no_printable_refusal_is_found_with_its_number(monkeypatch, capsys, error, what):
    def reader(place):
        def case(r):
            if r.random() < 0.1:
                raise error

        return case

    monkeypatch.setitem(fuzzing.READERS, "broken", reader)
    monkeypatch.setattr(sys, "argv", ["fuzz", "--reader", "broken", "--seed", "5", "--count", "100"])
    assert fuzzing.main() == 1
    out = capsys.readouterr().out
    assert what in out
    first = out[out.index("--first") :].split()[1]
    monkeypatch.setattr(sys, "argv", ["fuzz", "--reader", "broken", "--seed", "5", "--first", first, "--count", "1"])
    assert fuzzing.main() == 1
    assert "1 inputs, 1 findings" in capsys.readouterr().out


def test_what_waits_is_found(monkeypatch):
    monkeypatch.setattr(fuzzing, "LONGEST", 1)
    monkeypatch.setitem(fuzzing.READERS, "slow", lambda place: lambda r: time.sleep(30))
    fuzzing.signal.signal(fuzzing.signal.SIGALRM, fuzzing._stop)
    _, found = fuzzing.fuzz("slow", 0, range(1), time.monotonic() + 60)
    assert next(iter(found)).startswith("Waits")
