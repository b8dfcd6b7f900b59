"""What llama-eval-callback prints, read back onto our taps.

`llama_eval_callback.txt` was printed by llama.cpp itself (commit 0c1e57098, `common/debug.cpp`, linked with the
libraries of llama-cpp-python 0.3.36) of the model SMALL in float32, fused attention off; some of its nodes.
"""

import re
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.checkpoints import SMALL

from ref.dump.read_llama_text import read_llama_ids, read_llama_text
from ref.errors import BadInput
from ref.model.taps import Recorder
from ref.model.text import How, forward
from ref.ops import DEFINITION
from ref.weights.synthetic import synthetic_params

PRINTED = Path(__file__).parents[1] / "support/llama_eval_callback.txt"
IDS = [2, 7, 96, 0, 45, 45, 31, 8, 60]
LAYER_0 = [
    "attn.q",
    "attn.k_norm",
    "attn.k_rope",
    "attn.scores",
    "attn.probs",
    "attn.mix",
    "attn.out",
    "ffn.act",
    "out",
]
SHAPES = {
    "text.embed": (1, 9, 64),
    "text.layer.0.attn.q": (1, 9, 4, 24),
    "text.layer.0.attn.k_rope": (1, 9, 2, 24),
    "text.layer.0.attn.scores": (1, 4, 9, 9),
    "text.layer.0.attn.mix": (1, 9, 4, 24),
    "text.layer.0.attn.out": (1, 9, 64),
    "text.layer.0.ffn.act": (1, 9, 160),
    "text.layer.6.out": (1, 1, 64),
    "text.logits": (1, 1, 97),
}


def test_listed_values_stand_where_ours_do():
    taps = read_llama_text(PRINTED)
    assert list(taps) == [
        "text.embed",
        *(f"text.layer.0.{name}" for name in LAYER_0),
        "text.layer.6.out",
        "text.logits",
    ]
    assert {tap: taps[tap].shape for tap in SHAPES} == SHAPES
    recorder = Recorder("*")
    forward(synthetic_params(SMALL, 5, bfloat16=False), [IDS], How(ops=DEFINITION, dtype=np.float64, taps=recorder))
    for tap, one in taps.items():
        assert (one.dtype, one.step) == ("f32", 0.5e-4)
        assert one.first_token == (8 if one.shape[1] == 1 else 0)
        wanted = recorder.values[tap][:, one.first_token :] if one.first_token else recorder.values[tap]
        assert wanted.shape == one.shape, tap
        here = wanted[tuple(one.places.T)]
        # what float16 does to keys and GELU; the values are of size 1, and a wrong place is off by as much
        np.testing.assert_allclose(one.values, here, rtol=0, atol=8e-3 * np.abs(here).max(), err_msg=tap)
        assert np.linalg.norm(one.values - here) < 5e-3 * np.linalg.norm(here), tap
        assert abs(one.sum - wanted.sum()) < 2e-3 * np.abs(wanted).sum(), tap


