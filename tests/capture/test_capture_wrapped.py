"""Compiled, offloaded, adapted and headless models and small configurations are captured, or a line says why not."""

import argparse
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import ref
from ref.capture.common import LeftOut
from ref.capture.transformers import build_from, build_model, capture
from ref.capture.transformers.model import import_transformers
from ref.commands import capture as command
from ref.config import SIZES
from ref.dump.write import load_pass, read_dump
from ref.errors import BadInput
from ref.golden_files.sampled import made_pixels
from ref.judge.compare import compare
from ref.model.taps import tap_names

pytestmark = [
    pytest.mark.witness,
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),  # of peft on transformers 5
    pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning"),
]
if find_spec("torch") and find_spec("transformers"):
    import torch
    import transformers
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
    from transformers.models.gemma3 import modeling_gemma3 as gemma3

TINY = SIZES["tiny"]
IDS = [5, 6, 7, 33, 96, 0, 2, 45, 51, 8, 60]
SEEING = [3, 4, 97, 97, 97, 97, 5, 6, 97, 97, 97, 97, 7]
needs_accelerate = pytest.mark.skipif(not find_spec("accelerate"), reason="needs accelerate")


def text_only(dtype="float32", attention="eager"):
    return build_from(ref.load("tiny")._replace(vision=None), dtype, attention)


def small(**sizes):
    """Build a model of few layers."""
    given = {"vocab_size": 97, "hidden_size": 20, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 6}
    given |= {"num_key_value_heads": 2, "intermediate_size": 28, "sliding_window": 3, "query_pre_attn_scalar": 15}
    torch.manual_seed(0)
    model = transformers.Gemma3ForCausalLM(transformers.Gemma3TextConfig(**given | sizes)).eval()
    with torch.no_grad():
        for value in model.parameters():
            value.copy_(torch.randn(value.shape) * 0.3)
    return model


def passes_of(folder):
    return [load_pass(Path(folder), one) for one in read_dump(Path(folder))["passes"]]


def assert_equal(passes, wanted):
    for values, own in zip(passes, wanted, strict=True):
        assert values.keys() == own.keys()
        for name, value in own.items():
            np.testing.assert_array_equal(values[name], value, err_msg=name)


# Flex attention


def by_flex(lse):
    """Attend as flex_attention on a GPU: beside the mix the logarithms of the sums, [B, N, T]; the mask is a rule."""

    def attend(module, query, key, value, attention_mask, scaling=None, **kwargs):
        flex = torch.nn.attention.flex_attention
        seen = flex.create_mask(attention_mask.mask_mod, len(query), None, query.shape[2], key.shape[2], "cpu")
        scores = query @ gemma3.repeat_kv(key, module.num_key_value_groups).transpose(2, 3) * scaling
        scores = scores.masked_fill(~seen, -torch.inf)
        mix = torch.softmax(scores, -1).nan_to_num() @ gemma3.repeat_kv(value, module.num_key_value_groups)
        return mix.transpose(1, 2).contiguous(), torch.logsumexp(scores, -1) if lse else None

    return attend


@pytest.fixture
def flex(monkeypatch):
    """Make masks of rules without a C++ compiler."""
    masks = import_module("transformers.masking_utils")
    create = masks.create_block_mask
    monkeypatch.setattr(masks, "create_block_mask", lambda **given: create(**given | {"_compile": False}))


@pytest.mark.parametrize("lse", [True, False])
@pytest.mark.parametrize("tokens", [1, TINY.kv_heads, TINY.query_heads, 8])
def test_flex_attention_shows_what_it_sees_and_no_probabilities(tmp_path, flex, monkeypatch, tokens, lse):
    ids = [*IDS, 9][:tokens]
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._local_mapping, "flex_attention", by_flex(lse))
    model = text_only(attention="sdpa")
    wanted = passes_of(capture(model, ids, tmp_path / "sdpa", steps=2))
    model.set_attn_implementation("flex_attention")
    for values, own in zip(passes_of(capture(model, ids, tmp_path / "flex", steps=2)), wanted, strict=True):
        assert values.keys() == own.keys()
        for name, value in own.items():
            if name.endswith("visible"):
                np.testing.assert_array_equal(values[name], value, err_msg=name)
            else:
                np.testing.assert_allclose(values[name], value, rtol=1e-3, atol=1e-4, err_msg=name)
    assert read_dump(tmp_path / "flex")["policy"]["attention_impl"] == "flex_attention"


