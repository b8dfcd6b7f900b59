"""What torch makes of a model is heard, too: exported, compiled and quantised ones."""

from importlib.util import find_spec

import numpy as np
import pytest
from support.captures import passes_of
from support.torch_stranger import IDS, TABLE, stranger, tiny

import ref
from ref.capture.module import capture_module
from ref.capture.transformers import build_from
from ref.dump.write import read_dump
from ref.errors import BadInput

pytestmark = [pytest.mark.witness, pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")]
if find_spec("torch") and find_spec("transformers"):
    import torch


class Logits(torch.nn.Module if find_spec("torch") else object):
    """What is exported: ids in, logits out."""

    def __init__(self, model):
        super().__init__()
        self.m = model

    def forward(self, ids):
        return self.m(input_ids=ids, use_cache=False).logits


def exported(exact=False):
    model = build_from(tiny())
    if exact:
        model.model.layers[3].mlp.act_fn = torch.nn.GELU()
    return torch.export.export(Logits(model).eval(), (torch.tensor([IDS]),), strict=False)


def test_an_exported_program_is_heard_module_by_module(tmp_path):
    report = ref.compare(capture_module(exported(), IDS, tmp_path / "d", weights="tiny"))
    assert (report["verdict"], report["compared"]["of_dump"]) == ("match", 17 * 7 + 2)


def test_a_mistake_in_an_exported_program_is_named(tmp_path):
    report = ref.compare(capture_module(exported(exact=True), IDS, tmp_path / "d", weights="tiny"))
    assert (report["first"]["tap"], report["diagnosis"][0]["mutant"]) == ("text.layer.3.ffn.act", "gelu_erf")


class Cell(torch.nn.Module if find_spec("torch") else object):
    """A residual stream that comes in two parts of one shape."""

    def forward(self, x, residual):
        return residual + 2 * x


class Parts(torch.nn.Module if find_spec("torch") else object):
    """One cell on an embedding and another tensor."""

    def __init__(self):
        super().__init__()
        self.cell, self.w = Cell(), torch.nn.Parameter(torch.ones(36))

    def forward(self, ids):
        x = self.w * ids[..., None]
        return self.cell(x, x + 100)


@pytest.mark.filterwarnings("ignore")
def test_the_first_of_several_inputs_is_not_taken_where_exporting_turned_them_round(tmp_path):
    program = torch.export.export(Parts().eval(), (torch.tensor([IDS]),), strict=False)
    with pytest.raises(
        BadInput, match=r"input of cell: wanted one tensor; write input\[0\] or input\[1\], got 2 tensors"
    ):
        capture_module(program, IDS, tmp_path / "d", table={"cell": ("text.embed", "input")}, weights="tiny")
    for model, which in ((Parts(), "input"), (program, "input[1]")):
        folder = capture_module(model, IDS, tmp_path / which, table={"cell": ("text.embed", which)}, weights="tiny")
        np.testing.assert_array_equal(passes_of(folder)[0]["text.embed"][0, :, 0], IDS)


def test_a_graph_without_modules_is_refused(tmp_path):
    with pytest.raises(BadInput, match="wanted modules that are called in a pass, got none of"):
        capture_module(exported().module(), IDS, tmp_path / "d", weights="tiny", table="transformers")


def test_a_compiled_module_is_heard_and_judged(tmp_path):
    model = torch.compile(stranger())
    folder = capture_module(model, IDS, tmp_path / "d", table=TABLE, weights="tiny")
    assert read_dump(folder)["policy"]["torch"]["compiled"]
    assert ref.compare(folder)["verdict"] == "match"


def test_a_mistake_in_a_compiled_module_is_named(tmp_path):
    model = stranger()
    model.stack[3].exact = True
    report = ref.compare(capture_module(torch.compile(model), IDS, tmp_path / "d", table=TABLE, weights="tiny"))
    assert (report["first"]["tap"], report["diagnosis"][0]["mutant"]) == ("text.layer.3.ffn.act", "gelu_erf")


@pytest.mark.skipif(not find_spec("torchao"), reason="needs torchao: pip install torchao==0.18.0")
@pytest.mark.filterwarnings("ignore")
def test_weights_that_torchao_made_narrow_are_heard_as_they_run(tmp_path):
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    model = build_from(tiny())
    quantize_(model, Int8WeightOnlyConfig())
    call = lambda model, ids: model(input_ids=ids, use_cache=False)  # noqa: E731
    folder = capture_module(model, IDS, tmp_path / "d", weights="tiny", table="transformers", call=call)
    [own] = passes_of(folder)
    with torch.no_grad():
        wanted = model(input_ids=torch.tensor([IDS]), use_cache=False).logits
    np.testing.assert_array_equal(own["text.logits"], wanted.numpy())
    report = ref.compare(folder)
    assert report["verdict"] == "bug"  # its weights differ
    assert report["first"]["tap"].split(".")[-1] in ("q", "k", "v")
