"""Any torch module, by a table: what is written is what the modules computed, when they computed it."""

from importlib.util import find_spec

import ml_dtypes
import numpy as np
import pytest
from support.captures import passes_of
from support.torch_stranger import IDS, TABLE, stranger, tiny

import ref
from ref.capture.common import LeftOut
from ref.capture.module import capture_module
from ref.dump.write import read_dump
from ref.errors import BadInput
from ref.model.taps import Recorder
from ref.model.text import How, forward

pytestmark = pytest.mark.witness
if find_spec("torch") and find_spec("transformers"):
    import torch


@pytest.fixture(scope="module")
def model():
    return stranger()


def refusal(*args, **more):
    with pytest.raises(BadInput) as caught:
        capture_module(*args, **{"weights": "tiny", "table": TABLE} | more)
    said = str(caught.value)
    assert "\n" not in said
    return said


def test_a_clean_module_matches_though_it_adds_in_place(model, tmp_path):
    folder = capture_module(model, IDS, tmp_path / "d", table=TABLE, weights="tiny")
    report = ref.compare(folder)
    assert report["verdict"] == "match"
    assert report["compared"]["of_dump"] == 14 * 7 + 1
    [own] = passes_of(folder)
    assert np.abs(own["text.layer.0.in"] - own["text.layer.0.out"]).max() > 0.1


def test_values_are_those_of_the_reference_on_its_axes(model, tmp_path):
    recorder = Recorder()
    forward(tiny().params, [IDS], How(taps=recorder))
    [own] = passes_of(capture_module(model, IDS, tmp_path / "d", table=TABLE, weights="tiny"))
    for tap, value in own.items():
        np.testing.assert_allclose(value, recorder.values[tap], atol=2e-4 * np.abs(value).max(), err_msg=tap)


def test_a_planted_mistake_is_named_where_it_is(tmp_path):
    model = stranger()
    model.stack[3].exact = True
    report = ref.compare(capture_module(model, IDS, tmp_path / "d", table=TABLE, weights="tiny"))
    assert (report["verdict"], report["first"]["tap"]) == ("bug", "text.layer.3.ffn.act")
    assert report["diagnosis"][0]["mutant"] == "gelu_erf"


def test_rows_of_a_batch_are_passes_of_their_own(model, tmp_path):
    folder = capture_module(model, [IDS, IDS[::-1]], tmp_path / "d", table=TABLE, weights="tiny")
    assert [one["ids"] for one in read_dump(folder)["passes"]] == [IDS, IDS[::-1]]
    assert ref.compare(folder)["verdict"] == "match"


def test_nothing_is_left_on_the_model_even_after_a_refusal(model, tmp_path):
    ids = torch.tensor([IDS])
    before = model(ids)
    capture_module(model, ids, tmp_path / "d", table=TABLE, weights="tiny", taps=["*.attn.q"])
    refusal(model, IDS, tmp_path / "e", table=TABLE | {"stack.{i}.n3": ("L.ffn.pre_norm", "B T F")})
    assert not any(one._forward_hooks or one._forward_pre_hooks for one in model.modules())
    torch.testing.assert_close(model(ids), before, rtol=0, atol=0)
    assert not (tmp_path / "e").exists()


def test_the_dump_says_bfloat16_and_keeps_its_bits(tmp_path):
    folder = capture_module(stranger(dtype="bfloat16"), IDS, tmp_path / "d", table=TABLE, weights="tiny")
    [own] = passes_of(folder)
    assert {value.dtype for value in own.values()} == {np.dtype(ml_dtypes.bfloat16)}
    content = read_dump(folder)
    assert content["policy"]["compute_dtype"] == content["model"]["weights"]["dtype"] == "bfloat16"


def test_a_call_of_its_own_and_outputs_by_number_and_name(tmp_path):
    class Outer(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, *, tokens):
            return {"logits": self.inner(tokens), "more": (self.inner.book[tokens],)}

    table = {"": ("text.logits", "output.logits"), "inner": ("text.logits", "output[0]")}
    call = lambda model, ids: model(tokens=ids)  # noqa: E731
    for name in table:
        folder = capture_module(
            Outer(stranger()), IDS, tmp_path / f"d{len(name)}", table={name: table[name]}, weights="tiny", call=call
        )
        assert list(passes_of(folder)[0]) == ["text.logits"]


