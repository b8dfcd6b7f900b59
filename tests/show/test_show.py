"""What notebooks show: shapes with axes, sources, plots that hold the numbers they were given."""

import inspect

import numpy as np
import pytest

import ref
from ref.config import CROPS, SIZES
from ref.errors import BadInput
from ref.model.taps import Recorder
from ref.model.text import How
from ref.ops.norm import rms_norm
from ref.ops.visibility import visible_ranges
from ref.prompt.chat import render_chat
from ref.show.lens import Lens, plot_lens
from ref.show.words import shapes, source, verdict
from ref.testing import break_port

plots = pytest.importorskip("ref.show.plots")
image_plots = pytest.importorskip("ref.show.image_plots")
pytest.importorskip("matplotlib")
from ref.show.canvas import INK, readable  # noqa: E402


@pytest.fixture(scope="module")
def taps():
    recorder = Recorder()
    ref.forward(ref.load("tiny").params, [[5, 6, 7]], How(taps=recorder))
    return recorder.values


def test_shapes_name_axes_and_what_a_value_is_made_of(taps):
    lines = shapes(taps, layer=2).splitlines()
    [line] = [line for line in lines if " " in line and line.split()[0] == "text.layer.2.attn.q_rope"]
    assert "B=1 T=3 N=12 H=10" in line
    assert line.endswith("float32   rotate(attn.q_norm)")
    assert [line.split()[0] for line in lines] == [tap for tap in taps if ".layer." not in tap or ".layer.2." in tap]
    assert len(shapes(taps, layer=None).splitlines()) == len(taps)
    assert len(shapes(taps).splitlines()) == len(taps)
    assert "?=4 ?=5" in shapes({"text.layer.5.attn.q": np.zeros((4, 5))})
    assert shapes({"own": np.zeros((2, 3))}) == f"{'own':<30} {'?=2 ?=3':<24} float64   "


def test_source_is_the_functions_own_with_or_without_its_docstring():
    pytest.importorskip("IPython")
    assert inspect.getsource(rms_norm).rstrip() in source(rms_norm).data
    short = source(rms_norm, doc=False).data
    assert '"""' not in short
    assert "def rms_norm(x: np.ndarray, scale: np.ndarray, eps: float) -> np.ndarray:\n    wide = " in short
    assert short.endswith("astype(x.dtype)\n```")
    assert source(render_chat, doc=False).data.count('"""') == 0  # its docstring is a raw one
    assert "r\n" not in source(render_chat, doc=False).data.splitlines()


def test_verdict_is_the_line_that_compare_ends_with(tmp_path):
    loaded = ref.load("tiny")
    port = break_port(tmp_path / "port", loaded, [20, 21, 22, 23], "ffn_silu", 1)
    said = verdict(port.path, loaded)
    assert said.startswith("verdict: bug, first at text.layer.1.ffn.act")
    assert max(map(len, said.splitlines())) <= 110


def images(figure):
    return [one.get_images()[0].get_array() for one in figure.axes if one.get_images()]


def test_visibility_is_drawn_cell_by_cell():
    ranges = visible_ranges(np.zeros((1, 6), int), 0, 3)[0]
    figure = plots.plot_visibility({"local": ranges, "all": np.ones((6, 6), bool)}, list("abcdef"))
    local, every = images(figure)
    expected = [[t - 2 <= s <= t for s in range(6)] for t in range(6)]
    np.testing.assert_array_equal(np.isfinite(local.filled(np.nan)), expected)
    assert np.isfinite(every.filled(np.nan)).all()
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == list("abcdef")


def test_attention_is_drawn_head_by_head(taps):
    probs = taps["text.layer.0.attn.probs"][0]
    figure = plots.plot_attention(probs, ["a", "b", "c"], "layer 0")
    drawn = images(figure)[: len(probs)]
    np.testing.assert_allclose(np.square(drawn), probs, atol=1e-6)
    assert figure.get_suptitle() == "layer 0"


def test_wheels_stand_where_the_pair_is_turned_to():
    config = SIZES["4b"]
    figure = plots.plot_rope(256, {"local": config.rope(0), "global": config.rope(5)}, 10, pairs=(0, 64))
    dots = figure.axes[0].collections[0].get_offsets()
    np.testing.assert_allclose(dots, np.stack([np.cos(np.arange(10)), np.sin(np.arange(10))], -1), atol=1e-12)
    turns = figure.axes[5].get_lines()[0].get_ydata()
    assert turns[0] == pytest.approx(2 * np.pi * 8)


def test_crops_are_boxes_on_the_photo_and_squares_beside_it():
    image = np.random.default_rng(0).integers(0, 255, (300, 900, 3), np.uint8)
    seen = ref.preprocess(image, CROPS["transformers"])
    photo, *squares = image_plots.plot_crops(image, seen.boxes, seen.pixels).axes
    assert len(squares) == len(seen.boxes) + 1 == 4
    y0, x0, y1, x1 = seen.boxes[1]
    np.testing.assert_array_equal(photo.get_lines()[1].get_xdata(), [x0, x1, x1, x0, x0])
    np.testing.assert_array_equal(photo.get_lines()[1].get_ydata(), [y0, y0, y1, y1, y0])
    assert len(image_plots.plot_crops(image, seen.boxes).axes) == 1


