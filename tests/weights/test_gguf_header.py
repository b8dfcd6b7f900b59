"""The header's cursor: strings are passed all at once where they are like pieces, else one by one."""

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ref.errors import BadInput
from ref.weights.gguf_header import Cursor

FILE = Path("file")
PIECES = st.binary(min_size=1, max_size=12).map(lambda piece: piece.replace(b"\0", b"x"))
ODD = st.one_of(
    st.binary(max_size=3), st.sampled_from([b"", b"\0" * 7, b"\0" * 9, b"a" * 255, b"a" * 256, b"a" * 3000])
)


def written(strings: list[bytes]) -> bytes:
    return b"".join(struct.pack("<Q", len(one)) + one for one in strings)


@given(st.lists(st.one_of(PIECES, PIECES, ODD), max_size=40), st.binary(max_size=40), st.booleans())
def test_strings_are_passed_whatever_they_hold(strings, rest, zeros):
    data = b"before" + written(strings)
    cursor = Cursor(data + (bytes(40) if zeros else rest), FILE)
    cursor.at = 6
    cursor.skip_strings(len(strings), "strings")
    assert cursor.at == len(data)


@given(st.lists(PIECES, min_size=1, max_size=9), st.data())
def test_a_length_is_read_whole(strings, data):
    """A byte of a length that is not the lowest makes it long: no string is taken for a short one."""
    at = data.draw(st.integers(0, len(strings) - 1))
    place = len(written(strings[:at])) + data.draw(st.integers(1, 7))
    damaged = bytearray(written(strings))
    damaged[place] = data.draw(st.integers(1, 255))
    with pytest.raises(BadInput, match=r"string|strings"):
        Cursor(bytes(damaged), FILE).skip_strings(len(strings), "strings")


def test_pieces_are_passed_at_once():
    strings = [b"piece%d" % number for number in range(5000)]
    cursor = Cursor(written(strings), FILE)
    assert cursor._skip_pieces(len(strings)) == len(strings) - 1  # nothing follows the last