def test_flex_attention_of_padded_rows_is_shown(tmp_path, flex, monkeypatch):
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._local_mapping, "flex_attention", by_flex(True))
    rows, pads = [[1] * 4 + IDS[:7], [0] * 4 + IDS[:7]], [0, 4]
    model = text_only()
    wanted = passes_of(capture(model, rows, tmp_path / "eager", left_pads=pads, taps=["*.visible"]))
    model.set_attn_implementation("flex_attention")
    assert_equal(passes_of(capture(model, rows, tmp_path / "flex", left_pads=pads, taps=["*.visible"])), wanted)


# Compiled


@pytest.mark.parametrize("warm", [True, False])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_compiled_model_is_captured_whole_and_left_compiled(tmp_path, dtype, warm):
    wanted = passes_of(capture(text_only(dtype), IDS, tmp_path / "plain"))
    model = torch.compile(text_only(dtype), backend="eager")
    with torch.no_grad():
        before = model(torch.tensor([IDS])).logits if warm else None
        capture(model, IDS, tmp_path / "dump", weights="tiny")
        assert before is None or torch.equal(model(torch.tensor([IDS])).logits, before)
    assert_equal(passes_of(tmp_path / "dump"), wanted)
    assert read_dump(tmp_path / "dump")["policy"]["torch"]["compiled"] is True
    assert not any(one._forward_hooks or one._forward_pre_hooks for one in model.modules())


def test_a_model_whose_layers_are_compiled_is_captured_whole(tmp_path):
    [wanted] = passes_of(capture(text_only(), IDS, tmp_path / "plain"))
    model = text_only()
    model.model.layers[1].self_attn = torch.compile(model.model.layers[1].self_attn, backend="eager")
    model.model.layers[5].compile(backend="eager")
    assert_equal(passes_of(capture(model, IDS, tmp_path / "dump")), [wanted])
    assert sorted(wanted) == sorted(tap_names(TINY.layers))


# Offloaded


@needs_accelerate
@pytest.mark.parametrize("steps", [0, 2])
def test_an_offloaded_model_is_captured_where_it_runs(tmp_path, steps):
    from accelerate import cpu_offload

    wanted = passes_of(capture(text_only(), IDS, tmp_path / "plain", steps=steps))
    model = text_only()
    cpu_offload(model, execution_device="cpu")
    assert next(model.parameters()).device.type == "meta"
    assert_equal(passes_of(capture(model, IDS, tmp_path / "dump", steps=steps)), wanted)


@needs_accelerate
def test_an_offloaded_tower_is_captured(tmp_path):
    from accelerate import cpu_offload

    pixels = torch.from_numpy(made_pixels(2, 40))
    wanted = passes_of(capture(build_model("tiny"), SEEING, tmp_path / "plain", pixel_values=pixels))
    model = build_model("tiny")
    cpu_offload(model, execution_device="cpu")
    assert_equal(passes_of(capture(model, SEEING, tmp_path / "dump", pixel_values=pixels)), wanted)


def test_weights_that_are_nowhere_are_refused(tmp_path):
    with pytest.raises(BadInput, match=r"capture: model: wanted weights, or a hook of accelerate .*, got .* meta"):
        capture(text_only().to("meta"), IDS, tmp_path / "dump")
    assert list(tmp_path.iterdir()) == []


# Without a vocabulary's head


