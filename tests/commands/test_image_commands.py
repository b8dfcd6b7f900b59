"""`crops` and `preprocess` as a user and a program see them: keys, files, pictures, refusals."""

import json

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file
from support.command_line import command, json_of
from support.refusing import refusal

from ref.cli import main
from ref.commands.outline import COLOURS, outline
from ref.config import CROPS
from ref.prompt.images import preprocess

WIDE = np.random.default_rng(3).integers(0, 256, (300, 751, 3), dtype=np.uint8)
BOXES = [[0, 0, 300, 251], [0, 251, 300, 502], [0, 502, 300, 751]]


@pytest.fixture
def wide(tmp_path):
    Image.fromarray(WIDE).save(tmp_path / "wide.png")
    return tmp_path / "wide.png"


def colours_of(path):
    return {tuple(colour) for colour in np.array(Image.open(path).convert("RGB")).reshape(-1, 3).tolist()}


def rgb(name):
    return tuple(int(name[i : i + 2], 16) for i in (1, 3, 5))


# --- crops -----------------------------------------------------------------------------------------------------------


def test_crops_of_a_size(capsys):
    result = json_of(capsys, "crops", "2500x1000")
    boxes = [[0, 0, 1000, 834], [0, 834, 1000, 1668], [0, 1668, 1000, 2500]]
    settings = {"min_ratio": 1.2, "min_crop": 256, "max_crops": 4, "past_edge": "clip"}
    assert result == {"width": 2500, "height": 1000, "policy": "transformers", "boxes": boxes, **settings}
    assert main(["crops", "2500x1000"]) == 0
    assert capsys.readouterr().out == (
        "y0, x0, y1, x1: pixels from the top left, the ends not included; then width x height\n"
        "[0, 0, 1000, 834]  834 x 1000\n[0, 834, 1000, 1668]  834 x 1000\n[0, 1668, 1000, 2500]  832 x 1000\n"
    )


def test_policies_and_settings_arrive(capsys):
    result = json_of(capsys, "crops", "2500x1000", "--policy", "gemma_pytorch")
    assert (result["policy"], result["boxes"][2]) == ("gemma_pytorch", [0, 1668, 1000, 2502])
    assert json_of(capsys, "crops", "640x480")["boxes"] == [[0, 0, 480, 320], [0, 320, 480, 640]]
    assert json_of(capsys, "crops", "640x480", "--policy", "gemma_pytorch")["boxes"] == []
    assert json_of(capsys, "crops", "640x480", "--min-ratio", "1.4")["boxes"] == []
    assert json_of(capsys, "crops", "640x480", "--min-crop", "321")["boxes"] == []
    assert len(json_of(capsys, "crops", "5000x500")["boxes"]) == 4
    assert len(json_of(capsys, "crops", "5000x500", "--max-crops", "7")["boxes"]) == 7
    assert json_of(capsys, "crops", "300x700", "--min-ratio", "0.5")["boxes"] == [[0, 0, 350, 300], [350, 0, 700, 300]]


def test_a_picture_is_measured_upright(capsys, tmp_path):
    image, exif = Image.fromarray(WIDE), Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.png", exif=exif)
    result = json_of(capsys, "crops", str(tmp_path / "turned.png"), "--min-crop", "200")
    assert (result["width"], result["height"]) == (300, 751)
    assert result["boxes"] == [[x0, y0, x1, y1] for y0, x0, y1, x1 in BOXES]


def test_a_file_that_is_named_like_a_size(capsys, tmp_path, monkeypatch):
    Image.fromarray(WIDE).save(tmp_path / "20x10", "PNG")
    monkeypatch.chdir(tmp_path)
    assert json_of(capsys, "crops", "20x10")["width"] == 751


def test_without_crops_nothing_is_printed_but_a_note(capsys):
    assert main(["crops", "896x896"]) == 0
    assert capsys.readouterr() == ("", "no crops: 896 x 896 is seen whole only\n")


