"""A draft of a table: modules are known by their values, whatever their names are."""

from importlib.util import find_spec

import pytest
from support.torch_stranger import IDS, stranger

import ref
from ref.capture.module import capture_module, draft_table
from ref.errors import BadInput

pytestmark = pytest.mark.witness
if find_spec("torch") and find_spec("transformers"):
    import torch

FOUND = {
    "stack.{i}": [("text.layer.{i}.in", "input"), ("text.layer.{i}.out",)],
    "stack.{i}.n1": [("text.layer.{i}.attn.pre_norm",)],
    "stack.{i}.qkv": [
        ("text.layer.{i}.attn.q + text.layer.{i}.attn.k + text.layer.{i}.attn.v", "B T (N H)+(K H)+(K H)")
    ],
    "stack.{i}.qn": [("text.layer.{i}.attn.q_norm", "B N T H")],
    "stack.{i}.kn": [("text.layer.{i}.attn.k_norm", "B K T H")],
    "stack.{i}.o": [("text.layer.{i}.attn.mix", "B T (N H)", "input"), ("text.layer.{i}.attn.out",)],
    "stack.{i}.n2": [("text.layer.{i}.attn.post_norm",)],
    "stack.{i}.n3": [("text.layer.{i}.mid", "input"), ("text.layer.{i}.ffn.pre_norm",)],
    "stack.{i}.gu": [("text.layer.{i}.ffn.gate + text.layer.{i}.ffn.up", "B T F+F")],
    "stack.{i}.down": [("text.layer.{i}.ffn.act", "input"), ("text.layer.{i}.ffn.out",)],
    "stack.{i}.n4": [("text.layer.{i}.ffn.post_norm",)],
    "last": [("text.final_norm",)],
    "stack.0": [("text.embed", "input")],
    "": [("text.logits",)],
}


def test_the_draft_of_a_clean_model_is_its_table_and_its_code_runs(tmp_path):
    model, code = stranger(), []
    assert draft_table(model, IDS, weights="tiny", show=code.append) == FOUND
    names: dict = {}
    exec(code[0], names)
    assert names["table"] == FOUND
    assert "# by value, 7 of 7 layers" in code[0]
    assert code[0].endswith("# not found: text.layer.{i}.attn.q_rope, text.layer.{i}.attn.k_rope, "
                            "text.layer.{i}.attn.scores, text.layer.{i}.attn.probs")  # fmt: skip
    report = ref.compare(capture_module(model, IDS, tmp_path / "d", table=names["table"], weights="tiny"))
    assert (report["verdict"], report["compared"]["of_dump"]) == ("match", 18 * 7 + 3)


def test_a_model_that_is_wrong_gets_the_same_draft_and_the_mistake_is_named(tmp_path):
    model = stranger()
    model.stack[2].register_forward_pre_hook(lambda module, args: (1.5 * args[0],))
    table = draft_table(model, IDS, weights="tiny", show=lambda code: None)
    assert {name: rows for name, rows in table.items() if "{i}" in name} == {
        k: v for k, v in FOUND.items() if "{i}" in k
    }
    report = ref.compare(capture_module(model, IDS, tmp_path / "d", table=table, weights="tiny"))
    assert report["first"]["tap"] == "text.layer.1.out" or report["first"]["layer"] == 2


def called_again(cell, args, out):
    cell.n1(out)


def test_of_a_module_that_is_called_again_the_draft_says_which_call(tmp_path):
    model = stranger()
    for cell in model.stack:
        cell.register_forward_hook(called_again)
    table = draft_table(model, IDS, weights="tiny", show=lambda code: None)
    assert table["stack.{i}.n1"] == [("text.layer.{i}.attn.pre_norm", "output, call 0")]
    report = ref.compare(capture_module(model, IDS, tmp_path / "d", table=table, weights="tiny"))
    assert report["verdict"] == "match"


def test_names_of_other_projects_help_where_no_value_does(tmp_path):
    class Renamed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = torch.nn.ModuleList(
                torch.nn.ModuleDict({"input_layernorm": torch.nn.Linear(36, 36)}) for _ in range(7)
            )
            self.norm = torch.nn.Linear(36, 97)
            self.wide = torch.nn.Embedding(97, 36)

        def forward(self, ids):
            h = self.wide(ids)
            for one in self.layers:
                h = h + one["input_layernorm"](h)
            return self.norm(h)

    torch.manual_seed(0)
    code = []
    table = draft_table(Renamed(), IDS, weights="tiny", show=code.append)
    assert ("text.layer.{i}.attn.pre_norm",) in table["layers.{i}.input_layernorm"]
    assert "# by name and shape, not by value" in code[0]
    assert "norm" not in table or ("text.final_norm",) not in table["norm"]  # 97 wide


def test_a_model_without_a_table_is_refused_below_its_draft(tmp_path, capsys):
    with pytest.raises(
        BadInput, match="a draft is printed: check it, and give it, got none, and Stranger is not known"
    ):
        capture_module(stranger(), IDS, tmp_path / "d", weights="tiny")
    assert "'stack.{i}.qkv': [" in capsys.readouterr().out
    assert not (tmp_path / "d").exists()


def test_few_tokens_are_refused():
    with pytest.raises(BadInput, match="wanted at least 4: taps are alike at fewer, got 3"):
        draft_table(stranger(), IDS[:3], weights="tiny")


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: stranger().to("meta"), "brings them to a device, got weights on the device meta"),
        (lambda: print, "wanted a torch.nn.Module or an ExportedProgram"),
    ],
)
def test_a_model_that_cannot_be_heard_gets_no_draft(make, line):
    with pytest.raises(BadInput) as error:
        draft_table(make(), IDS, weights="tiny")
    assert line in str(error.value)
