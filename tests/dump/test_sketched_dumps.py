"""Small dumps on the disk: what is read of one are the whole dump's values, at the registry's places."""

import json
from typing import Any

import einops
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import ref
from ref.dump.align import values_of
from ref.dump.open import open_dump
from ref.dump.sketch import sketch
from ref.dump.sketching import sketching
from ref.dump.trace import trace
from ref.dump.write import DumpWriter, load_pass, read_dump
from ref.errors import BadInput
from ref.model.taps import row_of
from ref.model.text import How
from ref.ops import KERNEL
from ref.record import Recorder, Sketch

CONFIG = {"width": 12, "query_heads": 4, "kv_heads": 2, "head_dim": 5, "ffn_width": 40, "layers": 2, "vocabulary": 97}
IDS = [2, 5, 7, 9, 11, 13]


def whole_dump(folder, steps=1):
    trace(ref.load("tiny"), [IDS], folder, How(KERNEL, np.float32), ["*"], steps)
    return folder


def sketches(folder) -> Any:
    """Return those of the first pass."""
    return open_dump(folder).partial[0]


def is_as_whole(shown, whole, tap):
    """Compare what a sketch says with the whole value, in the registry's axes."""
    kept, value = shown.read(), values_of(whole.read())
    assert kept.shape == value.shape
    assert kept.real.all()
    np.testing.assert_array_equal(kept.values, value[kept.places])
    if not row_of(tap).integers:
        other = tuple(axis for axis in range(value.ndim) if axis != kept.axis)
        norms = np.sqrt(np.square(value, dtype=np.float64).sum(axis=other))
        np.testing.assert_allclose(kept.norms, norms, rtol=6e-8)


def test_a_small_dump_of_a_whole_one_says_the_same(tmp_path):
    whole = open_dump(whole_dump(tmp_path / "whole"))
    small = open_dump(sketch(tmp_path / "whole", tmp_path / "small", values=20, seed=3))
    assert len(small.partial) == len(whole.passes) == 2
    for one, kept in zip(whole.passes, small.passes, strict=True):
        shown = small.partial[one.number]
        assert shown.keys() | kept.tensors.keys() == one.tensors.keys()
        assert shown
        for tap, sketched in shown.items():
            is_as_whole(sketched, one.tensors[tap], tap)
        for tap, tensor in kept.tensors.items():
            np.testing.assert_array_equal(tensor.load(), one.tensors[tap].load())


def test_a_capture_and_a_dump_made_small_are_the_same_files(tmp_path):
    whole_dump(tmp_path / "whole")
    sketch(tmp_path / "whole", tmp_path / "small", values=20)
    with sketching(20):
        whole_dump(tmp_path / "at once")
    for name in ("dump.json", "pass0000.safetensors", "pass0001.safetensors"):
        assert (tmp_path / "small" / name).read_bytes() == (tmp_path / "at once" / name).read_bytes()
    assert "sketch" not in read_dump(whole_dump(tmp_path / "again"))


@pytest.mark.parametrize("layout", ["B T N H", "B N T H", "T (N H)", "(B T) H N", "N H T", "K G T H", "H (K G) T"])
def test_places_go_with_the_axes_whatever_the_layout(layout, tmp_path):
    value = np.random.default_rng(0).standard_normal((1, 6, 4, 5)).astype(np.float32)
    sizes = {"b": 1, "t": 6, "n": 4, "h": 5, "k": 2, "g": 2}
    letters = layout.lower()
    left = "b t (k g) h" if "k" in letters else "b t n h"
    pattern = letters if "b" in letters else f"b {letters}"
    lengths = {letter: length for letter, length in sizes.items() if letter in left}
    stored = einops.rearrange(value, f"{left} -> {pattern}", **lengths)
    stored = stored if "b" in letters else stored[0]
    for folder, how in (("whole", False), ("small", Sketch(13, 1))):
        with Recorder(tmp_path / folder, IDS, config=CONFIG, sketch=how) as rec:
            rec("text.layer.1.attn.q", stored, layout)
    [one], partial = open_dump(tmp_path / "whole").passes, open_dump(tmp_path / "small").partial
    is_as_whole(partial[0]["text.layer.1.attn.q"], one.tensors["text.layer.1.attn.q"], "text.layer.1.attn.q")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_formats_and_sums(dtype, tmp_path):
    x, y = np.random.default_rng(0).standard_normal((2, 1, 6, 12)).astype(getattr(ml_dtypes, dtype, dtype))
    for folder, how in (("whole", None), ("small", Sketch(13, 1))):
        model = {"config": CONFIG, "weights": {"name": "x", "dtype": dtype, "sha256": None}}
        said = dict.fromkeys(["compute_dtype", "matmul_activations", "kv_dtype", "rope_angle", "attention_impl"], dtype)
        with DumpWriter(tmp_path / folder, model, said, sketch=how) as writer:
            writer.add_tensor("text.layer.1.in", x)
            writer.add_tensor("text.layer.0.mid", x, plus=y)
            row = {"ids": IDS, "positions": [*range(6)], "cached": 0, "image_blocks": [], "left_pads": 0}
            writer.end_pass(row)
    [one], partial = open_dump(tmp_path / "whole").passes, open_dump(tmp_path / "small").partial
    for tap, shown in partial[0].items():
        assert shown.dtype == dtype
        is_as_whole(shown, one.tensors[tap], tap)


