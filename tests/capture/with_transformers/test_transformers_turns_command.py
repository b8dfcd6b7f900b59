"""`capture transformers` with turns, chunks, a prefix, a static cache and rows that are padded."""

import pytest
from support.captures import gemma3_ref, passes_of
from support.transformers_captures import IDS

import ref
from ref import compare
from ref.capture.transformers import capture_weights
from ref.dump.open import open_dump
from ref.dump.write import read_dump
from ref.errors import BadInput

pytestmark = pytest.mark.witness
GIVEN = ("transformers", "--weights", "tiny", "--ids", ",".join(map(str, IDS)))


def judged(folder):
    return compare(folder, loaded=ref.load("tiny"))


def captured(folder, *flags):
    assert gemma3_ref(*GIVEN, *flags, "-o", folder) == 0
    return read_dump(folder)["passes"]


@pytest.mark.parametrize("cache", [(), ("--cache", "static")])
def test_turns_and_chunks(tmp_path, cache):
    passes = captured(tmp_path / "dump", "--turn", "3,4,5", "--turn", "7", "--chunk", 4, *cache)
    assert [one["ids"] for one in passes] == [IDS[:4], IDS[4:8], IDS[8:], [3, 4, 5], [7]]
    assert [one["cached"] for one in passes] == [0, 4, 8, 11, 14]
    assert judged(tmp_path / "dump")["verdict"] == "match"


def test_a_prefix_is_cached_and_not_heard(tmp_path):
    passes = captured(tmp_path / "dump", "--prefix", 6, "--chunk", 4)
    assert [one["ids"] for one in passes] == [IDS[:4], IDS[4:6], IDS[6:10], IDS[10:]]
    assert [bool(one["tensors"]) for one in passes] == [False, False, True, True]
    assert judged(tmp_path / "dump")["verdict"] == "match"


@pytest.mark.parametrize("side", ["left", "right"])
def test_prompts_are_rows_that_are_padded(tmp_path, side):
    prompts = [IDS, IDS[:8]]
    capture_weights("tiny", prompts, tmp_path / "dump", pad=side)
    first, second = open_dump(tmp_path / "dump").passes
    assert (first.ids.tolist(), second.ids.tolist()[-8:]) == tuple(prompts)
    assert second.left_pads == (3 if side == "left" else 0)
    assert passes_of(tmp_path / "dump")[1]["text.embed"].shape[1] == len(IDS)
    assert judged(tmp_path / "dump")["verdict"] == "match"


def test_an_image_goes_with_the_turn_that_it_is_in(tmp_path, pixels):
    ids = [3, 97, 97, 97, 97, 5, 6, 97, 97, 97, 97, 7]
    capture_weights("tiny", [ids], tmp_path / "dump", pixels=pixels[:2].numpy(), chunk=6)
    passes = read_dump(tmp_path / "dump")["passes"]
    assert [one["image_blocks"] for one in passes] == [[[1, 5]], [[7, 11]]]
    with pytest.raises(BadInput, match="whole images in a row"):
        capture_weights("tiny", [ids], tmp_path / "cut", pixels=pixels[:2].numpy(), chunk=4)
    assert not (tmp_path / "cut").exists()


def test_a_cache_on_its_own_is_a_cached_pass(tmp_path):
    [one] = captured(tmp_path / "dump", "--cache", "dynamic")
    assert "text.layer.0.cache.k" in one["tensors"]


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (("--chunk", "0"), "chunk: wanted 1 token or more, got 0"),
        (("--prefix", "11"), "prefix: wanted 1 to 10, of the prompt's 11, got 11"),
        (
            ("--turn", "3", "--max-new-tokens", "2"),
            "max-new-tokens: wanted 0 beside --turn, --chunk",
        ),
        (("--turn", "3", "--pad", "left"), "prompt: wanted one alone beside --turn, --chunk and --prefix"),
        (("--turn", "x"), "token ids: wanted a comma list or a readable file"),
        (("--turn", "97000"), "token id: wanted 0 to"),
    ],
)
def test_what_is_refused(tmp_path, flags, line):
    with pytest.raises(BadInput) as error:
        gemma3_ref(*GIVEN, *flags, "-o", tmp_path / "dump")
    assert line in str(error.value)
    assert not (tmp_path / "dump").exists()
