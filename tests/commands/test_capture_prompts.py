"""Prompts of `capture` out of a file or an earlier dump: read, refused in one line, and run by transformers."""

import json

import numpy as np
import pytest
from PIL import Image
from support.captures import gemma3_ref
from support.refusing import refusal

import ref
from ref.commands.given_prompt import given_prompt
from ref.config import SIZES
from ref.dump.open import open_dump
from ref.dump.prompt_file import PromptFile, prompt_of, read_prompt_file
from ref.dump.trace import trace
from ref.dump.write import read_dump
from ref.errors import BadInput
from ref.golden_files.files import check_schema
from ref.model.multimodal import soft_token_id
from ref.model.text import How

ROWS = {"rows": [{"ids": [2, 33, 5, 80], "left_pads": 0}, {"ids": [0, 2, 33, 5], "left_pads": 1}]}
WHOLE = {"format_version": 1, "steps": 1, "images": []} | ROWS
SOFT = soft_token_id(SIZES["tiny"])


def save(folder, **changed):
    (folder / "prompt.json").write_text(json.dumps(WHOLE | changed))
    return folder / "prompt.json"


def test_a_file_and_its_folder_are_read_alike(tmp_path):
    path = save(tmp_path, images=["a.png"])
    prompt = read_prompt_file(path)
    assert prompt == read_prompt_file(tmp_path)
    assert (prompt.rows, prompt.left_pads, prompt.steps) == ([[2, 33, 5, 80], [0, 2, 33, 5]], [0, 1], 1)
    assert prompt.images == (tmp_path / "a.png",)
    assert prompt.as_json() == json.loads(path.read_text())
    check_schema(prompt.as_json(), "prompt")


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"rows": []}, "rows: wanted what prompt.schema.json says"),
        ({"format_version": 2}, "format_version: wanted what prompt.schema.json says"),
        ({"more": 1}, "prompt: wanted what prompt.schema.json says"),
        ({"images": ["../a.png"]}, "images/0: wanted what prompt.schema.json says"),
        ({"rows": [{"ids": [2, 3], "left_pads": 2}]}, "left_pads of row 0: wanted fewer than its 2 tokens, got 2"),
        ({"rows": [{"ids": [0, 2], "left_pads": 1}, {"ids": [2], "left_pads": 0}]}, "rows: wanted one length"),
    ],
)
def test_files_that_say_no_prompt_are_refused_in_one_line(tmp_path, changed, says):
    with pytest.raises(BadInput) as caught:
        read_prompt_file(save(tmp_path, **changed))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_file_is_refused(tmp_path):
    for path, content in ((tmp_path / "none.json", None), (tmp_path / "list.json", "[]"), (tmp_path / "x.json", "{")):
        if content:
            path.write_text(content)
        with pytest.raises(BadInput, match=path.name):
            read_prompt_file(path)


def test_the_prompt_of_a_dump_is_its_rows_and_steps(tmp_path):
    trace(ref.load("tiny"), [[2, 5, 7], [2, 9]], tmp_path / "d", How(), ["text.embed", "*.attn.q"], 2)
    prompt, taps = prompt_of(tmp_path / "d")
    assert prompt == PromptFile([[2, 5, 7], [2, 9]], [0, 0], 2)
    assert taps == ["text.embed", *(f"text.layer.{i}.attn.q" for i in range(7))]


