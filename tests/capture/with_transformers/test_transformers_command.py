"""Models of transformers by name, and the command that captures them."""

from importlib.util import find_spec

import numpy as np
import pytest
from support.captures import gemma3_ref
from support.checkpoints import save_seeing, save_tiny
from support.reports import report_of
from support.transformers_captures import IDS, SEEING, assert_same, only_pass, plain

import ref
from ref.capture.transformers import build_from, build_model, capture, capture_weights
from ref.commands import capture as command
from ref.config import SIZES, TINY_VISION
from ref.dump.write import read_dump
from ref.errors import BadInput
from ref.model.taps import tap_names
from ref.weights.gguf import open_gguf
from ref.weights.package import package_file

pytestmark = pytest.mark.witness
if find_spec("torch") and find_spec("transformers"):
    import torch

TINY = SIZES["tiny"]


@pytest.mark.parametrize("sees", [False, True])
def test_a_folder_and_our_own_values_give_the_same_model(tmp_path, sees, pixels):
    (save_seeing if sees else save_tiny)(tmp_path / "folder")
    folder = build_model(str(tmp_path / "folder"), "bfloat16")
    loaded = ref.load(str(tmp_path / "folder"))
    assert type(folder).__name__ == ("Gemma3ForConditionalGeneration" if sees else "Gemma3ForCausalLM")
    ours = build_from(loaded, "bfloat16")
    more = {"pixel_values": pixels[:2], "token_type_ids": torch.tensor([SEEING]) // 97} if sees else {}
    assert torch.equal(plain(folder, SEEING if sees else IDS, **more), plain(ours, SEEING if sees else IDS, **more))
    kept, own = dict(folder.named_buffers()), dict(ours.named_buffers())
    assert kept.keys() == own.keys()
    assert all(torch.equal(kept[name].float(), own[name].float()) for name in own)
    assert {own[name].dtype for name in own if name.endswith("inv_freq")} == {torch.float32}
    capture(folder, IDS, tmp_path / "dump", taps=["text.logits"])
    assert read_dump(tmp_path / "dump")["model"]["weights"]["name"] == "folder"


@pytest.mark.weights
def test_the_270m_is_the_gguf_packages_to_the_bit(tmp_path):
    from gguf import GGMLQuantizationType, dequantize

    model, file = build_model("270m"), open_gguf(package_file())
    own = dict(model.named_parameters())
    matrices = {"attn_q": "self_attn.q_proj", "attn_output": "self_attn.o_proj", "ffn_down": "mlp.down_proj"}
    norms = {"attn_k_norm": "self_attn.k_norm", "post_ffw_norm": "post_feedforward_layernorm"}
    for layer in (0, 17):
        for name, field in matrices.items():
            held = file.array(f"blk.{layer}.{name}.weight")
            value = dequantize(held.data, GGMLQuantizationType[held.format])
            assert_same(value, own[f"model.layers.{layer}.{field}.weight"])
        for name, field in norms.items():
            value = np.asarray(file.array(f"blk.{layer}.{name}.weight")) - np.float32(1)
            assert_same(value, own[f"model.layers.{layer}.{field}.weight"])
    ids = [2, 818, 5279, 529, 7001, 563]
    values = only_pass(model, tmp_path / "dump", ids, weights="270m")
    assert sorted(values) == sorted(tap_names(18))
    assert_same(values["text.logits"], plain(model, ids))
    assert read_dump(tmp_path / "dump")["model"]["config"]["name"] == "270m"


def test_the_command_writes_a_dump_and_counts_it(tmp_path, capsys):
    flags = ["--weights", "tiny", "--ids", ",".join(map(str, IDS)), "--dtype", "bfloat16", "--attention", "sdpa"]
    more = ["--taps", "text.logits", "--taps", "text.embed", "--max-new-tokens", 2, "--threads", 1, "--json"]
    assert gemma3_ref("transformers", *flags, *more, "-o", tmp_path / "dump") == 0
    written = report_of(capsys.readouterr().out, "capture")
    size = sum(file.stat().st_size for file in (tmp_path / "dump").glob("*.safetensors"))
    passes = [{"ids": len(IDS), "cached": 0}, {"ids": 1, "cached": len(IDS)}, {"ids": 1, "cached": len(IDS) + 1}]
    assert (written["passes"], written["tensors"], written["bytes"]) == (passes, 6, size)
    content = read_dump(tmp_path / "dump")
    assert content["model"]["weights"] == {"name": "tiny", "dtype": "bfloat16", "sha256": None}
    assert content["policy"]["attention_impl"] == "sdpa"


def test_the_command_shows_images(tmp_path, capsys):
    from PIL import Image

    Image.new("RGB", (50, 30), (200, 30, 90)).save(tmp_path / "a.png")
    flags = ["--weights", "tiny", "--ids", "3,97,97,97,97,5", "--image", tmp_path / "a.png"]
    assert gemma3_ref("transformers", *flags, "-o", tmp_path / "dump") == 0
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    [one] = read_dump(tmp_path / "dump")["passes"]
    assert (one["image_blocks"], one["pixels"]) == ([[1, 5]], "pixels0000.safetensors")
    assert sorted(one["tensors"]) == sorted(tap_names(TINY.layers, vision_layers=TINY_VISION.layers))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--dtype", "q8_0"], "dtype: wanted float32, bfloat16, float16, float64, got q8_0"),
        (["--attention", "flash"], "attention: wanted eager or sdpa, got flash"),
        (["--max-new-tokens", "-1"], "max-new-tokens: wanted 0 or more"),
        (["--threads", "0"], "threads: wanted 1 or more"),
    ],
)
def test_the_command_refuses(tmp_path, flags, message):
    with pytest.raises(BadInput, match=message):
        gemma3_ref("transformers", "--weights", "tiny", "--ids", "1,2", "-o", tmp_path / "dump", *flags)
    assert list(tmp_path.iterdir()) == []


def test_a_flag_that_a_witness_does_not_know_is_refused():
    asked = {"mmproj": ("--mmproj", "x.gguf"), "dtype": ("--dtype", None)}
    with pytest.raises(BadInput, match=r"--mmproj: wanted a witness that takes it; gemma does not, got x\.gguf"):
        command._understood(lambda weights, dtype: 0, "gemma", asked)


def test_prompts_of_several_lengths_are_passes_of_their_own(tmp_path):
    capture_weights("tiny", [[1, 2, 3], [4, 5]], tmp_path / "dump", taps=["text.logits"])
    assert [one["ids"] for one in read_dump(tmp_path / "dump")["passes"]] == [[1, 2, 3], [4, 5]]
