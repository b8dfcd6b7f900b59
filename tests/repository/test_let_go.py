"""Memory of a mapped file is handed back, and what is looked at again is the same."""

import mmap
from pathlib import Path

import numpy as np
import pytest

from ref.untrusted import let_go, map_file


def mapped_bytes() -> int:
    rows = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(rows["RssFile"].split()[0])


@pytest.mark.skipif(not Path("/proc/self/status").exists() or not hasattr(mmap, "MADV_DONTNEED"), reason="needs Linux")
def test_pages_of_a_file_are_handed_back(tmp_path):
    values = np.arange(2**22, dtype=np.float32)
    values.tofile(tmp_path / "values")
    view = np.frombuffer(memoryview(map_file(tmp_path / "values")), np.float32).reshape(2, -1)[:, 1:]
    before = mapped_bytes()
    assert view.sum() > 0
    read = mapped_bytes()
    let_go(view)
    assert mapped_bytes() < (before + read) / 2
    np.testing.assert_array_equal(view, values.reshape(2, -1)[:, 1:])


def test_an_array_of_its_own_is_left_alone():
    array = np.ones(3)
    let_go(array)
    let_go(array[::2])
    np.testing.assert_array_equal(array, 1)
