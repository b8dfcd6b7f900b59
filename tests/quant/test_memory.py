"""Memory: counted bytes are those of real arrays and files, and the report's cells stand beside."""

from math import prod

import numpy as np
import pytest
from support.command_line import json_of

import ref
from ref.cli import main
from ref.config import SIZES, VISION
from ref.errors import BadInput
from ref.model.cache import empty_cache
from ref.model.count import count_params
from ref.quant.memory import KEYS, PLAIN, REPORT, WEIGHTS, fits, kv_bytes, matrix_bytes, memory, weights_bytes
from ref.quant.write import quantize
from ref.weights.names import vision_name
from ref.weights.vision import wanted_vision_shapes

RELEASED = ("270m", "1b", "4b", "12b", "27b")


@pytest.mark.parametrize("size", RELEASED)
def test_plain_weights_are_parameters_times_their_width(size):
    counts = count_params(size)
    text = counts["embedding"] + counts["non_embedding"]
    for kind, each in PLAIN.items():
        assert weights_bytes(SIZES[size], kind) == text * each
    row = memory(size)
    assert row["weights_bytes"] == 2 * counts["total"]
    assert row["total_bytes"] == row["weights_bytes"] + row["kv_bytes"]


@pytest.mark.parametrize("kind", ["int4", "sfp8"])
def test_quantised_bytes_are_those_that_quantize_writes(tmp_path, kind):
    tiny = ref.load("tiny")
    tiny = tiny._replace(vision=None)
    folder = quantize(tiny, WEIGHTS[kind], tmp_path / "out")
    data = (folder / "model.safetensors").read_bytes()
    header = int.from_bytes(data[:8], "little")
    assert len(data) - 8 - header == weights_bytes(tiny.params.config, kind)


@pytest.mark.parametrize("context", [1, 3, 5, 6, 40])
@pytest.mark.parametrize("size", ["tiny", "270m"])
def test_cache_bytes_are_those_of_the_cache(size, context):
    config = SIZES[size]
    cache = empty_cache(config, np.zeros(1, int), context, np.float32)
    held = sum(layer.k.nbytes + layer.v.nbytes for layer in cache.layers)
    assert kv_bytes(config, context, "float32") == held


@pytest.mark.parametrize(
    ("size", "ring", "full"),
    [("1b", 0.146, 0.872), ("4b", 0.793, 4.563), ("12b", 2.483, 12.885), ("27b", 3.121, 16.643)],
)
def test_cache_at_the_report_s_context(size, ring, full):
    assert round(kv_bytes(SIZES[size], 32_768) / 1e9, 3) == ring
    assert round(kv_bytes(SIZES[size], 32_768, all_global=True) / 1e9, 3) == full
    assert kv_bytes(SIZES[size], 32_768, "int8", True) * 2 == kv_bytes(SIZES[size], 32_768, "bfloat16", True)


def test_what_is_said_of_the_report_s_cache_is_so():
    """NOT_REPRODUCIBLE, clause by clause; each increment is the difference of two figures rounded to 0.1."""
    for size, cells in REPORT.items():
        full, rings = (kv_bytes(SIZES[size], 32_768, all_global=every) / 1e9 for every in (True, False))
        for alone, both in cells.values():
            increment = both - alone
            if size in ("1b", "4b"):
                assert abs(increment - full) <= 0.15
            else:
                assert increment > full + 0.15
            for other in (full / 2, rings):  # 8 bits, and rings of 16
                assert increment > other + 0.15


def test_text_weights_are_the_report_s_where_both_count_the_same():
    """To the report's digits; its figures of 4B and 12B lie between the text model's and those with the tower."""
    for size, kind, cell in (("1b", "bfloat16", 2.0), ("27b", "bfloat16", 54.0), ("1b", "sfp8", 1.0)):
        assert REPORT[size][kind][0] == cell == round(weights_bytes(SIZES[size], kind) / 1e9, 1)


@pytest.mark.parametrize("context", [10**15 + 1, 10**400 + 1])
def test_any_number_of_tokens_is_counted_exactly(context):
    config = SIZES["1b"]  # 26 layers, every 6th of them global; one head of 256
    local = 22 * 512
    for kind, row in (("bfloat16", 512), ("q8_0", 8 * 34)):
        assert kv_bytes(config, context, kind) == 2 * row * (local + 4 * context)
        assert kv_bytes(config, context, kind, True) == 2 * row * 26 * context


def test_a_block_that_is_not_full_takes_all_its_bytes():
    row = SIZES["tiny"].kv_heads * SIZES["tiny"].head_dim
    assert row == 30
    assert kv_bytes(SIZES["tiny"], 4, "q8_0", True) == 2 * 7 * 4 * 34
    assert kv_bytes(SIZES["tiny"]._replace(head_dim=11), 4, "q8_0", True) == 2 * 7 * 4 * 2 * 34


