"""Dumps in a folder, and what they are called."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from ref.dump.find_dumps import dumps_in, is_folder_of_dumps, names_of


def tree(folder, *files):
    for file in files:
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    return folder


def test_a_folder_holds_dumps_that_are_folders_and_files(tmp_path):
    tree(tmp_path, "en/p1/dump.json", "en/p1/pass0.safetensors", "de/p2.npz", "p3.SAFETENSORS", "README.txt", "x.json")
    assert [str(one.relative_to(tmp_path)) for one in dumps_in(tmp_path)] == ["de/p2.npz", "en/p1", "p3.SAFETENSORS"]
    assert tmp_path / "x.json" in dumps_in(tmp_path, [".json"])
    assert is_folder_of_dumps(tmp_path)
    assert not is_folder_of_dumps(tmp_path / "en" / "p1")
    assert not is_folder_of_dumps(Path("no\0name"))


def test_shards_of_weights_are_no_dumps(tmp_path):
    tree(tmp_path, "config.json", "model-00001-of-00002.safetensors", "p1/dump.json")
    assert dumps_in(tmp_path) == [tmp_path / "p1"]


def test_the_ranks_of_one_dump_are_one_dump(tmp_path):
    tree(tmp_path, "a/rank0/dump.json", "a/rank1/dump.json", "b/dump.json")
    for rank in (0, 1):
        (tmp_path / "a" / f"rank{rank}" / "dump.json").write_text('{"parallel": {"tensor": {"rank": 0, "of": 2}}}')
    assert dumps_in(tmp_path) == [tmp_path / "a", tmp_path / "b"]
    assert is_folder_of_dumps(tmp_path)
    assert not is_folder_of_dumps(tmp_path / "a")


def test_links_to_folders_are_not_followed(tmp_path):
    tree(tmp_path, "a/dump.json")
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert dumps_in(tmp_path) == [tmp_path / "a"]


def test_names_are_paths_below_what_is_shared_without_endings():
    assert names_of([Path("today/en/p1"), Path("today/de/p1.npz")]) == ["en/p1", "de/p1"]
    assert names_of([Path("today/p1"), Path("last/../today/p2")]) == ["p1", "p2"]
    assert names_of([Path("today/en/p1.tar")]) == ["p1.tar"]
    assert names_of([Path("today/en/p1")], Path("today")) == ["en/p1"]


def test_what_is_called_alike_is_told_apart():
    assert names_of([Path("p1.npz"), Path("p1.safetensors")]) == ["p1.npz", "p1.safetensors"]
    assert names_of([Path("p1"), Path("p1"), Path("p2"), Path("p1")]) == ["p1", "p1#2", "p2", "p1#3"]


@given(st.lists(st.sampled_from(["a", "b/a", "a.npz", "a.json", "b/a.npz", "c.txt", ".npz"]), min_size=1, max_size=12))
def test_no_two_names_are_alike(paths):
    names = names_of([Path(path) for path in paths])
    assert len(names) == len(paths) == len(set(names))
    assert all(names)
