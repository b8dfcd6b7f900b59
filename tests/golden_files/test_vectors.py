"""Golden vectors: a closed schema; right outputs matched by definition, kernel, oracle, mistakes by none."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from support import naive, naive_images, naive_quant

from ref.ops import DEFINITION, KERNEL
from ref.ops.blocks import Blocks, decode, decode_jit
from ref.ops.codes import decode_sfp8
from ref.ops.pan_and_scan import crop_boxes
from ref.ops.resize import resize_float, resize_float_jit, resize_pillow, resize_pillow_jit
from ref.ops.rope import rope_table
from ref.ops.visibility import as_matrix, visible_ranges
from ref.quant.encode import encode
from ref.quant.sfp8 import sfp8_codes

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
FILES = {path.stem: json.loads(path.read_text()) for path in sorted((GOLDEN / "vectors").glob("*.json"))}
VECTORS = [(document["op"], row) for document in FILES.values() for row in document["vectors"]]
EVERY_FILE = pytest.mark.parametrize("document", FILES.values(), ids=FILES)


def with_result(*results):
    rows = [(op, row) for op, row in VECTORS if row["result"] in results]
    return pytest.mark.parametrize(("op", "row"), rows, ids=[row["id"] for _, row in rows])


def intervals(visible):
    """[T, S] of 0 and 1 -> [1, T, 2]; every right visibility is an interval."""
    first, count = visible.argmax(axis=-1), visible.sum(axis=-1)
    ranges = np.stack([first, first + count], axis=-1)[None]
    np.testing.assert_array_equal(as_matrix(ranges, visible.shape[1])[0], visible.astype(bool))
    return ranges


def starts(prompt, start):
    """[1, T] index of the first token of each query's prompt, the number of pads for a pad."""
    prompt = np.array(prompt)
    first = np.where(prompt < 0, (prompt < 0).sum(), [int(np.argmax(prompt == name)) for name in prompt])
    return first[None, start:]


def run_rope(i, ops, dtype):
    table = rope_table(i["positions"][None].astype(int), i["x"].shape[-1], i["base"], i["factor"], dtype)
    return ops.rotate(i["x"][None, :, None], *table)[0, :, 0]


def run_visibility(i, ops, dtype):
    first = starts(i["prompt"], i["start"])
    return as_matrix(visible_ranges(first, i["start"], i["window"] or None), len(i["prompt"]))[0]


def run_attention(i, ops, dtype):
    visible = intervals(i["visible"].astype(int))
    return ops.attend(i["q"][None], i["k"][None], i["v"][None], visible, i["scale"])[0]


def run_linear(i, ops, dtype):
    alone = ops.linear(i["x"], i["weight"])
    beside = ops.linears(i["x"], (i["weight"][::-1], i["weight"]))
    np.testing.assert_array_equal(beside[1], alone)
    np.testing.assert_array_equal(beside[0], alone[..., ::-1])
    return alone


def run_embed(i, ops, dtype):
    return ops.embed(i["ids"][None].astype(int), i["table"], i["table"].shape[1] ** 0.5, dtype)[0]


def run_resize(i, ops, dtype):
    image, sides = i["image"], (i["height"], i["width"])
    if i["rule"] == "pillow":
        return (resize_pillow if ops is DEFINITION else resize_pillow_jit)(image.astype(np.uint8), *sides)
    return (resize_float if ops is DEFINITION else resize_float_jit)(image, *sides)


def run_pan_and_scan(i, ops, dtype):
    settings = i["min_ratio"], i["min_crop"], i["max_crops"], i["past_edge"] == "clip"
    return crop_boxes(i["height"], i["width"], *settings).tolist()  # one rule, no twin


def run_dequantise(i, ops, dtype):
    scale = i["scale"].astype(np.float32) if i["format"] in ("INT4", "SFP8") else None
    blocks = Blocks(i["codes"].astype(np.uint8), i["format"], scale)
    return (decode if ops is DEFINITION else decode_jit)(blocks)


def run_switching_float(i, ops, dtype):
    x = i["weight"].astype(np.float32)
    return decode(encode(x, "SFP8")) if i["scaled"] else decode_sfp8(sfp8_codes(x))


OURS = {
    "rms_norm": lambda i, ops, dtype: ops.rms_norm(i["x"], i["scale"], i["eps"]),
    "layer_norm": lambda i, ops, dtype: ops.layer_norm(i["x"], i["gain"], i["bias"], i["eps"]),
    "rope": run_rope,
    "visibility": run_visibility,
    "gelu_tanh": lambda i, ops, dtype: ops.gelu(i["x"]),
    "geglu": lambda i, ops, dtype: ops.geglu(i["gate"], i["up"]),
    "softmax": lambda i, ops, dtype: ops.softmax(i["scores"][None, None], i["visible"][None] == 1)[0, 0],
    "gqa_attention": run_attention,
    "embed_scale": run_embed,
    "linear": run_linear,
    "sampling": lambda i, ops, dtype: ops.filtered_probs(i["logits"], i["temperature"], i["top_k"], i["top_p"]),
    "resize": run_resize,
    "pan_and_scan": run_pan_and_scan,
    "quantise": lambda i, ops, dtype: encode(i["weight"].astype(np.float32), i["format"]).data,
    "dequantise": run_dequantise,
    "switching_float": run_switching_float,
}


def ours(op, inputs, ops, dtype):
    """Run one vector through `ops` in a dtype."""
    arrays = {k: np.array(v, dtype) if isinstance(v, list) else v for k, v in inputs.items()}
    return OURS[op](arrays, ops, dtype)