@pytest.mark.parametrize(("kind", "each"), [("float32", 4), ("bfloat16", 2), ("float16", 2), ("int4", 2), ("q8_0", 2)])
def test_the_tower_is_held_as_plain_matrices_are_and_else_in_bfloat16(kind, each):
    shapes = wanted_vision_shapes(VISION["4b"], SIZES["4b"].width, vision_name)
    assert memory("4b", weights=kind)["vision_bytes"] == each * sum(map(prod, shapes.values()))
    assert memory("1b", weights=kind)["vision_bytes"] == 0


def test_default_formats_that_do_not_fit_are_left_out(capsys):
    rows = json_of(capsys, "memory", "tiny", "1b")
    kinds = [(row["name"], row["weights_format"]) for row in rows]
    assert kinds[:3] == [("tiny", "bfloat16"), ("tiny", "int4"), ("tiny", "sfp8")]
    assert [kind for name, kind in kinds if name == "1b"] == ["bfloat16", "int4", "q4_0", "sfp8"]
    assert [kind for kind in WEIGHTS if not fits(SIZES["tiny"], kind)] == ["q4_0", "q8_0"]


def test_each_cell_stands_beside_the_report_s_with_the_difference():
    row = memory("27b", weights="int4")
    assert row["report"] == {"weights_gb": 14.1, "with_kv_gb": 32.8}
    text, vision, kv = (row[name] / 1e9 for name in ("text_bytes", "vision_bytes", "kv_bytes"))
    wanted = {"text": text - 14.1, "weights": text + vision - 14.1, "kv": kv - 18.7}
    assert row["difference"] == {name: round(value, 3) for name, value in wanted.items()}
    assert memory("27b", context=1024)["report"] is None
    assert memory("270m")["report"] is None
    assert memory("27b", weights="q8_0")["report"] is None


def test_blocks_and_scales_are_counted():
    assert matrix_bytes(3, 64, "q4_0") == 3 * 2 * 18
    assert matrix_bytes(3, 64, "q8_0") == 3 * 2 * 34
    assert matrix_bytes(3, 64, "int4") == 3 * (32 + 4)
    assert matrix_bytes(3, 64, "sfp8") == 3 * (64 + 4)


def test_command(capsys):
    row = json_of(capsys, "memory", "4b", "--weights-format", "Q4_0", "--kv-format", "int8", "--context", "100")
    assert (row["weights_format"], row["kv_format"], row["context"]) == ("q4_0", "int8", 100)
    assert row["kv_bytes"] == 2 * 4 * 256 * 34 * 100
    rows = json_of(capsys, "memory")
    assert len(rows) == 5 * 4
    assert main(["memory", "1b", "27b"]) == 0
    told = capsys.readouterr().out
    assert "54.018 (54.0 +0.02)" in told
    assert "no reading of its caption" in told
    assert main(["memory", "270m"]) == 0
    assert "caption" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["9b"], "9b"),
        (
            ["1b", "--weights-format", "Q9"],
            "weights format: wanted one of float32, bfloat16, float16, q4_0, q8_0, int4, ",
        ),
        (["1b", "--weights-format", "Q9"], "sfp8, got Q9"),
        (["1b", "--kv-format", "Q9"], "KV format: wanted one of float32, bfloat16, float16, int8, q8_0, got Q9"),
        (["1b", "tiny", "--weights-format", "q8_0"], "memory tiny: width: wanted a multiple of 32, the block of q8_0"),
        (["1b", "--context", "9" * 400], "context: wanted at most 9223372036854775807 tokens, got 999"),
        (["1b", "--context", "0"], "context: wanted at least 1 token, got 0"),
    ],
)
def test_bad_input_is_one_line(capsys, arguments, line):
    assert main(["memory", *arguments]) == 2
    told = capsys.readouterr().err
    assert line in told
    assert told.count("\n") == 1


def test_plot(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    for suffix, first in ((".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")):
        path = tmp_path / f"kv{suffix}"
        assert main(["memory", "4b", "--plot", str(path)]) == 0
        assert path.read_bytes().startswith(first)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["kv.pdf", "kv.png", "kv.svg"]
    text = (tmp_path / "kv.svg").read_text()
    assert text.rstrip().endswith("</svg>")
    capsys.readouterr()
    assert main(["memory", "4b", "--plot", str(tmp_path / "kv.gif")]) == 2
    assert main(["memory", "4b", "--plot", str(tmp_path / "no/kv.png")]) == 2
    assert "a place to write to" in capsys.readouterr().err


def test_all_formats_are_known_by_one_name():
    assert set(REPORT["1b"]) <= {*PLAIN, *WEIGHTS}
    assert "bfloat16" in KEYS
    with pytest.raises(BadInput, match="a multiple of 32, the block of q4_0, got 36"):
        weights_bytes(SIZES["tiny"], "q4_0")


@pytest.mark.parametrize(("context", "there"), [("32768", True), ("131072", False)])
def test_the_head_names_brackets_where_there_are_some(capsys, context, there):
    assert main(["memory", "4b", "--context", context]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert ("(report's figure, difference)" in head) == there == any("(" in row for row in rows[:3])