def test_drawn_boxes_are_seen_and_numbered(capsys, wide, tmp_path):
    out = tmp_path / "drawn.png"
    assert main(["crops", str(wide), "-o", str(out), "--min-crop", "200"]) == 0
    assert capsys.readouterr() == ("", f"{out}: 3 crops of 751 x 300\n")
    drawn = np.array(Image.open(out))
    assert drawn.shape == WIDE.shape
    assert {rgb(colour) for colour in COLOURS[:3]} <= colours_of(out)
    for (y0, x0, y1, x1), colour in zip(BOXES, COLOURS, strict=False):
        box = drawn[y0:y1, x0:x1]
        line = (box == rgb(colour)).all(-1)
        dark = (box == 0).all(-1)
        for edge in (line, dark):  # the colour on its dark edge, along all four sides
            assert edge[:10].any(0).mean() > 0.95
            assert edge[-10:].any(0).mean() > 0.95
            assert edge[:, :10].any(1).mean() > 0.95
            assert edge[:, -10:].any(1).mean() > 0.95
        np.testing.assert_array_equal(box[120:-20, 20:-20], WIDE[y0:y1, x0:x1][120:-20, 20:-20])
        plate = box[8:70, 8:70]
        assert (plate == 0).all(-1).mean() > 0.3
        assert (plate == rgb(colour)).all(-1).sum() > 40  # the number
    assert sorted(file.name for file in tmp_path.iterdir()) == ["drawn.png", "wide.png"]


def test_what_reaches_past_the_edge_is_black_and_small_pictures_are_enlarged():
    image = np.full((1, 5, 3), 200, np.uint8)
    drawn = np.array(outline(image, [[0, 0, 1, 2], [0, 2, 1, 4], [0, 4, 1, 6], [0, 6, 1, 8]]))
    assert drawn.shape == (60, 480, 3)
    assert (drawn[30, [30, 90, 150, 210, 270]] == 200).all()
    assert (drawn[50, [330, 400, 450]] == 0).all()
    assert (drawn == rgb(COLOURS[3])).all(-1).any()
    assert outline(image, []).size == (480, 96)
    large = np.full((600, 400, 3), 7, np.uint8)
    np.testing.assert_array_equal(np.array(outline(large, [])), large)


def test_more_boxes_than_colours_and_one_pixel_boxes_can_be_drawn():
    drawn = outline(np.zeros((2, 12, 3), np.uint8), [[0, i, 2, i + 1] for i in range(12)])
    assert drawn.size == (480, 80)


@pytest.mark.parametrize("ending", ["jpg", "webp", "PNG", "tiff"])
def test_endings_choose_the_format(capsys, wide, tmp_path, ending):
    assert json_of(capsys, "crops", str(wide), "-o", str(tmp_path / f"out.{ending}"))["width"] == 751
    with Image.open(tmp_path / f"out.{ending}") as image:
        assert image.size == (751, 300)


# --- preprocess ------------------------------------------------------------------------------------------------------


def test_preprocess_writes_the_pixels(capsys, wide, tmp_path):
    out = tmp_path / "pixels.safetensors"
    result = json_of(capsys, "preprocess", str(wide), "-o", str(out))
    assert result == {"boxes": [], "shape": [1, 3, 896, 896], "out": str(out)}
    [(name, pixels)] = load_file(out).items()
    assert (name, pixels.dtype) == ("pixels", np.float32)
    np.testing.assert_array_equal(pixels, preprocess(WIDE).pixels)
    with safe_open(out, "np") as file:
        assert file.metadata() in (None, {})
    assert sorted(file.name for file in tmp_path.iterdir()) == ["pixels.safetensors", "wide.png"]


