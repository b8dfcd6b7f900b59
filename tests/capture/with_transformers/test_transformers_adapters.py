"""Models with LoRA adapters of PEFT: captured merged and not, judged with the adapter, and their mistakes named."""

from importlib.util import find_spec

import pytest
from support.transformers_captures import IDS, text_only

from ref import compare
from ref.capture.transformers import capture, capture_weights
from ref.cli import main
from ref.dump.write import read_dump
from ref.errors import BadInput

pytestmark = [
    pytest.mark.witness,
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),  # of peft on transformers 5
    pytest.mark.filterwarnings("ignore:Model (has|with) `tie_word_embeddings=True`:UserWarning"),
    pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`"),
    pytest.mark.filterwarnings("ignore:Could not find a config file"),
]
if find_spec("torch") and find_spec("transformers"):
    import torch

LAYERS, ENDS = ("q_proj", "v_proj", "down_proj"), ("embed_tokens", "lm_head", "gate_proj")


@pytest.fixture
def peft():
    return pytest.importorskip("peft", reason="needs peft: pip install peft")


def made(peft, dtype="float32", modules=LAYERS, **more):
    """Return a model with a drawn adapter, in eval mode."""
    torch.manual_seed(1)
    config = peft.LoraConfig(**{"target_modules": list(modules), "r": 4, "lora_alpha": 8} | more)
    model = peft.get_peft_model(text_only(dtype), config).eval()
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lora_" in name:
                value.copy_(0.1 * torch.randn(value.shape))
    return model


def saved(model, folder):
    model.save_pretrained(folder)
    return folder


def rescaled(model, scale):
    """Set the scale of every adapter."""
    for module in model.modules():
        if isinstance(getattr(module, "scaling", None), dict):
            module.scaling = dict.fromkeys(module.scaling, scale)


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_clean_capture_matches(peft, tmp_path, dtype, merged):
    model = made(peft, dtype)
    adapter = saved(model, tmp_path / "lora")
    if merged:
        model.merge_adapter()
    capture(model, IDS, tmp_path / "dump", weights="tiny")
    content = read_dump(tmp_path / "dump")
    assert (content["format_version"], content["model"]["adapter"]) == (2, {"name": "default", "merged": merged})
    report = compare(tmp_path / "dump", adapter=adapter)
    assert report["verdict"] == "match"
    assert report["weights"]["adapter"] == {"name": "lora", "merged": merged}


@pytest.mark.parametrize("merged", ["no", "yes"])
def test_the_command_puts_an_adapter_on_weights(peft, tmp_path, merged, capsys):
    adapter = saved(made(peft), tmp_path / "lora")
    words = ["--weights", "tiny", "--ids", "2,33,5,80,7", "--adapter", str(adapter), "--merged", merged]
    assert main(["capture", "transformers", *words, "-o", str(tmp_path / "dump")]) == 0
    content = read_dump(tmp_path / "dump")
    assert content["model"]["adapter"] == {"name": "default", "merged": merged == "yes"}
    assert compare(tmp_path / "dump", adapter=adapter)["verdict"] == "match"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--merged", "yes"], "capture: --merged: wanted --adapter beside it, got none"),
        (["--adapter", "nowhere"], "nowhere/adapter_config.json"),
    ],
)
def test_an_adapter_that_cannot_be_put_on_is_refused_in_a_line(tmp_path, words, line, capsys):
    out = tmp_path / "dump"
    assert main(["capture", "transformers", "--weights", "tiny", "--ids", "2,33", *words, "-o", str(out)]) == 2
    [said] = capsys.readouterr().err.splitlines()
    assert line in said
    assert not out.exists()


def test_an_adapter_that_adds_nothing_is_refused(peft, tmp_path):
    model = made(peft)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lora_B" in name:
                value.zero_()
    adapter = saved(model, tmp_path / "lora")
    with pytest.raises(BadInput, match="wanted an adapter of these weights that changes something, got none of its"):
        capture_weights("tiny", [IDS], tmp_path / "dump", adapter=adapter)


def test_adapters_at_the_ends_match(peft, tmp_path):
    model = made(peft, modules=ENDS, use_rslora=True)
    adapter = saved(model, tmp_path / "lora")
    capture(model, IDS, tmp_path / "dump", weights="tiny")
    assert compare(tmp_path / "dump", adapter=adapter)["verdict"] == "match"


@pytest.mark.parametrize(("scale", "value", "words"), [(0.0, 0.0, "not applied"), (1.0, 0.5, "alpha / r is left out")])
def test_a_wrong_scale_is_named(peft, tmp_path, scale, value, words):
    model = made(peft)
    adapter = saved(model, tmp_path / "lora")
    capture(model, IDS, tmp_path / "right", weights="tiny")
    rescaled(model, scale)
    capture(model, IDS, tmp_path / "dump", weights="tiny")
    report = compare(tmp_path / "dump", adapter=adapter)
    (cause,) = report["causes"]
    assert (cause["mutant"], cause["verdict"], cause["layers"]) == ("adapter_scaled", "named", list(range(7)))
    (parameter,) = cause["parameters"]
    assert (parameter["value"], parameter["words"]) == (pytest.approx(value), words)
    assert report["proof"]["verdict"] == "explained"


def test_an_embedding_without_its_scale_is_named(peft, tmp_path, monkeypatch):
    model = made(peft, modules=ENDS)
    adapter = saved(model, tmp_path / "lora")
    monkeypatch.setattr("peft.tuners.lora.layer.Embedding._get_embed_scale", lambda self: None)  # as before peft 0.18
    capture(model, IDS, tmp_path / "dump", weights="tiny")
    report = compare(tmp_path / "dump", adapter=adapter)
    assert report["first"]["tap"] == "text.embed"
    (cause,) = report["causes"]
    assert (cause["mutant"], cause["parameters"][0]["words"]) == ("adapter_scaled", "not multiplied by sqrt(D)")


def test_a_dump_with_an_adapter_is_not_judged_without(peft, tmp_path):
    capture(made(peft), IDS, tmp_path / "dump", weights="tiny")
    with pytest.raises(BadInput, match=r"--adapter: wanted the folder of the adapter default .*, got none"):
        compare(tmp_path / "dump")


def with_dora(peft):
    return made(peft, use_dora=True), "default in model.layers.0.self_attn.q_proj"


def with_a_copy(peft):
    model = made(peft, modules_to_save=["lm_head"])
    with torch.no_grad():
        model.base_model.model.lm_head.modules_to_save["default"].weight += 0.1
    return model, "default in lm_head"


def with_two(peft):
    model = made(peft)
    model.add_adapter("other", peft.LoraConfig(target_modules=["up_proj"], r=2, init_lora_weights=False))
    model.base_model.set_adapter(["default", "other"])
    return model, "several: default, other"


@pytest.mark.parametrize("make", [with_dora, with_a_copy, with_two])
def test_what_is_not_plain_lora_is_refused(peft, tmp_path, make):
    model, got = make(peft)
    with pytest.raises(BadInput, match=f"adapters: wanted none, or one of plain LoRA; .*, got {got}"):
        capture(model, IDS, tmp_path / "dump")
    assert list(tmp_path.iterdir()) == []