@pytest.mark.parametrize("labels", [2, TINY.vocabulary])
def test_of_a_classifier_everything_but_logits_is_captured(tmp_path, labels):
    plain = text_only()
    plain.config.num_labels = labels
    model = transformers.Gemma3TextForSequenceClassification(plain.config).eval()
    model.model.load_state_dict(plain.model.state_dict())
    model.set_attn_implementation("eager")
    wanted = passes_of(capture(plain, [IDS, IDS[::-1]], tmp_path / "plain"))
    with pytest.warns(LeftOut, match=r"text\.logits left out: wanted \[B, 11, 97\] of the model, got \[2, "):
        capture(model, [IDS, IDS[::-1]], tmp_path / "dump")
    assert_equal(passes_of(tmp_path / "dump"), [{k: v for k, v in one.items() if k != "text.logits"} for one in wanted])
    with pytest.raises(BadInput, match="steps: wanted 0 of a model without a vocabulary's logits"):
        capture(model, IDS, tmp_path / "steps", steps=1)
    assert not (tmp_path / "steps").exists()


def test_a_classifier_of_images_is_captured(tmp_path):
    plain, pixels = build_model("tiny"), torch.from_numpy(made_pixels(2, 40))
    model = transformers.Gemma3ForSequenceClassification(plain.config).eval()
    model.model.load_state_dict(plain.model.state_dict())
    model.set_attn_implementation("eager")
    [wanted] = passes_of(capture(plain, SEEING, tmp_path / "plain", pixel_values=pixels))
    del wanted["text.logits"]
    capture(model, SEEING, tmp_path / "dump", pixel_values=pixels, taps=list(wanted))
    assert_equal(passes_of(tmp_path / "dump"), [wanted])


def test_logits_of_the_last_token_alone_are_left_out_and_steps_go_on(tmp_path):
    model = text_only()
    forward = model.forward
    wanted = read_dump(capture(model, IDS, tmp_path / "plain", steps=1))["passes"][1]["ids"]
    model.forward = lambda *args, **kwargs: forward(*args, logits_to_keep=1, **kwargs)
    with pytest.warns(LeftOut, match=r"text\.logits left out: wanted \[B, 11, 97\] of the model, got \[1, 1, 97\]"):
        capture(model, IDS, tmp_path / "dump", steps=1)
    assert read_dump(tmp_path / "dump")["passes"][1]["ids"] == wanted
    first, step = passes_of(tmp_path / "dump")
    assert "text.logits" not in first
    assert "text.logits" in step  # one token has the last one's


# Adapters


def adapted(**more):
    peft = pytest.importorskip("peft", reason="needs peft: pip install peft")
    return peft.get_peft_model(
        text_only(), peft.LoraConfig(**{"target_modules": ["q_proj", "down_proj"], "r": 2} | more)
    )


def train(model):
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lora_" in name:
                value.add_(torch.ones_like(value) * 0.1)
    return model


def test_adapters_that_change_nothing_are_looked_through(tmp_path):
    wanted = passes_of(capture(text_only(), IDS, tmp_path / "plain"))
    assert_equal(passes_of(capture(adapted(), IDS, tmp_path / "zero")), wanted)
    assert_equal(passes_of(capture(adapted(target_modules=["embed_tokens"]), IDS, tmp_path / "table")), wanted)
    model = train(adapted())
    with model.disable_adapter():
        assert_equal(passes_of(capture(model, IDS, tmp_path / "off")), wanted)


def test_merged_adapters_are_the_models_weights(tmp_path):
    model = train(adapted())
    model.merge_adapter()
    [values] = passes_of(capture(model, IDS, tmp_path / "dump"))
    with torch.no_grad():
        logits = model(torch.tensor([IDS])).logits
        assert not torch.equal(logits, text_only()(torch.tensor([IDS])).logits)
    np.testing.assert_array_equal(values["text.logits"], logits.numpy())