def test_padding_is_cut_out_of_a_sketch(tmp_path):
    """Right padding, and keys in slots: a place keeps its value where its token is real."""
    rng = np.random.default_rng(0)
    x, scores = (rng.standard_normal(shape).astype(np.float32) for shape in ((1, 6, 12), (1, 4, 6, 9)))
    positions = [0, 1, -1, 2, 3, -1]
    for folder, how in (("whole", False), ("small", Sketch(13, 1))):
        how_placed = {"positions": positions, "slots": [3, 1, 2, 8, 7, 0], "cache_slots": 9}
        with Recorder(tmp_path / folder, IDS, config=CONFIG, sketch=how, **how_placed) as rec:
            rec("text.layer.1.in", x, "B T D")
            rec("text.layer.1.attn.scores", scores, "B N T S")
    [one], partial = open_dump(tmp_path / "whole").passes, sketches(tmp_path / "small")
    for tap, shown in partial.items():
        kept, value = shown.read(), one.tensors[tap].load()
        assert kept.shape == value.shape
        assert 0 < kept.real.sum() < kept.real.size
        np.testing.assert_array_equal(kept.values[kept.real], value[kept.places][kept.real])
    norms = np.linalg.norm(x[0, [0, 1, 3, 4]].astype(np.float64), axis=1)
    np.testing.assert_allclose(partial["text.layer.1.in"].read().norms, norms, 6e-8)
    assert partial["text.layer.1.attn.scores"].read().norms is None  # keys without a token are in them


def small(tmp_path):
    sketch(whole_dump(tmp_path / "whole", 0), tmp_path / "small", values=20)
    return tmp_path / "small"


def test_sketches_of_sketches_there_are_none(tmp_path):
    folder = small(tmp_path)
    with pytest.raises(BadInput, match="wanted a whole one, got a small one"):
        sketch(folder, tmp_path / "smaller")
    with pytest.raises(BadInput, match="wanted a whole one, got a sketch of it"):
        load_pass(folder, read_dump(folder)["passes"][0])
    with pytest.raises(BadInput, match=r"wanted a folder with dump\.json, got nothing there"):
        sketch(tmp_path / "nowhere", tmp_path / "smaller")
    assert not (tmp_path / "smaller").exists()


@pytest.mark.parametrize(("values", "seed"), [(0, 0), (-1, 0), (2**31, 0), (5, -1)])
def test_values_and_seeds_that_cannot_be(values, seed, tmp_path):
    with pytest.raises(BadInput, match="sketch"), sketching(values, seed):
        pass


def _entry(content):
    return content["passes"][0]["tensors"]["text.embed"]


BROKEN = {
    "no head": (lambda c: c.pop("sketch"), "wanted values and seed of sketches, got none"),
    "version 1": (lambda c: c.update(format_version=1), "sketch, which format_version 2 has and 1 has not"),
    "another axis": (lambda c: _entry(c)["sketch"].update(axis=7), "an axis that there is"),
    "no axis": (lambda c: _entry(c)["sketch"].update(axis=None), r"wanted float32 or float64 \[20\]"),
    "larger": (lambda c: _entry(c).update(shape=[2**30, 2**30, 2**30]), "wanted 1 to 1099511627776 values"),
    "other shape": (lambda c: _entry(c).update(shape=[1, 7, 16]), r"wanted float32 or float64 \[21\]"),
    "too small": (lambda c: _entry(c).update(shape=[1, 6, 1]), "wanted a whole tensor, since it has 6 values"),
    "other dtype": (lambda c: _entry(c).update(dtype="bfloat16"), "wanted bfloat16 or float64"),
    "more values": (lambda c: c["sketch"].update(values=50), r"wanted float32 or float64 \[54\]"),
    "a sum": (lambda c: _entry(c).update(plus="x"), "sketches of sums, without plus"),
    "no digest": (lambda c: _entry(c)["sketch"].update(sha256=""), "sha256"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_contradicts_itself_is_refused(case, tmp_path):
    folder = small(tmp_path)
    content = json.loads((folder / "dump.json").read_text())
    BROKEN[case][0](content)
    (folder / "dump.json").write_text(json.dumps(content))
    with pytest.raises(BadInput, match=BROKEN[case][1]):
        open_dump(folder)


def test_a_place_beyond_the_end_is_brought_back(tmp_path):
    """The first value that is not finite stands somewhere, or the file lies: nothing is read out of bounds."""
    folder = small(tmp_path)
    content = json.loads((folder / "dump.json").read_text())
    _entry(content)["sketch"].update(nonfinite=1, first=10**9)
    (folder / "dump.json").write_text(json.dumps(content))
    kept = sketches(folder)["text.embed"].read()
    assert kept.first == tuple(length - 1 for length in kept.shape)


def test_a_cache_may_have_more_slots_than_there_is_memory(tmp_path):
    """A sketch is of as many slots as its shape says: no file is as large as that."""
    with Recorder(tmp_path / "dump", IDS, slots=range(6), cache_slots=9, config=CONFIG, sketch=Sketch(13)) as rec:
        rec("text.layer.1.attn.scores", np.ones((4, 6, 9), np.float32), "N T S")
    path = tmp_path / "dump" / "dump.json"
    content = json.loads(path.read_text())
    content["passes"][0]["cache_slots"] = 2**33
    content["passes"][0]["tensors"]["text.layer.1.attn.scores"]["shape"] = [4, 6, 2**33]
    path.write_text(json.dumps(content))
    kept = sketches(tmp_path / "dump")["text.layer.1.attn.scores"].read()
    assert kept.shape == (1, 4, 6, 6)
    assert not kept.real.any()


def test_missing_norms_are_refused(tmp_path):
    folder = small(tmp_path)
    [file] = folder.glob("*.safetensors")
    save_file({name: x for name, x in load_file(file).items() if name != "text.embed.norms"}, file)
    with pytest.raises(BadInput, match=r"text.embed.norms"):
        open_dump(folder)
