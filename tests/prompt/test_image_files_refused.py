"""Image files that are damaged, too large or none are refused in one line."""

import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support.command_line import command
from support.pictures import FILES, RGB, file_of, tiff
from support.refusing import read_or_refused

from ref.errors import BadInput
from ref.prompt import image_file
from ref.prompt.images import read_image

RANDOM = np.random.default_rng(0)


def bomb_header(width, height):
    """A PNG that claims to be so large; its pixels are not there."""
    import struct
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


PLENTY = file_of(RANDOM.integers(0, 256, (64, 64, 3), dtype=np.uint8), "JPEG")
REFUSED = {
    "empty": (b"", "a file that Pillow can read, got no image"),
    "text": (b"not an image", "a file that Pillow can read, got no image"),
    "truncated png": (FILES["rgb png"][:-30], "a whole and sound file"),
    "truncated jpeg": (PLENTY[: len(PLENTY) // 2], "a whole and sound file"),
    "truncated bmp": (FILES["bmp"][:-10], "a whole and sound file"),
    "only a signature": (FILES["rgb png"][:8], "a file that Pillow can read, got no image"),
    "a zero side": (bomb_header(0, 5), "a file that Pillow can read, got no image"),
    "a side over 2^24": (bomb_header(2**24 + 1, 1), "sides of at most 16,777,216 pixels, got 16777217 x 1"),
    "12-bit tiff": (tiff(np.array([[0, 4095]]), 12, 1), "8 or 16 bits a channel, got TIFF of 12 bits"),
    "65 million pixels": (bomb_header(8001, 8001), "at most 64,000,000 pixels, got 8001 x 8001 = 64,016,001"),
    "where Pillow warns": (bomb_header(10_000, 10_000), "at most 64,000,000 pixels, got 10000 x 10000 = 100,000,000"),
    "where Pillow refuses": (bomb_header(50_000, 50_000), "at most 64,000,000 pixels, got Image size"),
    "float pixels": (file_of(np.ones((2, 3), np.float32), "TIFF"), "8 or 16 bits a channel, got mode F"),
    "32-bit pixels": (file_of(np.ones((2, 3), np.int32), "TIFF"), "8 or 16 bits a channel, got mode I"),
    "eps": (file_of(RGB, "EPS"), "pixels, got EPS, a program"),
    "changed byte": (FILES["rgb png"][:60] + b"\xff" + FILES["rgb png"][61:], "a whole and sound file"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_bad_files_are_refused_in_one_line(name, tmp_path):
    data, match = REFUSED[name]
    (tmp_path / "bad.png").write_bytes(data)
    for source, where in ((data, "image"), (tmp_path / "bad.png", str(tmp_path / "bad.png"))):
        with pytest.raises(BadInput) as refused:
            read_image(source)
        assert str(refused.value).startswith(f"{where}: image: wanted ")
        assert match in str(refused.value)
        assert "\n" not in str(refused.value)
        assert "0x" not in str(refused.value)


def test_the_limit_is_looked_at_before_decoding(monkeypatch):
    monkeypatch.setattr(image_file, "MOST_PIXELS", 29)
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(BadInput, match="at most 29 pixels, got 5 x 6 = 30"):
        read_image(FILES["bmp"])


def test_places_that_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, got in (("nothing", "No such file"), (".", "a folder"), ("pipe", "a device or pipe"), ("a\0b", "null")):
        with pytest.raises(BadInput, match=rf"image: wanted a readable file, got .*{got}"):
            read_image(tmp_path / path)
    for source in (None, 3, [1, 2], Image.fromarray(RGB)):
        with pytest.raises(BadInput, match="image: image: wanted a path, bytes or a NumPy array, got "):
            read_image(source)
    with pytest.raises(BadInput, match="wanted an array beside them, got a file"):
        read_image(FILES["bmp"], layout="HWC")
    with pytest.raises(BadInput, match=r"^photo 3: image: wanted"):
        read_image(b"", "photo 3")


@given(data=st.data(), name=st.sampled_from(sorted(FILES)))
def test_damaged_files_are_read_or_refused_in_one_line(data, name):
    content = bytearray(FILES[name])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))]
    with read_or_refused():
        read_image(bytes(content))


def test_what_pillow_logs_of_damaged_files_stays_off_stderr(tmp_path):
    """More samples a pixel than there can be: refused in one line, with nothing of Pillow's before it."""
    content = bytearray(FILES["cmyk tiff"])
    [entry] = [at for at in range(len(content)) if content[at : at + 8] == b"\x15\x01\x03\x00\x01\x00\x00\x00"]
    content[entry + 8 : entry + 10] = b"\x00\x08"
    (tmp_path / "bad.tiff").write_bytes(content)
    done = command("crops", str(tmp_path / "bad.tiff"))
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1, done.stderr