@pytest.mark.parametrize("inside", [True, False])
def test_adapters_that_add_to_the_weights_are_refused(tmp_path, inside):
    model = train(adapted())
    model = model.get_base_model() if inside else model
    said = r"capture: adapters: wanted none, or merged ones .*, got default in model\.layers\.0\.self_attn\.q_proj"
    with pytest.raises(BadInput, match=said):
        capture(model, IDS, tmp_path / "dump")
    assert list(tmp_path.iterdir()) == []


# Small configurations


SMALL = {
    "one local layer": {"num_hidden_layers": 1},
    "one global layer": {"num_hidden_layers": 1, "layer_types": ["full_attention"]},
    "no global layer": {"num_hidden_layers": 3},
    "no local layer": {"layer_types": ["full_attention"] * 2},
    "one head": {"num_attention_heads": 1, "num_key_value_heads": 1},
}


@pytest.mark.parametrize("case", SMALL)
def test_small_configurations_are_captured_and_match(tmp_path, case):
    model = small(**SMALL[case])
    model.save_pretrained(tmp_path / "weights")
    capture(model, [7, 33, 96, 2, 45], tmp_path / "dump", steps=1)
    assert compare(tmp_path / "dump", weights=str(tmp_path / "weights"))["verdict"] == "match"


@pytest.mark.parametrize("kinds", ["full sliding full", "sliding sliding full sliding full"])
def test_layers_without_a_rule_are_refused(tmp_path, kinds):
    kinds = [f"{kind}_attention" for kind in kinds.split()]
    with pytest.raises(BadInput, match="layer_types: wanted a global layer after a fixed number of local ones"):
        capture(small(num_hidden_layers=len(kinds), layer_types=kinds), [1, 2], tmp_path / "dump")


def test_an_image_id_inside_the_vocabulary_is_captured(tmp_path):
    plain, pixels = build_model("tiny"), torch.from_numpy(made_pixels(2, 40))
    [wanted] = passes_of(capture(plain, SEEING, tmp_path / "plain", pixel_values=pixels))
    plain.config.image_token_id = 10
    ids = [10 if one == 97 else one for one in SEEING]
    [values] = passes_of(capture(plain, ids, tmp_path / "dump", pixel_values=pixels))
    del values["text.embed"], wanted["text.embed"]  # the row of that id, which features then replace
    assert_equal([values], [wanted])
    assert read_dump(tmp_path / "dump")["passes"][0]["image_blocks"] == [[2, 6], [8, 12]]
    capture(plain, [3, 10, 4], tmp_path / "text")
    assert read_dump(tmp_path / "text")["passes"][0]["image_blocks"] == []


# What is not installed, or broken


def test_a_broken_install_is_reported_as_what_it_is(monkeypatch):
    def broken(name):
        if name == "transformers":
            raise ImportError("tokenizers>=0.22 is required,\nbut found tokenizers==0.21")
        return import_module(name)

    monkeypatch.setattr("ref.capture.transformers.model.import_module", broken)
    said = r"wanted an install .*\(pip install -e .*\), got one that does not load: tokenizers>=0\.22 is required, but"
    with pytest.raises(BadInput, match=said):
        import_transformers()


def test_a_missing_package_is_named_with_the_extra_that_has_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(BadInput, match=r'wanted pip install -e "\.\[transformers\]", got no transformers'):
        import_transformers()


def test_the_command_says_what_was_left_out_in_a_line(tmp_path, capsys, monkeypatch):
    from ref.capture.common import say_left_out

    def witness(weights, prompts, out, *, steps, taps):
        say_left_out({"text.layer.0.attn.q": "of another width", "text.layer.1.attn.q": "of another width"})
        return capture(text_only(), prompts[0], out, taps=["text.logits"])

    monkeypatch.setattr(command, "_witness", lambda name: witness)
    parser = argparse.ArgumentParser()
    command.add(parser.add_subparsers())
    flags = ["--weights", "tiny", "--ids", "1,2", "-o", str(tmp_path / "dump")]
    args = parser.parse_args(["capture", "transformers", *flags])
    assert args.run(args) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "capture: text.layer.*.attn.q (2 layers) left out: of another width"
    assert len(lines) == 2
