"""What transformers' own debugger writes is read as our taps, or refused."""

import json
import shutil
from functools import partial

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from support.checkpoints import save_tiny
from support.refusing import refused_by
from support.tiny import TINY, params

from ref.dump.open import open_dump
from ref.dump.read_debugger import read_debugger
from ref.errors import BadInput
from ref.golden_files.sampled import relative_l2
from ref.model.taps import Recorder
from ref.model.text import How, forward

refused = partial(refused_by, read_debugger)
IDS = [2, 7, 96, 45, 45, 31]


def debugged(tmp_path_factory, **how):
    """Have transformers' own debugger write what it sees of TINY."""
    import torch
    from transformers import Gemma3ForCausalLM
    from transformers.model_debugging_utils import model_addition_debugger_context

    place = tmp_path_factory.mktemp("debugger")
    save_tiny(place / "tiny", bfloat16=False)
    model = Gemma3ForCausalLM.from_pretrained(place / "tiny", dtype=how.pop("dtype", "float32")).eval()
    with model_addition_debugger_context(model, debug_path=str(place / "d"), **how):
        model(input_ids=torch.tensor([IDS]))
    return place / "d" / "Gemma3ForCausalLM_debug_tree_FULL_TENSORS.json"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return debugged(tmp_path_factory, do_prune_layers=False, use_repr=False)


@pytest.fixture
def copied(whole, tmp_path):
    return shutil.copytree(whole.parent, tmp_path / "d") / whole.name


@pytest.mark.witness
def test_tensors_that_the_debugger_wrote_are_our_taps(whole):
    recorder = Recorder("*")
    forward(params(), [IDS], How(taps=recorder))
    opened = open_dump(whole, config=TINY)
    [one] = opened.passes
    assert one.ids.tolist() == IDS
    assert (opened.producer["name"], opened.policy["compute_dtype"]) == ("transformers", "float32")
    unheard = ("attn.visible", "attn.scores", "attn.probs", "attn.q_rope", "attn.k_rope")
    inner = {f"text.layer.{i}.out" for i in range(6)}  # what comes out of a module with children is not kept there
    assert set(one.tensors) == {tap for tap in recorder.values if not tap.endswith(unheard)} - inner
    for tap, stored in one.tensors.items():
        assert relative_l2(stored.load(), recorder.values[tap]) < 1e-4, tap
    assert {item["why"] for item in opened.unaligned if "no such name" in item["why"]} == set()
    assert open_dump(whole, IDS, "transformers", TINY._asdict()).passes[0].ids.tolist() == IDS
    with pytest.raises(BadInput, match="token id at 0: wanted 3, as in the prompt, got 2"):
        open_dump(whole, [3, *IDS[1:]], config=TINY)
    with pytest.raises(BadInput, match="names: wanted transformers, whose file it is, got mlx"):
        open_dump(whole, IDS, "mlx")


@pytest.mark.witness
def test_bfloat16_and_pruned_layers_of_the_debugger(tmp_path_factory):
    opened = open_dump(debugged(tmp_path_factory, use_repr=False, dtype="bfloat16"), config=TINY)
    assert opened.policy["compute_dtype"] == "bfloat16"
    [gap] = [one for one in opened.unaligned if one["name"].startswith("layers ")]
    assert gap == {"name": "layers 1 to 5", "why": "left out of the JSON: run the debugger with do_prune_layers=False"}
    stored = opened.passes[0].tensors["text.layer.6.attn.q"]
    assert (stored.dtype, stored.load().dtype) == ("bfloat16", np.float32)


@pytest.mark.witness
def test_printed_values_are_refused_with_what_to_do(tmp_path_factory):
    path = debugged(tmp_path_factory, do_prune_layers=False)
    line = refused(path)
    assert "wanted tensors in files, use_repr=False, got printed to five digits" in line
    summary = path.with_name("Gemma3ForCausalLM_debug_tree_SUMMARY.json")
    assert "wanted tensors in files, use_repr=False, got none" in refused(summary)


def test_shapes_of_the_debugger_that_nothing_has_are_refused(tmp_path):
    save_file({"data": np.ones((1, 2), np.float32)}, tmp_path / "a.safetensors")
    for shape in ("[1, " + "9" * 5000 + "]", "[1, 2, 3]", "[١, ٢]", [1, 3], {}):
        leaf = {"shape": shape, "dtype": "torch.float32", "value": "./a.safetensors"}
        (tmp_path / "x.json").write_text(json.dumps({"module_path": "x", "outputs": leaf}))
        assert "as the JSON says, got float32 [1, 2]" in refused(tmp_path / "x.json")
    leaf = {"shape": [1, 2], "dtype": "torch.float32", "value": "./a\0.safetensors"}
    (tmp_path / "x.json").write_text(json.dumps({"module_path": "x", "outputs": leaf}))
    with pytest.raises(BadInput, match=r"wanted a file in this folder, got 'a.x00.safetensors', embedded null byte"):
        read_debugger(tmp_path / "x.json")


@pytest.mark.witness
def test_a_module_that_is_called_twice_is_not_taken(copied):
    tree = json.loads(copied.read_text())
    layers = next(node["children"] for node in tree["children"] if node["module_path"].endswith(".model"))
    layer = next(node["children"] for node in layers if node["module_path"].endswith(".layers.0"))
    layer.append(next(node for node in layer if node["module_path"].endswith(".input_layernorm")))
    copied.write_text(json.dumps(tree))
    opened = open_dump(copied, config=TINY)
    why = {one["name"]: one["why"] for one in opened.unaligned}
    assert why["Gemma3ForCausalLM.model.layers.0.input_layernorm"].startswith("called more than once")


@pytest.mark.witness
def test_tensors_of_the_debugger_that_are_not_as_said_are_refused(copied):
    name = "Gemma3ForCausalLM.model.layers.3.self_attn.q_proj_outputs.safetensors"
    file, text = copied.parent / name, copied.read_text()
    value = load_file(file)["data"]
    save_file({"data": value[:, 1:].copy()}, file)
    assert "float32 [1, 6, 120], as the JSON says, got float32 [1, 5, 120]" in refused(copied)
    file.unlink()
    assert f"{name}: file: wanted a readable file, got No such file or directory" in refused(copied)
    for other in ("../x.safetensors", "/x.safetensors", "a/../../x.safetensors"):
        copied.write_text(text.replace(f"./{name}", other))
        with pytest.raises(BadInput, match=r"wanted a file in this folder, got .*, which leads out of it"):
            read_debugger(copied)
    copied.write_text(text.replace(f"./{name}", "x.bin"))
    left = {one["name"]: one["why"] for one in read_debugger(copied)[1]}
    assert left["Gemma3ForCausalLM.model.layers.3.self_attn.q_proj"] == "no file of its values is named"


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "{}",
        '{"module_path": 3}',
        '{"module_path": "x"}',
        '{"module_path": "x", "children": [3]}',
        '{"module_path": "x", "children": {"a": 1}}',
        '{"module_path": "x", "inputs": [], "outputs": {"shape": 1, "dtype": 2, "value": 3}}',
        '{"module_path": "x", "module_path": "y"}',
        '{"module_path": "x", "outputs": NaN}',
        '{"module_path": "x", "outputs": 1e999}',
        '{"module_path": "x", "inputs": {"args": 3, "kwargs": 3}}',
        '{"a":' * 100_000,
    ],
)
def test_json_that_is_no_tree_of_modules_is_refused(tmp_path, content):
    (tmp_path / "x.json").write_text(content)
    refused(tmp_path / "x.json")
