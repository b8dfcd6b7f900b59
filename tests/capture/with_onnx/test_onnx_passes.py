"""Graphs that are run on more than a prompt: with caches step by step, on rows with left pads, on images."""

from functools import partial

import numpy as np
import pytest
from support.captures import distance, gemma3_ref, passes_of, truth_with
from support.onnx_captures import IDS, TINY2, changed, exact_gelu_in, needs, needs_export, put_before, runtimes

import ref
from ref.capture.onnx import capture, capture_weights
from ref.capture.onnx.forms import with_cache
from ref.capture.onnx.tensors import shaped
from ref.capture.onnx.value import Value
from ref.capture.passes import first_pass, next_pass
from ref.capture.prompts import check_prompt
from ref.capture.transformers import build_from
from ref.dump.write import read_dump
from ref.golden_files.sampled import made_pixels
from ref.model.taps import tap_names

pytestmark = [pytest.mark.witness, needs_export]
SEEING = [3, 4, 97, 97, 97, 97, 5, 6, 97, 97, 97, 97, 7]  # two images of 4 soft tokens
PIXELS = made_pixels(2, 40)


@pytest.fixture(scope="session")
def cached(exported):
    return exported(inputs="cache")


@runtimes
@pytest.mark.filterwarnings("ignore::ref.capture.common.LeftOut")
@pytest.mark.parametrize(("attention", "opset"), [("eager", None), ("sdpa", 23)])
def test_steps_over_caches_that_go_in_and_come_out(exported, weights, tmp_path, runtime, attention, opset):
    path = exported(attention=attention, opset=opset, inputs="cache")
    folder = capture(path, IDS, tmp_path / "dump", runtime=runtime, weights=str(weights), n_threads=1, steps=3)
    passes, truth = passes_of(folder), truth_with(ref.load(str(weights)).params, folder)
    lacks = (".positions",) if attention == "eager" else (".positions", ".scores", ".probs")
    every = {tap for tap in tap_names(TINY2.layers, cached=True) if not tap.endswith(lacks)}
    for one, true in zip(passes, truth, strict=True):
        assert set(one) == every
        for tap, value in one.items():
            assert value.shape == true[tap].shape, tap
            assert tap.endswith("visible") or distance(value, true[tap]) < 1e-5, tap
    assert [one["cached"] for one in read_dump(folder)["passes"]] == [0, 11, 12, 13]
    assert ref.compare(folder, weights=str(weights))["verdict"] == "match"


@runtimes
@pytest.mark.filterwarnings("ignore")
def test_graphs_of_the_older_exporter_which_optimum_uses(weights, tmp_path, runtime):
    import torch

    form, path = with_cache(build_from(ref.load(str(weights)))), tmp_path / "model.onnx"
    free = {name: {1: "tokens"} for name in form.inputs[:3]} | {name: {2: "keys"} for name in form.inputs[3:]}
    how = {"input_names": form.inputs, "output_names": form.outputs, "dynamic_axes": free, "opset_version": 18}
    torch.onnx.export(form.module, form.example, str(path), dynamo=False, **how)
    folder = capture(path, IDS, tmp_path / "dump", runtime=runtime, weights=str(weights), n_threads=1, steps=2)
    assert set(passes_of(folder)[2]) == {
        tap for tap in tap_names(TINY2.layers, cached=True) if not tap.endswith(".positions")
    }
    assert ref.compare(folder, weights=str(weights))["verdict"] == "match"


@runtimes
def test_left_pads_and_prompts_that_each_begin_with_empty_caches(cached, weights, tmp_path, runtime):
    prompts = [[0, 0, 0, *IDS], IDS[:4]]
    how = {"left_pads": [3, 0], "steps": 2, "runtime": runtime, "n_threads": 1}
    folder = capture(cached, prompts, tmp_path / "dump", weights=str(weights), **how)
    assert ref.compare(folder, weights=str(weights))["verdict"] == "match"
    said = read_dump(folder)["passes"]
    assert [(one["cached"], one["left_pads"]) for one in said] == [(0, 3), (14, 3), (15, 3), (0, 0), (4, 0), (5, 0)]
    assert said[0]["positions"][:5] == [-1, -1, -1, 0, 1]