def naive_rope(i):
    rows = zip(i["x"], i["positions"], strict=True)
    return [naive.rotate(row, position, i["base"], i["factor"]) for row, position in rows]


def naive_visibility(i):
    prompts = [None if name < 0 else name for name in i["prompt"]]
    return naive.visibility(prompts, i["window"] or None)[i["start"] :]


ORACLE = {
    "rms_norm": lambda i: [naive.rms_norm(row, i["scale"], i["eps"]) for row in i["x"]],
    "layer_norm": lambda i: [naive.layer_norm(row, i["gain"], i["bias"], i["eps"]) for row in i["x"]],
    "rope": naive_rope,
    "visibility": naive_visibility,
    "gelu_tanh": lambda i: [naive.gelu_tanh(x) for x in i["x"]],
    "geglu": lambda i: naive.geglu(**i),
    "softmax": lambda i: [naive.softmax(row, seen) for row, seen in zip(*i.values(), strict=True)],
    "gqa_attention": lambda i: naive.attention(i["q"], i["k"], i["v"], i["visible"], i["scale"]),
    "embed_scale": lambda i: naive.embed(**i),
    "linear": lambda i: naive.linear(**i),
    "sampling": lambda i: naive.filtered_probs(**i),
    "resize": lambda i: naive_images.resize(**i),
    "pan_and_scan": lambda i: naive_images.crop_boxes(**i),
    "quantise": lambda i: naive_quant.codes(i["weight"], i["format"]),
    "dequantise": lambda i: naive_quant.values(i["codes"], i["format"], i["scale"]),
    "switching_float": lambda i: [naive_quant.through_sfp8(row, i["scaled"]) for row in i["weight"]],
}


def matches(result, row):
    tolerance = {name: row["tolerance"][name] for name in ("atol", "rtol")}
    return np.shape(result) == np.shape(row["expected"]) and np.allclose(result, row["expected"], **tolerance)


@EVERY_FILE
def test_file_is_valid_and_small_and_its_ids_are_unique(document):
    schema = json.loads((GOLDEN / "schema/vectors.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(document, schema, cls=jsonschema.Draft202012Validator)
    assert FILES[document["op"]] is document
    assert (GOLDEN / f"vectors/{document['op']}.json").stat().st_size <= 100_000
    ids = [row["id"] for row in document["vectors"]]
    assert len(set(ids)) == len(ids)


@EVERY_FILE
def test_every_flag_is_used_and_explained_and_every_source_named(document):
    rows = document["vectors"]
    assert {flag for row in rows for flag in row["flags"]} == set(document["flags"])
    assert {row["source"] for row in rows} == set(document["sources"])
    assert any(document["sources"][row["source"]]["kind"] == "witness" for row in rows if row["result"] == "must")


@EVERY_FILE
def test_every_mistake_stands_beside_the_right_output_for_its_inputs(document):
    right = [row["inputs"] for row in document["vectors"] if row["result"] == "must"]
    for row in document["vectors"]:
        if row["result"] != "must":
            assert row["flags"], row["id"]
            assert row["inputs"] in right, row["id"]


@with_result("must")
@pytest.mark.parametrize("ops", [DEFINITION, KERNEL], ids=["definition", "kernel"])
def test_right_output(op, row, ops):
    assert matches(ours(op, row["inputs"], ops, np.float64), row)


@with_result("must")
@pytest.mark.parametrize("ops", [DEFINITION, KERNEL], ids=["definition", "kernel"])
def test_right_output_in_float32(op, row, ops):
    expected = np.array(row["expected"], np.float64)
    result = ours(op, row["inputs"], ops, np.float32)
    assert np.shape(result) == expected.shape
    assert np.abs(result - expected).max(initial=0) <= 1e-5 * np.abs(expected).max(initial=0)


@with_result("must_not", "may")
@pytest.mark.parametrize("ops", [DEFINITION, KERNEL], ids=["definition", "kernel"])
def test_known_mistake_and_other_convention_are_not_ours(op, row, ops):
    assert not matches(ours(op, row["inputs"], ops, np.float64), row)


@with_result("must", "must_not")
def test_the_oracle_of_the_other_tests_agrees(op, row):
    assert matches(ORACLE[op](row["inputs"]), row) is (row["result"] == "must")


@pytest.mark.witness
def test_the_maker_makes_these_files_again(tmp_path):
    command = [sys.executable, str(GOLDEN / "make/vectors.py"), "--out", str(tmp_path)]
    subprocess.run(command, check=True, timeout=300)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"{op}.json" for op in FILES)
    for op, document in FILES.items():
        again = json.loads((tmp_path / f"{op}.json").read_text())["vectors"]
        for old, new in zip(document["vectors"], again, strict=True):
            assert (new["id"], new["inputs"], new["flags"]) == (old["id"], old["inputs"], old["flags"])
            np.testing.assert_allclose(new["expected"], old["expected"], rtol=1e-12, atol=1e-13)


@pytest.mark.witness
def test_the_maker_leaves_the_old_file_where_the_new_one_is_not_valid(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(GOLDEN / "make"))
    maker = importlib.import_module("vectors")
    path = tmp_path / "linear.json"
    document = FILES["linear"]
    assert maker.write(path, document, [])
    before = path.read_text()
    assert not maker.write(path, {**document, "vectors": []}, [])
    assert path.read_text() == before
    assert sorted(file.name for file in tmp_path.iterdir()) == ["linear.json", "linear.json.rej"]
