"""Compiled, offloaded, adapted and headless models are captured, or a line says why not."""

import argparse
from importlib.util import find_spec

import numpy as np
import pytest
from support.captures import passes_of
from support.transformers_captures import IDS, SEEING, assert_equal, text_only

from ref.capture.common import LeftOut
from ref.capture.transformers import build_model, capture
from ref.commands import capture as command
from ref.config import SIZES
from ref.dump.write import read_dump
from ref.errors import BadInput
from ref.golden_files.sampled import made_pixels
from ref.model.taps import tap_names

pytestmark = [
    pytest.mark.witness,
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),  # of peft on transformers 5
    pytest.mark.filterwarnings("ignore:Model (has|with) `tie_word_embeddings=True`:UserWarning"),
]
if find_spec("torch") and find_spec("transformers"):
    import torch
    import transformers

TINY = SIZES["tiny"]
needs_accelerate = pytest.mark.skipif(not find_spec("accelerate"), reason="needs accelerate")


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


def test_an_adapter_inside_a_model_is_said_too(tmp_path):
    capture(train(adapted()).get_base_model(), IDS, tmp_path / "dump")
    assert read_dump(tmp_path / "dump")["model"]["adapter"] == {"name": "default", "merged": False}


def test_the_command_says_what_was_left_out_in_a_line(tmp_path, capsys, monkeypatch):
    from ref.capture.common import say_left_out

    def witness(weights, prompts, out, *, steps, taps):
        say_left_out({"text.layer.0.attn.q": "of another width", "text.layer.1.attn.q": "of another width"})
        return capture(text_only(), prompts[0], out, taps=["text.logits"])

    monkeypatch.setattr(command, "load_adapter", lambda adapter: witness)
    parser = argparse.ArgumentParser()
    command.add(parser.add_subparsers())
    flags = ["--weights", "tiny", "--ids", "1,2", "-o", str(tmp_path / "dump")]
    args = parser.parse_args(["capture", "transformers", *flags])
    assert args.run(args) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "capture: text.layer.*.attn.q (2 layers) left out: of another width"
    assert len(lines) == 2
