"""NumPy archives are read as NumPy reads them; those that claim too much are refused."""

import io
import pickle
import struct
import tracemalloc
import zipfile
from functools import partial

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.luck import WITH_FIXTURES
from support.refusing import damage, read_or_refused, refused_by

from ref.dump.align import values_of
from ref.dump.read_npz import read_npz
from ref.errors import BadInput

refused = partial(refused_by, read_npz)
ARRAYS = {
    "c": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "fortran": np.asfortranarray(np.arange(24.0).reshape(2, 3, 4)),
    "big": np.arange(6, dtype=">f8").reshape(2, 3),
    "half": np.arange(5, dtype=np.float16),
    "int": np.arange(-3, 3, dtype=np.int8),
    "unsigned": np.arange(3, dtype=">u2"),
    "bool": np.array([True, False]),
    "scalar": np.float64(3),
    "empty": np.zeros((3, 0, 2), np.float32),
    "layer_0/attn/q": np.ones(2),
}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_are_read_as_numpy_reads_them(tmp_path, save):
    path = tmp_path / "x.npz"
    save(path, **ARRAYS)
    found = read_npz(path)
    assert list(found) == list(ARRAYS)
    for name, value in np.load(path).items():
        got = found[name].read()
        np.testing.assert_array_equal(got, value)
        assert found[name].shape == value.shape
        kind = "int64" if value.dtype.kind in "iu" else value.dtype.name
        assert (found[name].dtype, got.dtype) == (kind, np.dtype(kind))
        assert got.dtype.isnative


@pytest.mark.filterwarnings("ignore:Custom dtype")  # NumPy says that it writes raw bytes
def test_bfloat16_that_numpy_wrote_as_bytes_is_bfloat16(tmp_path):
    value = np.random.default_rng(1).standard_normal((3, 4)).astype(ml_dtypes.bfloat16)
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "x.npz", a=value)
        one = read_npz(tmp_path / "x.npz")["a"]
        assert (one.dtype, one.read().dtype) == ("bfloat16", np.uint16)
        np.testing.assert_array_equal(values_of(one.read()), value.astype(np.float32))


def test_values_wait_until_they_are_asked_for(tmp_path):
    value = np.random.default_rng(1).standard_normal((4, 2**20)).astype(np.float32)
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "x.npz", a=value, b=value)
        tracemalloc.start()
        found = read_npz(tmp_path / "x.npz")
        opened = tracemalloc.get_traced_memory()[1]
        got = found["a"].read()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert opened < 2**20
        assert peak < value.nbytes + 4 * 2**20  # a stored member is copied where it lies askew
        np.testing.assert_array_equal(got, value)
    assert np.shares_memory(found["a"].read(), got)  # kept, not decompressed again


def member(value, header=None):
    """Return the bytes of a .npy file, with another header if one is given."""
    out = io.BytesIO()
    np.lib.format.write_array(out, np.asanyarray(value))
    data = out.getvalue()
    if header is None:
        return data
    size = struct.unpack("<H", data[8:10])[0]
    text = header.encode().ljust(size - 1) + b"\n"
    return data[:8] + struct.pack("<H", len(text)) + text + data[10 + size :]