@pytest.mark.parametrize("count", [256, 4096])
def test_patches_are_a_grid_or_values(count):
    pixels = np.zeros((3, 896, 896), np.float32)
    lines = [one.get_segments() for one in image_plots.plot_patches(pixels).axes[0].collections]
    assert sorted(map(len, lines)) == [17, 17, 65, 65]
    values = images(image_plots.plot_patches(pixels, np.arange(float(count))))[0]
    np.testing.assert_array_equal(
        image_plots.plot_patches(pixels, np.arange(float(count))).axes[0].get_images()[1].get_array().reshape(-1),
        np.arange(count),
    )
    assert values.shape[:2] == (896, 896)


def test_depth_marks_global_layers():
    axes = plots.plot_depth({"stream": np.arange(1, 13)}, "length", every=6).axes[0]
    np.testing.assert_array_equal(axes.get_lines()[0].get_ydata(), np.arange(1, 13))
    assert [line.get_xdata()[0] for line in axes.get_lines()[1:]] == [5, 11]
    assert len(plots.plot_depth({"stream": np.arange(1, 13)}, "length").axes[0].get_lines()) == 1


def test_lines_and_choices_hold_their_numbers():
    line = plots.plot_lines(np.arange(4), {"squares": np.arange(4) ** 2}, "x", "y").axes[0].get_lines()[0]
    np.testing.assert_array_equal(line.get_xydata(), [[0, 0], [1, 1], [2, 4], [3, 9]])
    axes = plots.plot_choices({"cold": np.array([0.9, 0.1]), "hot": np.array([0.6, 0.4])}, ["a", "b"]).axes[0]
    assert [bar.get_height() for bar in axes.patches] == [0.9, 0.1, 0.6, 0.4]
    middles = [bar.get_x() + bar.get_width() / 2 for bar in axes.patches]
    np.testing.assert_allclose(middles, [-0.2, 0.8, 0.2, 1.2])


def test_codes_are_strokes_and_counted():
    axes = plots.plot_codes({"INT4": np.arange(3.0), "SFP8": np.arange(5.0)}).axes[0]
    strokes = [[segment[0][0] for segment in one.get_segments()] for one in axes.collections]
    assert strokes == [[0, 1, 2], [0, 1, 2, 3, 4]]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["INT4: 3", "SFP8: 5"]


def test_positions_are_means_of_neighbours():
    loss, where = np.array([1.0, 2, 3, 8]), np.array([0, 6, 12, 18])
    figure = plots.plot_positions({"a": {"x": loss}, "b": {"x": loss}}, where, "nats", smooth=3, mark=5)
    curve, mark = figure.axes[1].get_lines()
    np.testing.assert_allclose(curve.get_xydata(), [[6, 2], [12, 13 / 3]])
    assert list(mark.get_xdata()) == [5, 5]
    assert figure.axes[1].get_xlabel() == "position, means of 3"


def test_floors_of_every_tap_but_those_that_are_equal():
    rows = [
        {"tap": "text.layer.0.in", "layer": 0, "local_ratio": 0.0, "inherited_ratio": 0.5},
        {"tap": "text.layer.0.attn.q", "layer": 0, "local_ratio": float("inf"), "inherited_ratio": None},
    ]
    inherited, local, limit = plots.plot_floors(rows).axes[0].get_lines()
    np.testing.assert_array_equal(inherited.get_xydata(), [[0, 0.5], [1, np.nan]])
    np.testing.assert_array_equal(local.get_xydata(), [[1, 1e9]])
    assert limit.get_ydata()[0] == 2


def test_the_lens_writes_the_likeliest_token_into_each_cell():
    lens = Lens(np.zeros((3, 2, 1), int), np.full((3, 2, 1), 0.25))
    figure = plot_lens(lens, ["a", "b"], [["x", "y"], ["$z", "的"], ["long word indeed", "\n"]])
    words = [text.get_text() for text in figure.axes[0].texts]
    assert words == ["x", "y", r"\$z", "U+7684", "long▁word…", "⏎"]
    figure.canvas.draw()  # a label that is no mathematics


def test_inks_are_readable_on_white_and_on_black():
    """WCAG's contrast of at least 3:1, which large text and graphics want."""
    level = int(INK[1:3], 16) / 255
    light = ((level + 0.055) / 1.055) ** 2.4
    assert 1.05 / (light + 0.05) >= 3
    assert (light + 0.05) / 0.05 >= 3
    figure = plots.plot_depth({"a": np.ones(3)}, "b")
    assert figure.get_facecolor()[3] == 0
    assert figure.legends[0].get_texts()[0].get_color() == INK


def test_labels_keep_spaces_seen_and_unknown_signs_numbered():
    assert readable(" a\tb") == "▁a⇥b"
    assert readable("x" * 20) == "x" * 11 + "…"


def test_without_matplotlib_a_plot_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(BadInput, match=r'plot_depth: matplotlib: wanted pip install -e "\.\[plot\]", got not inst'):
        plots.plot_depth({"a": np.ones(3)}, "b")
