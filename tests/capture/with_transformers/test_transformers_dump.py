"""A dump of transformers holds every tap once, with the values that the model had."""

import json
from importlib.util import find_spec

import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open
from support.captures import passes_of
from support.transformers_captures import IDS, SEEING, assert_same, only_pass, plain, text_only

import ref
from ref.capture.transformers import build_model, capture
from ref.config import SIZES, TINY_VISION
from ref.dump.write import read_dump
from ref.golden_files.against_golden import as_kept, judge
from ref.golden_files.files import golden_root, read_case
from ref.golden_files.sampled import made_pixels
from ref.model.taps import tap_names

pytestmark = pytest.mark.witness
if find_spec("torch") and find_spec("transformers"):
    import torch
    import transformers

TINY = SIZES["tiny"]
DTYPES = {"float32": np.float32, "float16": np.float16, "float64": np.float64, "bfloat16": ml_dtypes.bfloat16}


@pytest.mark.parametrize("steps", [0, 2])
def test_every_tap_of_text_is_there_once(model, tmp_path, steps):
    capture(model, IDS, tmp_path / "dump", steps=steps, weights="tiny")
    content = read_dump(tmp_path / "dump")
    names = [name for name in tap_names(TINY.layers, cached=steps > 0) if not name.endswith("cache.positions")]
    for one in content["passes"]:
        assert sorted(one["tensors"]) == sorted(names)
    assert content["producer"] == {"name": "transformers", "version": transformers.__version__}
    assert content["names"] == "ref"
    assert content["model"]["config"] == json.loads(json.dumps(TINY._asdict()))
    assert content["model"]["weights"] == {"name": "tiny", "dtype": "float32", "sha256": None}
    words = dict.fromkeys(("compute_dtype", "matmul_activations", "kv_dtype", "rope_angle"), "float32")
    words |= {"attention_impl": "eager", "matmul_operands": "float32", "accumulate": "float32", "products": "float32"}
    assert {name: value for name, value in content["policy"].items() if name != "torch"} == words


def test_every_tap_of_images_is_there(tmp_path, pixels):
    capture(build_model("tiny"), SEEING, tmp_path / "dump", pixel_values=pixels[:2])
    content = read_dump(tmp_path / "dump")
    [one] = content["passes"]
    assert sorted(one["tensors"]) == sorted(tap_names(TINY.layers, vision_layers=TINY_VISION.layers))
    assert one["image_blocks"] == [[2, 6], [8, 12]]
    assert content["model"]["config"]["vision"] == json.loads(json.dumps(TINY_VISION._asdict()))
    with safe_open(tmp_path / "dump" / one["pixels"], "np") as file:
        np.testing.assert_array_equal(file.get_tensor("pixels"), pixels[:2].numpy())


@pytest.mark.parametrize("case", ["tiny/padded", "tiny/images", "tiny-long/images"])
def test_every_value_is_the_goldens_to_float32(tmp_path, case):
    golden = read_case(golden_root() / "cases" / case)
    [one] = golden.passes
    see = ref.load(golden.id.partition("/")[0]).vision.config
    seen = {"pixel_values": torch.from_numpy(made_pixels(one.images, see.image))} if one.images else {}
    pads = one.left_pads.tolist()
    capture(build_model(golden.id.partition("/")[0]), one.ids, tmp_path / "dump", left_pads=pads, **seen)
    rows = passes_of(tmp_path / "dump")
    for tap in one.rows:
        value = np.concatenate([tensors[tap] for tensors in rows])
        assert judge(golden, one, tap, as_kept(tap, value, one)).verdict == "match", tap


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_values_are_the_models_own_to_the_bit(tmp_path, dtype, attention):
    model = text_only(dtype, attention)
    seen, hooks = {}, []
    layer = model.model.layers[5]
    for name, module in {"out": layer, "attn.out": layer.self_attn.o_proj, "ffn.act": layer.mlp.act_fn}.items():
        hooks.append(module.register_forward_hook(lambda _m, _a, out, name=name: seen.update({name: out})))
    logits = plain(model)
    for hook in hooks:
        hook.remove()
    values = only_pass(model, tmp_path / "dump")
    assert_same(values["text.logits"], logits)
    assert_same(values["text.layer.5.out"], seen["out"])
    assert_same(values["text.layer.5.attn.out"], seen["attn.out"])
    act = seen["ffn.act"] * torch.from_numpy(values["text.layer.5.ffn.up"].astype(np.float64)).to(seen["ffn.act"].dtype)
    assert_same(values["text.layer.5.ffn.act"], act)
    assert {value.dtype for name, value in values.items() if not name.endswith("visible")} == {np.dtype(DTYPES[dtype])}
    policy = read_dump(tmp_path / "dump")["policy"]
    assert (policy["compute_dtype"], policy["attention_impl"]) == (dtype, attention)
    steps = {f"text.layer.{i}.attn.{name}" for i in range(TINY.layers) for name in ("scores", "probs")}
    assert steps & values.keys() == (set() if attention == "sdpa" else steps)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_scores_are_those_that_eager_attention_had(tmp_path, dtype):
    values = only_pass(text_only(dtype), tmp_path / "dump")
    for i in (0, 5):
        start, stop = values[f"text.layer.{i}.attn.visible"][0].T[..., None]
        seen = (np.arange(len(IDS)) >= start) & (np.arange(len(IDS)) < stop)
        kind = getattr(torch, dtype)
        scores = torch.from_numpy(values[f"text.layer.{i}.attn.scores"].astype(np.float32)).to(kind)
        scores = scores + torch.where(torch.from_numpy(seen), 0.0, torch.finfo(kind).min).to(kind)
        probs = torch.softmax(scores, -1, dtype=torch.float32).to(kind)
        assert_same(values[f"text.layer.{i}.attn.probs"], probs)


@pytest.mark.parametrize("steps", [0, 7])
def test_both_attentions_see_the_same(tmp_path, steps):
    ids = IDS[:3]  # within the window sdpa gets no mask at all
    eager = passes_of(capture(text_only(), ids, tmp_path / "eager", steps=steps))
    sdpa = passes_of(capture(text_only(attention="sdpa"), ids, tmp_path / "sdpa", steps=steps))
    for one, other in zip(eager, sdpa, strict=True):
        for i in range(TINY.layers):
            name = f"text.layer.{i}.attn.visible"
            assert one[name].dtype == np.int64
            np.testing.assert_array_equal(one[name], other[name])
