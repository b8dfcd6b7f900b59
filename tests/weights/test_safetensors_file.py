import json
import os

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from support.bad_files import BROKEN_SAFETENSORS, entry, safetensors_bytes

from ref.errors import BadInput
from ref.weights.safetensors_file import open_safetensors
from ref.weights.shards import INDEX, SINGLE, open_sharded


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("safetensors") / "a.safetensors"


def open_bytes(path, data):
    path.write_bytes(data)
    return open_safetensors(path)


def refuse_or_load(path, data):
    line = f"{path}: "
    try:
        file = open_bytes(path, data)
        for name in file.names():
            assert file.array(name).shape == file.shape(name)
    except BadInput as refusal:
        line = str(refusal)
    assert line.startswith(f"{path}: ")
    assert len(line.splitlines()) == 1


def sample():
    rng = np.random.default_rng(0)
    wide = rng.standard_normal((3, 5))
    return {
        **{f"f{bits}": wide.astype(f"f{bits // 8}") for bits in (64, 32, 16)},
        **{f"i{bits}": (wide * 50).astype(f"i{bits // 8}") for bits in (64, 32, 16, 8)},
        **{f"u{bits}": abs(wide * 50).astype(f"u{bits // 8}") for bits in (64, 32, 16, 8)},
        "truth": wide > 0,
        "scalar": np.array(3.5),
        "empty": np.zeros((0, 7), np.float32),
    }


def test_it_reads_what_the_safetensors_package_writes(path):
    arrays = sample()
    safetensors.numpy.save_file(arrays, path, metadata={"format": "pt"})
    file = open_safetensors(path)
    assert set(file.names()) == set(arrays)
    for name, array in arrays.items():
        assert file.shape(name) == array.shape
        np.testing.assert_array_equal(file.array(name), array, strict=True)
        assert file.array(name).flags.aligned
        assert not file.array(name).flags.writeable or not array.size
    assert file.type("f16") == "F16"


def test_bfloat16_is_given_as_its_bits(path):
    file = open_bytes(path, safetensors_bytes({"a": entry("BF16", (2, 2))}, np.arange(4, dtype="<u2").tobytes()))
    assert file.type("a") == "BF16"
    np.testing.assert_array_equal(file.array("a"), np.arange(4, dtype=np.uint16).reshape(2, 2), strict=True)


def test_data_that_the_file_does_not_align_is_copied(path):
    for spaces in range(8):
        header = json.dumps({"a": entry()}).encode() + b" " * spaces
        file = open_bytes(path, safetensors_bytes(header, np.float32([1, 2]).tobytes()))
        np.testing.assert_array_equal(file.array("a"), np.float32([1, 2]))
        assert file.array("a").flags.aligned


def test_what_is_no_boolean_and_what_is_not_there_is_refused(path):
    file = open_bytes(path, safetensors_bytes({"a": entry("BOOL", (8,))}, b"\0\1\0\1\0\1\0\2"))
    with pytest.raises(BadInput, match="tensor 'a': wanted BOOL bytes 0 or 1"):
        file.array("a")
    with pytest.raises(BadInput, match="tensor 'z': wanted a tensor of this file"):
        file.array("z")


@pytest.mark.parametrize("name", BROKEN_SAFETENSORS)
def test_broken_files_are_refused_in_one_line(path, name):
    data, says = BROKEN_SAFETENSORS[name]
    with pytest.raises(BadInput, match=says) as caught:
        open_bytes(path, data)
    assert str(caught.value).startswith(f"{path}: ")
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < len(str(path)) + 400


SOUND = safetensors_bytes({"__metadata__": {"k": "v"}, "a": entry(), "b": entry("BOOL", (1,), (8, 9))}, bytes(9))


def test_truncation_at_any_byte_is_refused(path):
    refuse_or_load(path, SOUND)
    assert open_bytes(path, SOUND).names() == ["a", "b"]
    for size in range(len(SOUND)):
        with pytest.raises(BadInput):
            open_bytes(path, SOUND[:size])