def test_axes_longer_than_six_show_three_of_each_end():
    taps = read_llama_text(PRINTED)
    q = taps["text.layer.0.attn.q"]
    ends = [0, 1, 2, 93, 94, 95]  # of 4 heads of 24, which are printed as one axis
    tokens = [0, 1, 2, 6, 7, 8]
    assert q.places.tolist() == [[0, t, i // 24, i % 24] for t in tokens for i in ends]
    scores = taps["text.layer.0.attn.scores"]
    assert scores.places.tolist() == [[0, n, t, s] for n in range(4) for t in tokens for s in range(3)]  # 256 printed
    assert (q.node, scores.node, taps["text.layer.0.attn.out"].node[:5]) == ("Qcur-0", "kq-0", "node_")


def test_ids_are_read_where_stderr_is_there(tmp_path):
    assert read_llama_ids(PRINTED) == IDS
    text = PRINTED.read_text()
    (tmp_path / "out").write_text(text[text.index("common_debug") :])
    assert read_llama_ids(tmp_path / "out") == []
    (tmp_path / "cut").write_text("number of input tokens = 3\n  2\n  7\n")
    with pytest.raises(BadInput, match="token ids: wanted 3 lines, each ending with one"):
        read_llama_ids(tmp_path / "cut")
    for count, word in (("1", "9" * 30), ("9" * 30, "2"), ("9" * 5000, "2"), ("1", "²"), ("1", "٣"), ("1", "-2")):
        (tmp_path / "cut").write_text(f"number of input tokens = {count}\n  {word}\n")
        with pytest.raises(BadInput, match="token ids: wanted") as error:
            read_llama_ids(tmp_path / "cut")
        assert len(str(error.value).splitlines()) == 1


def printed(name: str, op: str, value: np.ndarray, source="x", function="common_debug_cb_eval") -> str:
    """Print a [i3, i2, i1, i0] array as `common_debug_print_tensor` does: its loops, written again for this test."""
    sizes = ", ".join(str(size) for size in value.shape[::-1])
    out = [f"{function}: {name:>24} = (f32) {op:>10}({source}{{1, 1, 1, 1}}, y{{1, 1, 1, 1}}}}) = {{{sizes}}}\n"]
    with np.errstate(all="ignore"):
        total = value.sum(dtype=np.float32)
    for cube in value:
        out.append("    [\n")
        for i2, plane in enumerate(cube):
            if not _skipped(i2, len(cube), out, "        ..., \n"):
                out.append("        [\n")
                for i1, row in enumerate(plane):
                    if not _skipped(i1, len(plane), out, "            ..., \n"):
                        _print_row(row, out)
                out.append("        ],\n")
        out.append(f"    ]\n    sum = {total:f}\n")
    return "".join(out)


def _skipped(i: int, size: int, out: list[str], mark: str) -> bool:
    if i == 3 and size > 6:
        out.append(mark)
    return size > 6 and 3 <= i < size - 3


def _print_row(row, out):
    out.append("            [")
    for i0, value in enumerate(row):
        if not _skipped(i0, len(row), out, "   ..., "):
            out.append(f"{value:12.4f}" + (", " if i0 < len(row) - 1 else ""))
    out.append("  ],\n")


SPECIAL = st.sampled_from([np.nan, np.inf, -np.inf, -0.0, 1e9, 1e-9])


@given(st.integers(1, 15), st.integers(1, 9), st.integers(1, 3), st.integers(1, 9), st.integers(0, 99), st.data())
def test_any_size_and_value_is_read_back(tmp_path_factory, tokens, heads, wide, head_dim, seed, data):
    path = tmp_path_factory.mktemp("text") / "out.txt"
    draw = np.random.default_rng(seed)
    stream = draw.normal(size=(1, 1, tokens, wide)).astype(np.float32)
    stream[0, 0, -1, -1] = data.draw(SPECIAL)
    rope = draw.normal(size=(1, tokens, heads, head_dim)).astype(np.float32) * 100
    mix = draw.normal(size=(1, 1, tokens, heads * head_dim)).astype(np.float32)
    nodes = [("inp_scaled", "SCALE", stream), ("Kcur-2", "ROPE", rope), ("kqv_out-2", "RESHAPE", mix)]
    text = "build: 7\n" + "".join(printed(*one) + "llama_perf: 3 ms\n" for one in nodes)
    path.write_text(text.replace("common_debug_cb_eval", "ggml_debug") if seed % 2 else text)
    got = read_llama_text(path)
    wanted = {
        "text.embed": stream[0],
        "text.layer.2.attn.k_rope": rope,
        "text.layer.2.attn.mix": mix.reshape(1, tokens, heads, head_dim),
    }
    for tap, value in wanted.items():
        one = got[tap]
        assert one.shape == value.shape
        np.testing.assert_allclose(one.values, value[tuple(one.places.T)], rtol=0, atol=one.step * 1.001)
        assert len({tuple(place) for place in one.places.tolist()}) == len(one.values)
    ends = [list(range(n)) if n <= 6 else [0, 1, 2, n - 3, n - 2, n - 1] for n in (tokens, wide)]
    assert got["text.embed"].places.tolist() == [[0, t, d] for t, d in product(*ends)]
    assert np.isnan(got["text.embed"].sum) == bool(np.isnan(stream).any())


ONE = printed("inp_scaled", "SCALE", np.ones((1, 1, 2, 7), np.float32))
MIX = printed("kqv_out-0", "CONT", np.ones((1, 1, 2, 12), np.float32))
BROKEN = {
    "nothing": ("", "llama.cpp text: wanted what llama-eval-callback prints of a Gemma 3, got no node"),
    "another text": ("sum = 3\n[ 1.0 ]\n", "got no node of it"),
    "twice": (ONE + ONE, "node inp_scaled: wanted one pass, each node once, got it again"),
    "cut": (ONE[: ONE.index("sum")], "node inp_scaled: wanted values that end with their sum, got the end of the text"),
    "no values": (ONE.splitlines()[0] + "\n" + ONE, "wanted numbers and brackets up to its sum, got common_debug"),
    "a word": (ONE.replace("1.0000,", "1.0000, fatal,", 1), "node inp_scaled: wanted numbers and brackets up to"),
    "a row less": (re.sub(r" +\[ +1.*\n", "", ONE, count=1), r"wanted 2 rows of 6 values, got 1 of \[6\]"),
    "a value less": (ONE.replace("1.0000, ", "", 1), r"wanted 2 rows of 6 values, got 2 of \[5, 6\]"),
    "no heads": (MIX, "heads of node kqv_out-0: wanted a head_dim that divides its width, got None"),
    "size 0": (ONE.replace("= {7, 2,", "= {7, 0,"), "sizes of node inp_scaled: wanted 1 to 1099511627776 values"),
    "two rows": (ONE.replace("= {7, 2, 1, 1}", "= {7, 1, 2, 1}"), "sizes of node inp_scaled: wanted one batch row"),
    "huge": (ONE.replace("= {7, 2,", "= {7, 99999999999999999999,"), "sizes of node inp_scaled: wanted 1 to"),
}


@pytest.mark.parametrize(("text", "says"), BROKEN.values(), ids=BROKEN)
def test_malformed_text_is_refused_in_one_line(tmp_path, text, says):
    (tmp_path / "out.txt").write_text(text)
    with pytest.raises(BadInput, match=says) as refusal:
        read_llama_text(tmp_path / "out.txt")
    assert len(str(refusal.value).splitlines()) == 1


def test_heads_need_a_head_dim_that_fits(tmp_path):
    (tmp_path / "out.txt").write_text(MIX)
    assert read_llama_text(tmp_path / "out.txt", head_dim=4)["text.layer.0.attn.mix"].shape == (1, 2, 3, 4)
    with pytest.raises(BadInput, match="wanted a head_dim that divides its width, got 5"):
        read_llama_text(tmp_path / "out.txt", head_dim=5)


def test_no_file_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"llama\.cpp text: wanted a readable file, got No such file"):
        read_llama_text(tmp_path / "out.txt")


@given(st.text(alphabet="01.,[]{}()= \n-:snumSCALEip_f32", max_size=300), st.integers(0, 500))
def test_any_damage_is_read_or_refused(tmp_path_factory, damage, place):
    path = tmp_path_factory.mktemp("text") / "out.txt"
    path.write_text(ONE[:place] + damage + ONE[place:])
    said = ""
    try:
        read_llama_text(path)
        read_llama_ids(path)
    except BadInput as refusal:
        said = str(refusal)
    assert "\n" not in said