def test_passes_that_no_prompt_makes_are_refused(tmp_path):
    trace(ref.load("tiny"), [[2, 5, 7]], tmp_path / "d", How(), ["text.embed"], 1)
    path = tmp_path / "d/dump.json"
    content = json.loads(path.read_text())
    content["passes"][0]["positions"] = [0, 1, 5]
    path.write_text(json.dumps(content))
    with pytest.raises(BadInput, match="positions of pass 0: wanted counted from the first token"):
        prompt_of(tmp_path / "d")


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--ids", "2,3"], "prompt: wanted either --prompt-file or --ids, got both"),
        (["some text"], "prompt: wanted either --prompt-file or a text, got both"),
        (["--like", "d"], "prompt: wanted either --prompt-file or --like, got both"),
        (["--image", "a.png"], "prompt: wanted either --prompt-file or --image, got both"),
    ],
)
def test_two_prompts_are_refused(tmp_path, capsys, flags, says):
    words = ["--weights", "tiny", "--prompt-file", str(save(tmp_path)), "-o", "x", *flags]
    line = refusal(capsys, "capture", "transformers", *words)
    assert says in line


@pytest.mark.witness
def test_rows_with_left_pads_are_run_as_one_batch(tmp_path):
    flags = ["--weights", "tiny", "--prompt-file", save(tmp_path), "--taps", "text.logits"]
    assert gemma3_ref("transformers", *flags, "-o", tmp_path / "d") == 0
    passes = read_dump(tmp_path / "d")["passes"]
    assert [one["left_pads"] for one in passes] == [0, 0, 1, 1]
    assert [len(one["ids"]) for one in passes] == [4, 1, 4, 1]
    assert ref.compare(tmp_path / "d")["verdict"] == "match"


@pytest.mark.witness
def test_a_dump_made_once_more_has_its_taps_and_those_added(tmp_path):
    flags = ["--weights", "tiny", "--prompt-file", save(tmp_path), "--taps", "text.layer.3.attn.q"]
    assert gemma3_ref("transformers", *flags, "-o", tmp_path / "a") == 0
    more = ["--like", tmp_path / "a", "--weights", "tiny", "--taps", "text.layer.3.attn.q_norm"]
    assert gemma3_ref("transformers", *more, "-o", tmp_path / "b") == 0
    old, new = open_dump(tmp_path / "a"), open_dump(tmp_path / "b")
    for before, after in zip(old.passes, new.passes, strict=True):
        assert sorted(after.tensors) == ["text.layer.3.attn.q", "text.layer.3.attn.q_norm"]
        assert np.array_equal(before.ids, after.ids)
        assert before.left_pads == after.left_pads
        name = "text.layer.3.attn.q"
        assert np.array_equal(before.tensors[name].load(), after.tensors[name].load())


@pytest.mark.witness
def test_images_of_a_file_fill_their_soft_tokens(tmp_path):
    size = ref.load("tiny").vision.config
    Image.fromarray(np.arange(size.image**2 * 3).reshape(size.image, size.image, 3).astype(np.uint8)).save(
        tmp_path / "a.png"
    )
    rows = [{"ids": [2, 5, *[SOFT] * size.soft_tokens, 7], "left_pads": 0}]
    path = save(tmp_path, rows=rows, images=["a.png"])
    flags = ["--weights", "tiny", "--taps", "text.logits", "--taps", "vision.pixels"]
    assert gemma3_ref("transformers", *flags, "--prompt-file", path, "-o", tmp_path / "d") == 0
    assert gemma3_ref("transformers", *flags, "--like", tmp_path / "d", "-o", tmp_path / "e") == 0
    one, other = (open_dump(tmp_path / name).passes[0] for name in "de")
    assert one.image_blocks == [[2, 2 + size.soft_tokens]]
    for tap in ("text.logits", "vision.pixels"):
        assert np.array_equal(one.tensors[tap].load(), other.tensors[tap].load())


def test_images_that_the_weights_cannot_see_are_refused(tmp_path):
    loaded = ref.load("tiny")
    save(tmp_path, rows=[{"ids": [2, 5], "left_pads": 0}], images=["a.png"])

    class Args:
        text, ids, image, chat, like, max_new_tokens = [], None, None, False, None, None
        pan_and_scan, image_layout, weights, prompt_file = False, None, "tiny", tmp_path

    with pytest.raises(BadInput, match="a vision tower"):
        given_prompt(Args, loaded._replace(vision=None))
