"""`explore`: what it says is what the arrays hold; what it cannot say is refused in one line."""

import base64
import json
import zlib

import numpy as np
import pytest
from support.command_line import command, json_of
from support.explored import plotly, with_images

import ref
from ref.cli import main
from ref.errors import BadInput
from ref.show.explore import explore, packed
from ref.show.lens import logit_lens


def unpacked(data):
    """Read attention as the page does: {layer: [N, T, T]}."""
    T, wide, out = len(data["ids"]), data["attention"]["bits"] == 16, {}
    for layer, text in zip(data["attention"]["layers"], data["attention"]["data"], strict=True):
        raw, at = zlib.decompress(base64.b64decode(text)), 0
        flat = np.frombuffer(raw, "<u2") / 65535 if wide else (np.frombuffer(raw, "u1") / 255) ** 2
        ranges = np.array(data["ranges"]["kinds"][data["ranges"]["of"][layer]]).reshape(T, 2)
        out[layer] = np.zeros((data["heads"], T, T))
        for n in range(data["heads"]):
            for t, (first, stop) in enumerate(ranges):
                out[layer][n, t, first:stop] = flat[at : at + stop - first]
                at += stop - first
        assert at == len(flat)
    return out


def test_attention_is_packed_to_its_steps(real, explored):
    data = packed(explored, 10**7)
    assert data["attention"]["bits"] == 16
    for layer, probs in unpacked(data).items():
        assert np.abs(probs - real[2][f"text.layer.{layer}.attn.probs"][0]).max() <= 1 / 65535


def test_attention_is_made_coarser_then_thinned_where_there_is_no_room():
    explored = explore(ref.load("tiny"), [5 + i % 80 for i in range(90)])  # of 84 heads

    def packs(room):
        data = packed(explored, room)
        size = len(json.dumps(data, separators=(",", ":")))
        assert size <= room
        for layer, probs in unpacked(data).items():
            assert np.abs(probs - explored.attention[layer]).max() <= 1 / 255
        assert len(data["lens"]["ids"][0][0]) == 5
        return size, data["attention"]["bits"], data["attention"]["layers"]

    whole, bits, layers = packs(10**7)
    assert (bits, len(layers)) == (16, 7)
    coarse, bits, layers = packs(whole - 2000)
    assert (bits, len(layers)) == (8, 7)
    _, bits, layers = packs(coarse - 6000)
    assert bits == 8
    assert 1 <= len(layers) < 7
    assert layers[-1] == 6


def test_where_the_facts_take_most_of_the_room_the_lens_has_fewer_tokens(explored):
    facts = len(json.dumps(packed(explored, 10**7) | {"attention": None}, separators=(",", ":")))
    short = packed(explored, facts + 3000)["lens"]
    assert len(short["ids"][3][2]) in (1, 3)
    assert explored.facts["lens"]["ids"][3][2][: len(short["ids"][3][2])] == short["ids"][3][2]
    assert len(explored.facts["lens"]["ids"][3][2]) == 5


def test_the_lens_ends_with_the_models_own_predictions(real):
    loaded, _, taps, logits = real
    streams = np.stack([taps["text.layer.0.in"][0], *(taps[f"text.layer.{i}.out"][0] for i in range(18))])
    lens = logit_lens(loaded.params, streams, top=3)
    wide = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    wide /= wide.sum(-1, keepdims=True)
    np.testing.assert_array_equal(lens.ids[-1, :, 0], logits.argmax(-1))
    # logits of 640 terms, summed in another order for other numbers of rows and threads, part by some of their steps
    steps = 16 * float(np.spacing(np.float32(abs(logits).max())))
    np.testing.assert_allclose(lens.probs[-1], -np.sort(-wide, axis=-1)[:, :3], rtol=steps)


def test_lengths_are_those_of_the_rows(real, explored):
    norms, taps = explored.facts["norms"], real[2]
    assert len(norms["stream"]) == 19
    for i in (0, 5, 17):
        np.testing.assert_allclose(
            norms["stream"][i], np.linalg.norm(taps[f"text.layer.{i}.in"][0], axis=-1), rtol=1e-4
        )
        added = np.linalg.norm(taps[f"text.layer.{i}.attn.post_norm"][0], axis=-1)
        np.testing.assert_allclose(norms["attn"][i], added, rtol=1e-4)


def test_images_are_views_with_the_places_of_their_soft_tokens():
    loaded, ids, images, photos = with_images()
    facts = explore(loaded, ids, None, images, photos).facts
    assert [(one["first"], one["photo"], one["box"]) for one in facts["views"]] == [
        (2, 0, -1), *((7 + 5 * i, 0, i) for i in range(len(photos[0].boxes))), (7 + 5 * len(photos[0].boxes), 1, -1)
    ]  # fmt: skip
    assert len(photos[0].boxes) > 1
    assert [one["boxes"] for one in facts["photos"]] == [one.boxes.tolist() for one in photos]
    assert facts["texts"][:3] == ["2", "30", ""]


def test_a_long_prompt_is_refused_before_it_is_run():
    with pytest.raises(BadInput, match="explore: prompt: wanted at most 1280 tokens, got 1281"):
        explore(ref.load("tiny"), [5] * 1281)


@plotly
@pytest.mark.parametrize("name", ["image", "ids"])
def test_a_file_that_is_read_is_not_overwritten(tmp_path, capsys, name):
    from PIL import Image

    path = tmp_path / ("photo.png" if name == "image" else "ids.txt")
    if name == "image":
        Image.new("RGB", (60, 60)).save(path)
        given = ["--image", str(path), "--ids", "5,97,97,97,97,6"]
    else:
        path.write_text("5,6,7")
        given = ["--ids", str(path)]
    before = path.read_bytes()
    assert main(["explore", "--weights", "tiny", *given, "-o", str(path)]) == 2
    assert "output file: wanted another file than what is read, got the same" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_there_must_be_room_for_the_facts(explored):
    with pytest.raises(BadInput, match="explore: page: wanted at most 1000 bytes of data"):
        packed(explored, 1000)


@plotly
def test_the_command_writes_a_small_page_and_says_so(tmp_path, capsys):
    path = tmp_path / "page.html"
    facts = json_of(capsys, "explore", "--ids", "5,6,7", "--weights", "tiny", "-o", str(path))
    assert facts == {"page": str(path), "bytes": path.stat().st_size, "tokens": 3, "layers": 7}
    assert facts["bytes"] < 8_000_000
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (["one", "two"], "prompt: wanted one, got 2 texts"),
        ([], "prompt: wanted a text or --ids, got neither"),
        (["--ids", "5,6", "-o", "{}/no/page.html"], "no/page.html: output file: wanted a place that can be written"),
        (["--ids", "5,6", "-o", "{}"], "output file: wanted a name for a file, got a folder or device"),
        (["--ids", "5,6", "-o", "."], "output file: wanted a name for a file, got a folder or device"),
        (["--ids", "5,6", "-o", ""], "output file: wanted a name for a file, got a folder or device"),
        (["--ids", "5,99999"], "wanted"),
    ],
)
@plotly
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, capsys, given, line):
    given = [one.replace("{}", str(tmp_path)) for one in given]
    out = [] if "-o" in given else ["-o", str(tmp_path / "page.html")]
    assert main(["explore", "--weights", "tiny", *given, *out]) == 2
    said = capsys.readouterr().err
    assert line in said
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_explore_stands_in_the_help():
    assert "explore" in command("--help").stdout