def test_a_module_that_is_called_twice_is_refused_or_told_apart(model, tmp_path):
    class Twice(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.same = self.again = torch.nn.Identity()
            self.w = torch.nn.Parameter(torch.ones(36))

        def forward(self, ids):
            x = self.w * ids[..., None]
            return self.again(self.same(x) + 1)

    said = refusal(Twice(), IDS, tmp_path / "d", table={"same": "text.embed"})
    assert said.startswith("table: module same: wanted one call a pass, or a row that says which, as 'output, call 0'")
    table = {"same": ("text.embed", "output, call 1")}
    with pytest.warns(LeftOut, match=r"text\.logits left out: wanted \[1, 9, 97\]"):
        folder = capture_module(Twice(), IDS, tmp_path / "e", table=table, weights="tiny")
    np.testing.assert_array_equal(passes_of(folder)[0]["text.embed"][0, :, 0], np.array(IDS) + 1)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"stack.{i}.n7": "L.mid"}, "table: no module is called stack.0.n7; near: stack.0."),
        ({"stack.{i}": "L.outer"}, "no tap is called"),
        ({"stack.{i}": "text.final_norm"}, "wanted {i} in the module's name and in its taps, or in neither"),
        ({"stack.{i}.qn": ("L.attn.q_norm", "B T N H")}, "[B N T H] would fit, got [1, 12, 9, 10]"),
        ({"stack.{i}.qkv": ("L.attn.q", "B T (N H)")}, "got [1, 9, 180]"),
        ({"stack.{i}.qkv": ("L.attn.q + L.attn.k", "B T (N H)+(K H)")}, "wanted an axis of 120 + 30 = 150"),
        ({"stack.{i}.qkv": ("L.attn.q + L.attn.k", "B T (N H)")}, "wanted an axis of 2 parts"),
        ({"stack.{i}.n1": ("L.attn.pre_norm", "output[2]")}, "wanted a tensor at output[2]"),
        ({"stack.{i}.n1": ("L.attn.pre_norm", "outputs")}, "wanted such as input, input[1], output.name"),
        ({"stack.{i}.n1": ("L.attn.pre_norm", "B Q D")}, "table: layout of text.layer.0.attn.pre_norm"),
        ({"stack.{i}.n1": "L.mid", "stack.{i}.n3": "L.mid"}, "wanted one place, got a second one"),
        (
            {"stack.{i}.qkv": ("L.attn.q + L.attn.k", "B T (N H)+(K Q)")},
            "layout of text.layer.0.attn.k: wanted the axes",
        ),
        ({"stack.{i}.n1": 7}, "wanted (tap, layout, side)"),
        ({}, "wanted at least one module"),
        ({"stack.{i}": []}, "wanted at least one module"),
        ({5: "L.out"}, "wanted {module: tap}, names of modules in quotes"),
        ([("stack.{i}", "L.out")], "wanted {module: tap}, names of modules in quotes"),
        ("jax", "wanted a table, or one of litgpt"),
        ("litgpt", "wanted a model with modules of litgpt, got Stranger"),
    ],
)
def test_a_table_that_is_wrong_is_refused_in_one_line(model, tmp_path, table, says):
    assert says in refusal(model, IDS, tmp_path / "d", table=table)
    assert not (tmp_path / "d").exists()


def test_modules_that_nobody_calls_are_told(model, tmp_path):
    model = stranger()
    for cell in model.stack:
        cell.add_module("spare", torch.nn.Identity())
    assert "wanted modules that are called in a pass, got none of 7" in refusal(
        model, IDS, tmp_path / "d", table={"stack.{i}.spare": "L.mid"}
    )
    with pytest.warns(LeftOut, match=r"text\.layer\.\*\.mid \(7 layers\) left out"):
        capture_module(model, IDS, tmp_path / "d", table=TABLE | {"stack.{i}.spare": "L.mid"}, weights="tiny")


def test_a_call_that_never_comes_is_told(model, tmp_path):
    table = TABLE | {"stack.{i}.n1": ("L.attn.pre_norm", "output, call 1")}
    with pytest.warns(LeftOut, match=r"pre_norm \(7 layers\) left out: stack\.\{i\}\.n1 was not called so often"):
        folder = capture_module(model, IDS, tmp_path / "d", table=table, weights="tiny")
    assert "text.layer.0.attn.pre_norm" not in passes_of(folder)[0]


def test_models_that_cannot_be_heard_are_refused(model, tmp_path):
    meta = stranger().to("meta")
    assert "brings them to a device, got weights on the device meta" in refusal(meta, IDS, tmp_path / "d")
    assert "wanted a torch.nn.Module or an ExportedProgram" in refusal(lambda ids: ids, IDS, tmp_path / "d")
    assert "wanted 7 of them, one a layer of the weights, got 6" in refusal(cut(stranger()), IDS, tmp_path / "d")
    assert "modules stack.{i}" in refusal(cut(stranger(), more=1), IDS, tmp_path / "d")
    assert "wanted 0 to 96, got 97" in refusal(model, [97], tmp_path / "d")
    assert "wanted integers [T] or [B, T]" in refusal(model, [[1], [1, 2]], tmp_path / "d")


def cut(model, more=0):
    model.stack = model.stack[:6]
    model.stack.extend([model.stack[0]] * 2 * more)
    return model
