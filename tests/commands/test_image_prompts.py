"""Images on the command line: generate, tokens and trace with --image, and every refusal in one line."""

import json

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file
from support.checkpoints import SMALL, save_gguf, save_mmproj, save_seeing
from support.command_line import json_of
from support.refusing import refusal
from support.tiny import TINY, params, vision

from ref.cli import main
from ref.config import CROPS, VISION
from ref.dump.write import load_pass, read_dump
from ref.model.generate import Sampling, generate
from ref.model.multimodal import Images, soft_token_id
from ref.model.text import How
from ref.prompt.images import preprocess, read_image
from ref.weights.synthetic import synthetic_params, synthetic_vision

SOFT = [soft_token_id(TINY)] * 4


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (300, 700, 3), dtype=np.uint8)).save(path)
    return path


def ids_of(count):
    return ",".join(map(str, [2, *SOFT * count, 3]))


@pytest.mark.parametrize("pan_and_scan", [False, True])
def test_generate_sees_what_the_library_sees(picture, pan_and_scan, capsys):
    seen = preprocess(read_image(picture), CROPS["transformers"] if pan_and_scan else None, size=40)
    assert len(seen.pixels) == (3 if pan_and_scan else 1)
    ids = [2, *SOFT * len(seen.pixels), 3]
    steps = generate(params(), [ids], 5, Sampling(greedy=True), (1,), images=Images(vision("tiny"), seen.pixels))
    flags = ["--pan-and-scan"] if pan_and_scan else []
    argv = ["generate", "--weights", "tiny", "--greedy", "--max-new-tokens", "5", "--image", str(picture), *flags]
    got = json_of(capsys, *argv, "--ids", ids_of(len(seen.pixels)))
    assert got["prompt_ids"] == ids
    assert got["ids"] == [step[0] for step in steps]


def test_trace_keeps_pixels_and_blocks(picture, tmp_path, capsys):
    argv = ["trace", "--weights", "tiny", "--image", str(picture), "--ids", ids_of(1), "-o", str(tmp_path / "d")]
    assert main([*argv, "--max-new-tokens", "1"]) == 0
    prefill, step = json.loads((tmp_path / "d" / "dump.json").read_text())["passes"]
    assert (prefill["image_blocks"], step["image_blocks"], step["pixels"]) == ([[1, 5]], [], None)
    pixels = load_file(tmp_path / "d" / prefill["pixels"])["pixels"]
    np.testing.assert_array_equal(pixels, preprocess(read_image(picture), size=40).pixels)
    assert prefill["tensors"]["vision.layer.1.attn.probs"]["layout"] == "B N P P"
    model = json.loads((tmp_path / "d" / "dump.json").read_text())["model"]
    assert model["config"]["vision"] == VISION["tiny"]._asdict()


def test_a_pass_with_more_tensors_than_a_header_holds_goes_into_several_files(picture, tmp_path, monkeypatch):
    argv = ["trace", "--weights", "tiny", "--image", str(picture), "--ids", ids_of(1), "-o"]
    assert main([*argv, str(tmp_path / "whole")]) == 0
    monkeypatch.setattr("ref.record.HEADER", 4096)
    assert main([*argv, str(tmp_path / "parts")]) == 0
    whole, parts = (read_dump(tmp_path / name)["passes"][0] for name in ("whole", "parts"))
    files = {row["file"] for row in parts["tensors"].values()}
    assert {"pass0000.safetensors", "pass0000-01.safetensors"} < files
    assert list(parts["tensors"]) == list(whole["tensors"])
    wanted, got = load_pass(tmp_path / "whole", whole), load_pass(tmp_path / "parts", parts)
    for name, value in wanted.items():
        np.testing.assert_array_equal(got[name], value)


@pytest.mark.weights
def test_tokens_fold_the_soft_tokens_of_an_image(picture, capsys):
    argv = ["tokens", "--weights", "synthetic:4b", "--image", str(picture), "What is this?"]
    assert main(argv) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == ["      2  '<bos>'", "    108  '\\n\\n'", " 255999  '<start_of_image>'",
                         " 262144  '<image_soft_token>'  x 256"]  # fmt: skip
    assert json_of(capsys, *argv)["ids"].count(262_144) == 256
    merged = json_of(capsys, *argv, "--chat")["ids"]
    apart = json_of(capsys, *argv, "--chat", "--image-layout", "gemma")["ids"]
    assert merged[:5] == [2, 105, 2364, 109, 255_999]
    assert apart[:6] == [2, 105, 2364, 107, 108, 255_999]


@pytest.mark.parametrize("form", ["folder", "gguf"])
def test_images_through_files_give_what_the_parameters_give(form, picture, tmp_path, capsys):
    if form == "folder":
        text, seeing = save_seeing(tmp_path / "model")
        weights = ["--weights", str(tmp_path / "model")]
    else:
        text = synthetic_params(SMALL, 0, bfloat16=False)
        seeing = synthetic_vision(VISION["tiny"], SMALL.width, 0, bfloat16=False)
        save_gguf(tmp_path / "text.gguf", text)
        save_mmproj(tmp_path / "mmproj.gguf", seeing)
        weights = ["--weights", str(tmp_path / "text.gguf"), "--mmproj", str(tmp_path / "mmproj.gguf")]
    argv = ["generate", *weights, "--greedy", "--max-new-tokens", "4", "--dtype", "float64", "--image", str(picture)]
    got = json_of(capsys, *argv, "--ids", ids_of(1))
    pixels = preprocess(read_image(picture), size=40).pixels
    how = How(dtype=np.float64)
    steps = generate(text, [[2, *SOFT, 3]], 4, Sampling(greedy=True), (1,), how, Images(seeing, pixels))
    assert got["ids"] == [step[0] for step in steps]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--weights", "tiny", "--pan-and-scan", "--ids", "2"], "wanted an --image beside it"),
        (
            ["--weights", "tiny", "--image", "PICTURE", "--ids", "2,3"],
            "wanted 4 of id 97, for 1 images and crops, got 0",
        ),
        (["--weights", "tiny", "--image", "PICTURE", "--image", "PICTURE", "--ids", ids_of(1)], "wanted 8 of id 97"),
        (["--weights", "tiny", "--image", "PICTURE", "--pan-and-scan", "--ids", ids_of(1)], "wanted 12 of id 97"),
        (["--weights", "tiny", "--image", "PICTURE", "a", "b"], "wanted one, got 2 texts"),
        (["--weights", "tiny", "--image", "PICTURE", "--ids", "2", "a"], "wanted either text or --ids, got both"),
        (["--weights", "tiny", "--image", "nothing.png", "--ids", ids_of(1)], "nothing.png"),
        (["--weights", "tiny", "--image", "PICTURE", "hello"], "these weights have no tokenizer"),
        (["--weights", "tiny", "--image-layout", "gemma", "--ids", "2"], "--image-layout: wanted an --image beside it"),
        (["--weights", "synthetic:4b", "--ids", "2,262144"], "token id: wanted 0 <= id < 262144"),
        (
            ["--weights", "synthetic:4b", "--ids", "2,255999"],
            "<start_of_image>: wanted none, as there is no --image, got 1",
        ),
        (["--weights", "synthetic:1b", "--image", "PICTURE", "hello"], "wanted weights with a vision tower"),
    ],
)
def test_images_that_cannot_be_seen_are_refused(argv, message, picture, capsys):
    words = [str(picture) if word == "PICTURE" else word for word in argv]
    assert message in refusal(capsys, "generate", *words)
