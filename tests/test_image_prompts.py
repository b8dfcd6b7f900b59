"""Images on the command line: generate, tokens and trace with --image, and every refusal in one line."""

import json

import numpy as np
import pytest
from command_line import json_of
from PIL import Image
from refusing import refusal
from safetensors.numpy import load_file
from test_gemma import vision
from tiny import TINY, params

from ref.cli import main
from ref.config import CROPS
from ref.model.gemma import Images, soft_token_id
from ref.model.generate import Sampling, generate
from ref.prompt.images import preprocess, read_image

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
        (["--weights", "tiny", "--image", "PICTURE", "--ids", "2", "a"], "wanted either text or ids, got both"),
        (["--weights", "tiny", "--image", "nothing.png", "--ids", ids_of(1)], "nothing.png"),
        (["--weights", "tiny", "--image", "PICTURE", "hello"], "these weights have no tokenizer"),
        (["--weights", "synthetic:1b", "--image", "PICTURE", "hello"], "wanted weights with a vision tower"),
    ],
)
def test_images_that_cannot_be_seen_are_refused(argv, message, picture, capsys):
    words = [str(picture) if word == "PICTURE" else word for word in argv]
    assert message in refusal(capsys, "generate", *words)