def archive(path, *members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, data in members:
            file.writestr(name, data)
    return path


GOOD = member(np.arange(6.0))
HEADER = "{'descr': '<f8', 'fortran_order': False, 'shape': %s}"


@pytest.mark.parametrize(
    ("members", "line"),
    [
        ([("a.npy", pickle.dumps([1]))], "header of member 'a.npy': wanted a .npy header"),
        ([("archive/data.pkl", b"\x80\x02.")], "wanted a NAME.npy, got a pickle, which runs code"),
        ([("a.npy", GOOD), ("notes.txt", b"x")], "member 'notes.txt': wanted a NAME.npy, got another file or folder"),
        ([("folder/", b"")], "member 'folder/': wanted a NAME.npy, got another file or folder"),
        ([(".npy", GOOD)], "member '.npy': wanted a NAME.npy"),
        ([("a.npy", b"")], "header of member 'a.npy'"),
        ([("a.npy", GOOD[:40])], "header of member 'a.npy'"),
        ([("a.npy", GOOD[:-8])], "size of member 'a.npy': wanted 48 bytes of values, as its header says, got 40"),
        ([("a.npy", GOOD + b"\x00")], "size of member 'a.npy': wanted 48 bytes of values"),
        ([("a.npy", member(np.arange(6.0), HEADER % "(7,)"))], "wanted 56 bytes of values"),
        ([("a.npy", member(np.arange(6.0), HEADER % "(-6,)"))], "shape of member 'a.npy'"),
        ([("a.npy", member(np.arange(6.0), HEADER % "(2**62,)"))], "header of member 'a.npy'"),
        ([("a.npy", member(np.arange(6.0), HEADER % f"({2**62},)"))], "shape of member 'a.npy'"),
        ([("a.npy", member(np.arange(6.0), HEADER % "(True,)"))], "shape of member 'a.npy'"),
        (
            [("a.npy", member(np.arange(6.0), "{'descr': '<f8', 'shape': (6,), 'fortran_order': '''"))],
            "header of member 'a.npy'",
        ),
        ([("a.npy", member(np.arange(6.0), HEADER % '(6,), """'))], "header of member 'a.npy'"),
        ([("a.npy", member(np.arange(6.0), HEADER % f"(1{'0' * 5000},)"))], "header of member 'a.npy'"),
        ([("a.npy", member(np.arange(6.0), HEADER % ("(" * 2000)))], "header of member 'a.npy'"),
        ([("a.npy", member(np.arange(6.0), "__import__('os').system('true')"))], "header of member 'a.npy'"),
        ([("a.npy", member(np.arange(6.0) * 1j))], "dtype of member 'a.npy': wanted floats, integers or booleans"),
        ([("a.npy", member(np.array(["x"])))], "dtype of member 'a.npy'"),
        ([("a.npy", member(np.zeros(2, [("x", "f4")])))], "dtype of member 'a.npy'"),
        ([("a.npy", member(np.zeros(2, np.longdouble)))], "dtype of member 'a.npy'"),
        ([("a.npy", GOOD[:6] + b"\x09" + GOOD[7:])], "version of member 'a.npy': wanted 1.0 or 2.0"),
    ],
)
def test_members_that_are_no_arrays_of_numbers_are_refused(tmp_path, members, line):
    assert line in refused(archive(tmp_path / "x.npz", *members))


def test_object_arrays_are_never_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was loaded",))

    np.savez(tmp_path / "x.npz", a=np.array([Trap()], object))
    line = "dtype of member 'a.npy': wanted floats, integers or booleans, got Python objects, which only a pickle holds"
    assert line in refused(tmp_path / "x.npz")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_twice_is_refused(tmp_path):
    line = refused(archive(tmp_path / "x.npz", ("a.npy", GOOD), ("a.npy", GOOD)))
    assert "members: wanted every name once, got 'a.npy' twice" in line


def test_zip_bombs_are_refused_before_anything_is_decompressed(tmp_path):
    path = tmp_path / "x.npz"
    np.savez_compressed(path, a=np.zeros(2**24), b=np.ones(3))
    tracemalloc.start()
    line = refused(path)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
    assert "size of member 'a.npy': wanted at most 200 times its" in line
    assert line.endswith("got 134217856 bytes")
    np.savez_compressed(path, a=np.zeros(2**16))  # half a megabyte of zeros harms nobody
    assert not read_npz(path)["a"].read().any()


def test_many_large_members_are_refused_by_their_sum(tmp_path, monkeypatch):
    monkeypatch.setattr("ref.dump.read_npz.MOST_BYTES", 1000)
    np.savez(tmp_path / "x.npz", a=np.ones(50), b=np.ones(50))
    assert "members: wanted at most 1000 bytes decompressed, got 1056" in refused(tmp_path / "x.npz")
    monkeypatch.setattr("ref.dump.read_npz.MOST_MEMBERS", 1)
    assert "members: wanted at most 1, got 2" in refused(tmp_path / "x.npz")


def edited(path, offset_in_entry, value):
    """Change two bytes of the first member's entry, in its own header and in the directory."""
    data = bytearray(path.read_bytes())
    entry = data.index(b"PK\x01\x02")
    data[entry + offset_in_entry : entry + offset_in_entry + len(value)] = value
    if offset_in_entry < 30:
        data[offset_in_entry - 2 : offset_in_entry - 2 + len(value)] = value
    path.write_bytes(bytes(data))
    return path


def test_encrypted_and_strangely_compressed_members_are_refused(tmp_path):
    path = archive(tmp_path / "x.npz", ("a.npy", GOOD))
    assert "member 'a.npy': wanted no encryption, got an encrypted member" in refused(edited(path, 8, b"\x01\x00"))
    path = archive(tmp_path / "x.npz", ("a.npy", GOOD), compression=zipfile.ZIP_BZIP2)
    assert "compression of member 'a.npy': wanted none or deflate, got 12" in refused(path)


def test_a_size_that_is_a_lie_is_refused(tmp_path):
    path = archive(tmp_path / "x.npz", ("a.npy", member(np.zeros(9999))), compression=zipfile.ZIP_DEFLATED)
    assert "bytes of values, as its header says" in refused(edited(path, 24, struct.pack("<I", 2**20)))
    path = archive(tmp_path / "x.npz", ("a.npy", member(np.arange(9999.0))), compression=zipfile.ZIP_DEFLATED)
    data = bytearray(path.read_bytes())
    data[4000:4010] = bytes(10)
    path.write_bytes(bytes(data))
    one = read_npz(path)["a"]
    with pytest.raises(BadInput, match=r"member 'a\.npy': wanted a whole member"):
        one.read()


def test_archives_cut_anywhere_are_refused(tmp_path):
    whole = archive(tmp_path / "whole.npz", ("a.npy", GOOD)).read_bytes()
    path = tmp_path / "x.npz"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert "wanted a whole .npz file" in refused(path) or length == 0


@settings(suppress_health_check=WITH_FIXTURES, max_examples=300)
@given(data=st.data(), compression=st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
def test_a_damaged_archive_is_read_or_refused(tmp_path, data, compression):
    path = archive(
        tmp_path / "x.npz", ("a.npy", GOOD), ("b.npy", member(np.zeros((3, 4), "f4"))), compression=compression
    )
    sound = path.read_bytes()
    path.write_bytes(damage(data, sound, len(sound) - 1))
    with read_or_refused():
        for one in read_npz(path).values():
            one.read()
