"""dump.json that says what cannot be, each refused in one line; what it merely leaves out, judged as far as it goes."""

import json

import numpy as np
import pytest
from support.dumps_on_disk import IDS, ROW, VALUE, Q, T, change, refused, written
from support.judged import captured, dumped

import ref
from ref.config import TINY_VISION
from ref.errors import BadInput
from ref.golden_files.sampled import made_pixels
from ref.judge.compare import compare
from ref.testing import assert_matches

__all__ = ["dump"]  # a fixture


@pytest.fixture
def dump(tmp_path):
    return written(tmp_path / "dump", (ROW, {Q: VALUE}))


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"cached": 0.0}, "0.0 is not of type 'integer'"),
        ({"left_pads": 0.0}, "0.0 is not of type 'integer'"),
        ({"left_pads": False}, "False is not of type 'integer'"),
        ({"ids": [5.0, 6, 7, 33, 96, 0, 2]}, "5.0 is not of type 'integer'"),
        ({"image_blocks": [[2.0, 6.0]]}, "is not of type 'integer'"),
        ({"positions": [0, 1, 2, 3, 4, 5, 2**70]}, "is not of type 'integer'"),
        ({"positions": [0, 1, 2, 3, 4, 5, 6.0]}, "6.0 is not of type 'integer'"),
        ({"ids": [2**63, *IDS[1:]]}, "is not of type 'integer'"),
        ({"ids": [10**400, *IDS[1:]]}, "passes[0].ids[0]: 1000"),
        ({"image_blocks": [[0, 2**80]]}, "is not of type 'integer'"),
        ({"pixels": "a\0b"}, "wanted a file in this folder, got 'a\\x00b', embedded null byte"),
        ({"pixels": "x" * 5000}, "File name too long"),
        ({"pixels": ".."}, "wanted a file in this folder, got '..', which leads out of it"),
    ],
)
def test_numbers_and_names_that_are_none_are_refused(dump, fields, line):
    change(dump, **fields)
    assert line in refused(dump)


@pytest.mark.parametrize("shape", [[1.0, T, 12, 10], [1, T, 12, 10**30], [True, T, 12, 10]])
def test_shapes_of_no_integers_are_refused(dump, shape):
    content = json.loads((dump / "dump.json").read_text())
    content["passes"][0]["tensors"][Q]["shape"] = shape
    (dump / "dump.json").write_text(json.dumps(content))
    assert "is not of type 'integer'" in refused(dump)


@pytest.mark.parametrize("value", [10**400, 1e308, -(10**400), "512", True, [1]], ids=range(6))
@pytest.mark.parametrize("field", ["window", "rope_base_local", "rms_eps"])
def test_any_value_of_a_setting_is_another_setting(dump, field, value):
    content = json.loads((dump / "dump.json").read_text())
    content["model"]["config"][field] = value
    (dump / "dump.json").write_text(json.dumps(content))
    report = compare(dump, loaded=ref.load("tiny"))
    assert [line.partition(":")[0] for line in report["settings"]] == [field]


def test_a_number_beyond_all_floats_is_none(dump):
    text = (dump / "dump.json").read_text()
    (dump / "dump.json").write_text(text.replace('"rms_eps": 1e-06', '"rms_eps": 1e999'))
    assert "wanted finite numbers, got 1" in refused(dump)


def test_a_link_to_itself_is_refused(dump):
    file = dump / "pass0000.safetensors"
    file.unlink()
    file.symlink_to(file.name)
    assert "pass0000.safetensors" in refused(dump)
    (dump / "dump.json").unlink()
    (dump / "dump.json").symlink_to("dump.json")
    assert "dump.json: dump: wanted a readable dump.json, got" in refused(dump)


# images whose pixels are not there


def seen(folder, tensors, ids=(2, 97, 97, 97, 97, 5, 6)):
    one = ROW | {"ids": list(ids), "image_blocks": [[1, 5]]}
    config = TINY_CONFIG | {"vision": TINY_VISION._asdict()}
    return written(folder, (one, tensors), config=config)