def test_of_a_node_that_shows_every_key_the_newest_are_those_of_the_pass():
    c = TINY2
    prompt = check_prompt(IDS[:4], c)
    at = next_pass(prompt, first_pass(prompt), np.eye(1, 97)[None])
    value = np.random.default_rng(0).random((1, c.kv_heads, 5, c.head_dim), np.float32)
    own = shaped("text.layer.1.attn.k_rope", Value("present", "B K S H"), value, c, None, at)
    np.testing.assert_array_equal(own, value[:, :, 4:].swapaxes(1, 2))


def restarting(proto):
    """Count positions from the first token of each pass."""
    from onnx import helper

    put_before(proto, "position_ids", "Add", 0)
    proto.graph.initializer.append(helper.make_tensor("zero", 7, [1], [0]))
    first = helper.make_node("Gather", ["position_ids", "zero"], ["first_position"], axis=1)
    proto.graph.node.insert(0, first)
    changed_node = next(node for node in proto.graph.node if "position_ids_changed" in node.output)
    changed_node.op_type = "Sub"
    changed_node.input[1] = "first_position"


@runtimes
@pytest.mark.parametrize(
    ("plant", "first", "mutant"),
    [
        (restarting, (1, "text.layer.0.attn.q_rope"), "rope_positions_restart"),
        (
            partial(put_before, name="attention_mask", op="Max", number=1),
            (0, "text.layer.0.attn.visible"),
            "pads_visible",
        ),
    ],
)
def test_a_mistake_of_caches_or_pads_is_named(cached, weights, tmp_path, runtime, plant, first, mutant):
    path = changed(cached, tmp_path, plant)
    how = {"steps": 1, "left_pads": [3], "runtime": runtime, "n_threads": 1}
    folder = capture(path, [0, 0, 0, *IDS], tmp_path / "dump", weights=str(weights), **how)
    report = ref.compare(folder, weights=str(weights))
    assert (report["first"]["pass"], report["first"]["tap"]) == first
    assert report["causes"][0]["mutant"] == mutant


@runtimes
def test_images_are_shown_whole(exported, seeing, tmp_path, runtime):
    how = {"runtime": runtime, "weights": str(seeing), "n_threads": 1}
    folder = capture(exported(inputs="images"), SEEING, tmp_path / "dump", pixel_values=PIXELS, **how)
    [one] = passes_of(folder)
    assert set(one) == set(tap_names(TINY2.layers, vision_layers=2))
    np.testing.assert_array_equal(one["vision.pixels"], PIXELS)
    assert one["vision.soft_tokens"].shape == (2, 4, TINY2.width)
    assert ref.compare(folder, weights=str(seeing))["verdict"] == "match"
    less = capture(exported(inputs="images"), SEEING[:8], tmp_path / "less", pixel_values=PIXELS[:1], **how)
    assert ref.compare(less, weights=str(seeing))["verdict"] == "match"


@runtimes
@pytest.mark.parametrize(
    ("plant", "tap", "mutant"),
    [
        (exact_gelu_in("model.model.vision_tower.encoder.layers.1"), "vision.layer.1.ffn.act", "vision_gelu_erf"),
        (partial(put_before, name="token_type_ids", op="Mul", number=0), "text.layer.0.attn.visible", "image_causal"),
    ],
)
def test_a_mistake_with_images_is_named(exported, seeing, tmp_path, runtime, plant, tap, mutant):
    path = changed(exported(inputs="images"), tmp_path, plant)
    how = {"runtime": runtime, "weights": str(seeing), "n_threads": 1}
    report = ref.compare(capture(path, SEEING, tmp_path / "dump", pixel_values=PIXELS, **how), weights=str(seeing))
    assert (report["first"]["tap"], report["causes"][0]["mutant"]) == (tap, mutant)


