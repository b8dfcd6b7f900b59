"""Graphs in onnxruntime and OpenVINO: captured whole, on the right axes; mistakes in them are found."""

import json

import ml_dtypes
import numpy as np
import pytest
from support.captures import distance, gemma3_ref, passes_of, truth_with
from support.onnx_captures import IDS, TINY2, changed, exact_gelu_in, needs, needs_export, runtimes

import ref
from ref.capture.common import LeftOut
from ref.capture.onnx import capture
from ref.dump.write import read_dump
from ref.model.taps import tap_group, tap_names

pytestmark = [pytest.mark.witness, needs_export]
ALL = set(tap_names(TINY2.layers))
SCORES = {tap for tap in ALL if tap.endswith(("scores", "probs"))}
WIDE = dict.fromkeys(("compute_dtype", "matmul_activations", "kv_dtype"), "float32") | {"rope_angle": "float32"}


def held(path, weights, folder, runtime, ids=IDS, **more):
    """Capture a graph, and hold every value against the truth; return the only pass."""
    [one] = passes_of(capture(path, ids, folder, runtime=runtime, weights=str(weights), n_threads=1, **more))
    [true] = truth_with(ref.load(str(weights)).params, folder)
    for tap, value in one.items():
        assert value.shape == true[tap].shape, tap
        if tap.endswith("visible"):
            np.testing.assert_array_equal(value, true[tap], err_msg=tap)
        else:
            assert distance(value, true[tap]) < (1e-5 if value.dtype == np.float32 else 0.03), tap
    return one


@runtimes
@pytest.mark.parametrize("count", [1, TINY2.kv_heads, len(IDS)])
def test_every_tap_stands_where_ours_does(exported, weights, tmp_path, runtime, count):
    one = held(exported(), weights, tmp_path / "dump", runtime, IDS[:count])
    assert set(one) == ALL
    assert {value.dtype for tap, value in one.items() if not tap.endswith("visible")} == {np.dtype(np.float32)}
    assert ref.compare(tmp_path / "dump", weights=str(weights))["verdict"] == "match"


@runtimes
def test_a_fused_attention_is_a_node_that_shows_no_scores(exported, weights, tmp_path, runtime):
    path = exported(attention="sdpa", opset=23)
    with pytest.warns(LeftOut) as said:
        one = held(path, weights, tmp_path / "dump", runtime)
    assert set(one) == ALL - SCORES
    assert {warning.message.what for warning in said} == {tap_group(tap) for tap in SCORES}
    assert {warning.message.why for warning in said} == {
        "the graph has one node for the whole attention, which does not show it"
    }
    assert read_dump(tmp_path / "dump")["policy"]["attention_impl"] == "fused"
    assert ref.compare(tmp_path / "dump", weights=str(weights))["verdict"] == "match"


@runtimes
def test_an_attention_that_torch_takes_apart_shows_all(exported, weights, tmp_path, runtime):
    assert set(held(exported(attention="sdpa"), weights, tmp_path / "dump", runtime)) == ALL
    assert ref.compare(tmp_path / "dump", weights=str(weights))["verdict"] == "match"


@runtimes
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_graphs_are_captured_in_their_format(exported, weights, tmp_path, runtime, dtype):
    path = exported(dtype)
    if (runtime, dtype) == ("ort", "bfloat16"):
        with pytest.raises(ref.BadInput, match=r"wanted one that onnxruntime runs, got .*NOT_IMPLEMENTED"):
            capture(path, IDS, tmp_path / "dump", runtime=runtime, weights=str(weights))
        return
    one = held(path, weights, tmp_path / "dump", runtime)
    assert set(one) == ALL
    assert one["text.layer.1.attn.pre_norm"].dtype == (np.float16 if dtype == "float16" else ml_dtypes.bfloat16)
    content = read_dump(tmp_path / "dump")
    assert content["model"]["weights"] == {"name": "toy", "dtype": dtype, "sha256": None}
    assert content["policy"] == WIDE | {"attention_impl": "eager"}  # neither rounds between the nodes
    assert ref.compare(tmp_path / "dump", weights=str(weights))["verdict"] == "match"


def another_base(proto):
    """Turn the heads of local layers with base 20,000."""
    [value] = [one for one in proto.graph.initializer if one.name.endswith("sliding_attention_inv_freq")]
    exponents = np.arange(0, TINY2.head_dim, 2) / TINY2.head_dim
    value.raw_data = (20_000.0**-exponents).astype(np.float32).tobytes()


@runtimes
@pytest.mark.parametrize(
    ("plant", "mutant", "tap"),
    [
        (exact_gelu_in("model.model.layers.1"), "gelu_erf", "text.layer.1.ffn.act"),
        (another_base, "rotary_base", "text.layer.0.attn.q_rope"),
    ],
)
def test_a_mistake_in_a_graph_is_named(exported, weights, tmp_path, runtime, plant, mutant, tap):
    path = changed(exported(), tmp_path, plant)
    capture(path, IDS, tmp_path / "dump", runtime=runtime, weights=str(weights))
    report = ref.compare(tmp_path / "dump", weights=str(weights))
    assert (report["verdict"], report["first"]["tap"]) == ("bug", tap)
    assert report["causes"][0]["mutant"] == mutant


@needs("onnxruntime")
def test_the_command_exports_and_says_what_it_heard(weights, tmp_path, capsys):
    out, graph = tmp_path / "dump", tmp_path / "model.onnx"
    flags = ["--taps", "*.layer.1.*", "--json", "--ids", "5,6,7", "--attention", "eager"]
    assert gemma3_ref("onnx", graph, "--export", f"transformers:{weights}", *flags, "-o", out) == 0
    said = json.loads(capsys.readouterr().out)
    assert set(said["heard"]) == {tap for tap in ALL if tap.startswith("text.layer.1.")}
    assert said["not_heard"] == []
    content = read_dump(out)
    assert content["producer"]["name"] == "onnxruntime"
    assert content["model"]["weights"]["name"] == "toy"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dump", "model.onnx", "model.onnx.data"]
    with pytest.raises(ref.BadInput, match=r"model\.onnx: graph: wanted a new file, .* got something in the way"):
        gemma3_ref("onnx", graph, "--export", f"transformers:{weights}", "--ids", "5", "-o", tmp_path / "other")