def test_preprocess_with_crops_and_other_resizes(capsys, tmp_path):
    tall = np.random.default_rng(4).integers(0, 256, (1100, 701, 3), dtype=np.uint8)
    Image.fromarray(tall).save(tmp_path / "tall.png")
    out = str(tmp_path / "pixels.safetensors")
    seen = set()
    for flags, crops, resize in (
        (["--pan-and-scan"], "transformers", "pillow"),
        (["--pan-and-scan", "--policy", "gemma_pytorch", "--resize", "pillow12.1"], "gemma_pytorch", "pillow12.1"),
        (["--resize", "float"], None, "float"),
    ):
        result = json_of(capsys, "preprocess", str(tmp_path / "tall.png"), "-o", out, *flags)
        expected = preprocess(tall, CROPS[crops] if crops else None, resize=resize)
        assert (result["boxes"], result["shape"]) == (expected.boxes.tolist(), list(expected.pixels.shape))
        pixels = load_file(out)["pixels"]
        np.testing.assert_array_equal(pixels, expected.pixels)
        seen.add(pixels[0].tobytes())
    assert len(seen) == 3
    assert main(["preprocess", str(tmp_path / "tall.png"), "-o", out]) == 0
    assert capsys.readouterr() == ("shape [1, 3, 896, 896]\nboxes []\n", "")


def test_a_process_prints_json_alone(wide, tmp_path):
    done = command("preprocess", str(wide), "-o", str(tmp_path / "p"), "--pan-and-scan", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    result = json.loads(done.stdout)
    assert (result["shape"], result["boxes"]) == ([3, 3, 896, 896], [[0, 0, 300, 376], [0, 376, 300, 751]])


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["crops", "0x100"], "crops: size: wanted sides of at least 1 pixel, got 0x100"),
        (["crops", "100x100", "-o", "a.png"], "crops: image: wanted a picture to draw on, got only a size, 100x100"),
        (["crops", "100"], "100: image: wanted a readable file, got No such file or directory"),
        (["crops", "3x4x5"], "3x4x5: image: wanted a readable file, got No such file or directory"),
        (["crops", "9x9", "--min-ratio", "nan"], "crops: min_ratio: wanted a finite number above 0, got nan"),
        (["crops", "9x9", "--min-ratio", "0"], "crops: min_ratio: wanted a finite number above 0, got 0.0"),
        (["crops", "9x9", "--min-crop", "0"], "crops: min_crop: wanted 1 pixel or more, got 0"),
        (["crops", "9x9", "--max-crops", "513"], "crops: max_crops: wanted 1 to 512, got 513"),
        (["crops", "9x9", "--policy", "mine"], "argument --policy: invalid choice: 'mine'"),
        (["crops", "wide.png", "-o", "out"], "out: output file: wanted an ending that Pillow writes"),
        (["crops", "wide.png", "-o", "a.exe"], "a.exe: output file: wanted an ending that Pillow writes, such as"),
        (["crops", "wide.png", "-o", "wide.png"], "output file: wanted another file than what is read, got the same"),
        (["crops", "wide.png", "-o", "no/a.png"], "output file: wanted a place that can be written, got No such file"),
        (["crops", "wide.png", "-o", "folder.png"], "output file: wanted a name for a file, got a folder or device"),
        (["crops", "text.png"], "text.png: image: wanted a file that Pillow can read, got no image"),
        (["preprocess", "wide.png"], "the following arguments are required: -o/--out"),
        (["preprocess", "text.png", "-o", "p"], "text.png: image: wanted a file that Pillow can read, got no image"),
        (["preprocess", "cut.png", "-o", "p"], "cut.png: image: wanted a whole and sound file, got "),
        (["preprocess", "wide.png", "-o", "wide.png"], "output file: wanted another file than what is read"),
        (["preprocess", "wide.png", "-o", "no/p"], "output file: wanted a place that can be written, got "),
        (["preprocess", "wide.png", "-o", "folder.png"], "output file: wanted a name for a file"),
        (["preprocess", "wide.png", "-o", "p", "--resize", "nearest"], "argument --resize: invalid choice: 'nearest'"),
        (["preprocess", "wide.png", "-o", "p", "--policy", "gemma_pytorch"], "--pan-and-scan beside it, got none"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_in_one_line_and_leaves_nothing(capsys, wide, tmp_path, monkeypatch, arguments, line):
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "cut.png").write_bytes(wide.read_bytes()[:-999])
    (tmp_path / "folder.png").mkdir()
    monkeypatch.chdir(tmp_path)
    before = {path: path.stat().st_size for path in tmp_path.iterdir()}
    assert line in refusal(capsys, *arguments)
    assert {path: path.stat().st_size for path in tmp_path.iterdir()} == before