@needs("onnxruntime")
def test_the_command_exports_what_is_asked_for(weights, tmp_path):
    out, graph = tmp_path / "dump", tmp_path / "model.onnx"
    flags = ["--export", f"transformers:{weights}", "--ids", "5,6,7", "--max-new-tokens", "2", "--threads", "1"]
    assert gemma3_ref("onnx", graph, *flags, "-o", out) == 0
    assert [one["cached"] for one in read_dump(out)["passes"]] == [0, 3, 4]
    assert ref.compare(out, weights=str(weights))["verdict"] == "match"


class TestRefusals:
    """What a graph has no inputs for: one line, and nothing is left behind."""

    @pytest.mark.parametrize(
        ("inputs", "more", "line"),
        [
            ("ids", {"steps": 1}, "max-new-tokens: wanted 0, or a graph with past_key_values.N.key and .value, and"),
            ("ids", {"left_pads": [2]}, "left pads: wanted none, or a graph with the input attention_mask, got [2]"),
            ("ids", {"left_pads": [2, 2]}, "left_pads: wanted 1, one a prompt, got 2"),
            ("ids", {"precision": "f64"}, "no precision is called f64; there are 2, such as f32, default"),
            ("ids", {"ids": [IDS[:3], IDS], "pixel_values": PIXELS}, "prompt: wanted one beside images, got 2 prompts"),
            ("ids", {"ids": [[IDS]]}, "token ids: wanted prompts of integers [T]"),
            ("ids", {"ids": [1.5]}, "token ids: wanted integers [T] or [B, T], got [1.5]"),
            ("ids", {"ids": []}, "token ids: wanted at least one prompt of at least one, got none"),
            ("ids", {"ids": 5}, "token ids: wanted prompts of integers [T], got [5]"),
            ("ids", {"ids": SEEING, "pixel_values": PIXELS}, "images: wanted a graph with the input pixel_values, got"),
            ("images", {}, "images: wanted at least one: the graph runs its tower in every pass, got none"),
            ("images", {"ids": SEEING, "pixel_values": PIXELS[:, :2]}, "wanted floats [images, 3, 40, 40], got"),
        ],
    )
    def test_of_graphs(self, exported, seeing, tmp_path, inputs, more, line):
        path, how = exported(inputs=inputs), {"ids": IDS, "weights": str(seeing)} | more
        with pytest.raises(ref.BadInput) as error:
            capture(path, out_dir=tmp_path / "dump", **how)
        assert line in str(error.value)
        assert "\n" not in str(error.value)
        assert not (tmp_path / "dump").exists()

    def test_caches_that_do_not_come_out(self, cached, weights, tmp_path):
        def dropped(proto):
            del proto.graph.output[-1]

        with pytest.raises(ref.BadInput, match="max-new-tokens: wanted 0, or a graph with past_key_values"):
            capture(changed(cached, tmp_path, dropped), IDS, tmp_path / "dump", weights=str(weights), steps=1)

    def test_a_graph_of_embedded_tokens(self, exported, seeing, tmp_path):
        def embedded(proto):
            proto.graph.input[0].name = "inputs_embeds"
            put_before(proto, "input_ids", "Add", 0)

        path = changed(exported(), tmp_path, embedded)
        with pytest.raises(ref.BadInput, match="got a graph of the text, whose images another graph puts in"):
            capture(path, SEEING, tmp_path / "dump", weights=str(seeing), pixel_values=PIXELS)

    @pytest.mark.parametrize(
        ("flags", "line"),
        [
            (
                {"steps": 1, "pixels": PIXELS},
                "no left pads: a graph with images is exported without a cache, got images",
            ),
            ({"pixels": PIXELS}, "images: wanted a model with a vision tower, got Gemma3ForCausalLM"),
        ],
    )
    def test_of_exports(self, weights, tmp_path, flags, line):
        how = {"graph": str(tmp_path / "model.onnx"), "export": f"transformers:{weights}"}
        with pytest.raises(ref.BadInput) as error:
            capture_weights(str(weights), [SEEING], tmp_path / "dump", **how, **flags)
        assert line in str(error.value)
        assert list(tmp_path.iterdir()) == []