@given(st.lists(st.tuples(st.integers(0, len(SOUND) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_changed_bytes_load_or_are_refused(path, changes):
    data = bytearray(SOUND)
    for place, value in changes:
        data[place] = value
    refuse_or_load(path, bytes(data))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(["dtype", "shape", "data_offsets"]), JSON), JSON)
def test_any_json_in_an_entry_loads_or_is_refused(path, fields, notes):
    refuse_or_load(path, safetensors_bytes({"__metadata__": notes, "a": entry() | fields}))


def test_what_mlx_writes_in_the_place_of_notes_is_read_as_none(path):
    assert open_bytes(path, safetensors_bytes({"__metadata__": None, "a": entry()}, bytes(8))).names() == ["a"]
    for notes in (0, False, "", []):
        with pytest.raises(BadInput, match="__metadata__: wanted an object of strings"):
            open_bytes(path, safetensors_bytes({"__metadata__": notes, "a": entry()}, bytes(8)))


# Folders of shards


def write_shards(folder, places, **shards):
    for name, tensors in shards.items():
        safetensors_path = folder / f"{name}.safetensors"
        safetensors.numpy.save_file({t: np.float32([len(t), ord(t[0])]) for t in tensors}, safetensors_path)
    if places is not None:
        text = places if isinstance(places, str) else json.dumps({"weight_map": places})
        (folder / INDEX).write_text(text)
    return folder


ONE, TWO = "one.safetensors", "two.safetensors"


def test_shards_are_one_mapping(tmp_path):
    write_shards(tmp_path, {"b": TWO, "a": ONE, "c": ONE}, one=["a", "c"], two=["b"])
    files = open_sharded(tmp_path)
    assert files.names() == ["b", "a", "c"]
    np.testing.assert_array_equal(files.array("b"), np.float32([1, ord("b")]))
    assert (files.shape("a"), files.type("a"), files.info("a").dtype) == ((2,), "F32", "F32")
    with pytest.raises(BadInput, match="tensor 'z': wanted a tensor of this folder"):
        files.array("z")


def test_a_single_file_is_read_where_there_is_no_index_and_only_there(tmp_path):
    write_shards(tmp_path, None, model=["a"])
    assert open_sharded(tmp_path).names() == ["a"]
    write_shards(tmp_path, {"b": ONE}, one=["b"])
    assert open_sharded(tmp_path).names() == ["b"]
    (tmp_path / INDEX).unlink()
    (tmp_path / SINGLE).unlink()
    with pytest.raises(BadInput, match=r"wanted model.safetensors.index.json or model.safetensors, got neither"):
        open_sharded(tmp_path)


OUTSIDE = [
    "../one.safetensors",
    "/one.safetensors",
    "sub/one.safetensors",
    "sub/../one.safetensors",
    "C:one.safetensors",
]
OUTSIDE += [
    "sub\\one.safetensors",
    "one\0.safetensors",
    "one.bin",
    "",
    "..",
    "é.safetensors",
    "\ud800.safetensors",
]
OUTSIDE += ["x" * 300 + ".safetensors", "a\nb.safetensors"]


@pytest.mark.parametrize("shard", OUTSIDE)
def test_shard_names_are_plain(tmp_path, shard):
    write_shards(tmp_path, {"a": shard}, one=["a"])
    with pytest.raises(BadInput, match="weight_map: wanted the plain name of") as caught:
        open_sharded(tmp_path)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("places", "says"),
    [
        ({"a": "none.safetensors", "b": TWO}, "none.safetensors missing"),
        ({"a": ONE, "b": ONE}, "tensor 'b': wanted to be in one.safetensors"),
        (
            {"a": ONE, "b": TWO},
            "tensor 'a', which lies in two.safetensors: wanted two.safetensors only, got one",
        ),
        ({"b": TWO}, "tensor 'a', which lies in two.safetensors: .*got no entry in weight_map"),
        ([], "weight_map: wanted an object"),
        ({"a": 3}, "weight_map: wanted an object"),
        ("{}", "weight_map: wanted an object"),
        ("[]", "index: wanted a JSON object"),
        ("{", "index: wanted JSON"),
        ('{"weight_map": {"a": "one.safetensors", "a": "two.safetensors"}}', "got 'a' twice"),
        ("", "wanted content, got 0 bytes"),
    ],
)
def test_an_index_that_contradicts_its_shards_is_refused(tmp_path, places, says):
    write_shards(tmp_path, places, one=["a"], two=["a", "b"])
    with pytest.raises(BadInput, match=says) as caught:
        open_sharded(tmp_path)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.skipif(not hasattr(os, "symlink") or os.name == "nt", reason="links need rights on Windows")
def test_links_may_lead_into_the_blobs_of_their_own_cache_only(tmp_path):
    snapshot, blobs, elsewhere = (tmp_path / name for name in ("m/snapshots/1", "m/blobs", "elsewhere"))
    for folder in (snapshot, blobs, elsewhere):
        folder.mkdir(parents=True)
    for folder in (blobs, elsewhere):
        write_shards(folder, None, model=["a"])
    (snapshot / SINGLE).symlink_to("../../blobs/model.safetensors")
    assert open_sharded(snapshot).names() == ["a"]
    write_shards(snapshot, {"a": ONE})
    (snapshot / ONE).symlink_to(elsewhere / SINGLE)
    with pytest.raises(BadInput, match="link: wanted to stay in its folder"):
        open_sharded(snapshot)
    (snapshot / ONE).unlink()
    (snapshot / ONE).symlink_to(snapshot / ONE)
    with pytest.raises(BadInput, match="link"):
        open_sharded(snapshot)
    (elsewhere / "inner").mkdir()
    (elsewhere / "inner" / SINGLE).symlink_to("../model.safetensors")
    with pytest.raises(BadInput, match="link: wanted to stay in its folder"):
        open_sharded(elsewhere / "inner")
