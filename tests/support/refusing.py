"""What a refusal looks like: one line; and any JSON to provoke one."""

from contextlib import contextmanager

import pytest
from hypothesis import strategies as st

from ref.cli import main
from ref.errors import BadInput

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["linear"]),
    lambda some: (
        st.lists(some, max_size=3)
        | st.dictionaries(st.sampled_from(["rope_type", "factor", "full_attention", "sliding_attention"]), some)
    ),
    max_leaves=5,
)


def damage(data, sound: bytes, end: int) -> bytes:
    """Draw a copy of a file with one to three bytes up to `end` changed; `data` is Hypothesis's."""
    damaged = bytearray(sound)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, end))] = data.draw(st.integers(0, 255))
    return bytes(damaged)


@contextmanager
def read_or_refused():
    """Let a refusal of one line pass; any other exception is a failure."""
    refused = ""
    try:
        yield
    except BadInput as error:
        refused = str(error)
    assert len(refused.splitlines()) <= 1, refused


def refused_by(read, path) -> str:
    """Return the one line, which begins with the path, by which a reader refuses a file."""
    with pytest.raises(BadInput) as error:
        read(path)
    assert len(str(error.value).splitlines()) == 1
    assert str(error.value).startswith(str(path))
    return str(error.value)


def refusal(capsys, *arguments, code=2) -> str:
    """Run a command that must be refused and return its one line."""
    try:
        returned = main(list(arguments))
    except SystemExit as stop:  # argparse
        returned = stop.code
    out, err = capsys.readouterr()
    assert (returned, out) == (code, ""), err
    assert err.startswith("gemma3-ref")
    assert err.endswith("\n")
    assert len(err.splitlines()) == 1, err
    return err