TINY_CONFIG = ref.load("tiny").params.config._asdict()
SOFT = np.ones((1, 4, 36), np.float32)
MERGED = np.ones((1, T, 36), np.float32)


@pytest.mark.parametrize(
    "tensors",
    [
        {"text.layer.0.attn.visible": np.tril(np.ones((1, T, T), bool))},
        {"text.layer.0.in": MERGED},
        {"vision.soft_tokens": SOFT},
        {"vision.layer.1.attn.q": np.ones((1, 64, 2, 13), np.float32)},
        {"model.merged": MERGED},
        {
            "vision.soft_tokens": SOFT,
            "model.merged": MERGED,
            "text.layer.0.out": MERGED,
            "text.logits": MERGED[..., :97],
        },
        {},
    ],
    ids=lambda tensors: ", ".join(tensors) or "none",
)
def test_images_without_their_pixels_are_undetermined_with_a_reason(tmp_path, tensors):
    if "text.logits" in tensors:
        tensors = tensors | {"text.logits": np.ones((1, T, 97), np.float32)}
    report = compare(seen(tmp_path / "dump", tensors), loaded=ref.load("tiny"))
    verdicts = {row["tap"]: (row["verdict"], row["why"]) for row in report["taps"]}
    assert set(verdicts) == set(tensors)
    for tap, (verdict, why) in verdicts.items():
        if verdict == "undetermined":
            assert why == "the dump does not hold the pixels that went in"
        else:  # made of what the dump holds
            assert tap.endswith("attn.visible") or {"vision.soft_tokens", "model.merged"} <= set(tensors)
    assert report["verdict"] in ("undetermined", "bug")


def test_soft_tokens_of_other_images_than_there_are_places_for_are_refused(tmp_path):
    tensors = {"vision.soft_tokens": np.ones((2, 4, 36), np.float32), "model.merged": MERGED}
    with pytest.raises(BadInput, match=r"vision.soft_tokens.*wanted"):
        compare(seen(tmp_path / "dump", tensors), loaded=ref.load("tiny"))


# through the Python API


@pytest.mark.parametrize(
    "ids", [[1, [2]], [[1, 2], [3]], {"input_ids": [1]}, "1,2", 7, None, [0.5], [2**70], [True], [None], [-1], []]
)
def test_ids_of_any_kind_are_refused_in_one_line(ids, tmp_path):
    arrays = {"text.embed": np.ones((1, 2, 36), np.float32)}
    np.savez(tmp_path / "x.npz", **arrays)
    for run in (compare, assert_matches):
        for given in (arrays, tmp_path / "x.npz"):
            with pytest.raises(BadInput) as error:
                run(given, "tiny", ids=ids)
            assert len(str(error.value).splitlines()) == 1
    if ids is not None:
        with pytest.raises(BadInput):
            compare(dumped(captured(tokens=3)), "tiny", prompt=ids)


def test_shapes_are_held_against_the_weights_that_a_dump_names(tmp_path):
    for tensors in ({"text.embed": np.ones((1, T, 35), np.float32)}, {Q: VALUE[..., :9].copy()}):
        with pytest.raises(BadInput, match="shape of tensor"):
            compare(written(tmp_path / next(iter(tensors)), (ROW, tensors), config={}))


def test_pixels_of_another_number_than_the_blocks_are_refused(tmp_path):
    one = ROW | {"ids": [2, 97, 97, 97, 97, 5, 6], "image_blocks": [[1, 5]]}
    config = TINY_CONFIG | {"vision": TINY_VISION._asdict()}
    folder = written(tmp_path / "dump", (one, {Q: VALUE}), config=config, pixels=made_pixels(2, 40))
    assert "wanted images for 4 soft tokens, 4 each, got 2 images" in refused(folder)
