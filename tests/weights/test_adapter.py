"""LoRA adapters are W + (alpha / r) B A, rounded as they were held, and anything else is refused in one line."""

import numpy as np
import pytest
from support.command_line import command as run
from support.lora import ALPHA, RANK, save_adapter

import ref
from ref.emulate.one_pass import as_held, rows_as_held
from ref.errors import BadInput
from ref.model.text import How, forward
from ref.ops.linear import take_rows, widen
from ref.ops.rounding import bfloat16_values
from ref.weights.adapted import Adapted
from ref.weights.adapter import read_adapter, with_adapter
from ref.weights.load import hold_as

IDS = [[2, 7, 96, 0, 45, 31]]


def loaded_with(folder, merged=False):
    return with_adapter(ref.load("tiny"), read_adapter(folder), merged).params


@pytest.mark.parametrize(("rslora", "scale"), [(False, ALPHA / RANK), (True, ALPHA / RANK**0.5)])
def test_what_it_adds_is_scaled(tmp_path, rslora, scale):
    products = save_adapter(tmp_path / "lora", use_rslora=rslora)
    params, base = loaded_with(tmp_path / "lora"), ref.load("tiny").params
    for field, product in products.items():
        was = np.asarray(getattr(base.layers[3], field), np.float64)
        np.testing.assert_allclose(widen(getattr(params.layers[3], field)), was + scale * product, atol=1e-7)
    np.testing.assert_array_equal(params.layers[2].q, base.layers[2].q)
    np.testing.assert_array_equal(params.layers[3].k, base.layers[3].k)


def test_it_is_rounded_as_it_was_held(tmp_path):
    products = save_adapter(tmp_path / "lora")
    base = np.asarray(ref.load("tiny").params.layers[3].q, np.float32)
    delta, some = ALPHA / RANK * products["q"], np.array([7, 3])
    merged, beside = (loaded_with(tmp_path / "lora", one).layers[3].q for one in (True, False))
    np.testing.assert_array_equal(as_held(beside, "bfloat16"), bfloat16_values(base) + delta)
    wanted = bfloat16_values((bfloat16_values(base) + delta).astype(np.float32))
    np.testing.assert_array_equal(as_held(merged, "bfloat16"), wanted)
    np.testing.assert_array_equal(as_held(merged, "file"), (base + delta).astype(np.float32))
    np.testing.assert_array_equal(rows_as_held(merged, some, "bfloat16"), wanted[some])
    np.testing.assert_array_equal(take_rows(merged, some), as_held(merged, "file")[some])


@pytest.mark.parametrize("field", ["embedding", "head"])
def test_of_two_tied_matrices_one_is_left_as_it_was(tmp_path, field):
    products = save_adapter(tmp_path / "lora", [field])
    params, base = loaded_with(tmp_path / "lora"), ref.load("tiny").params.embedding
    mine, other = (params.embedding, params.head) if field == "embedding" else (params.head, params.embedding)
    assert isinstance(mine, Adapted)
    np.testing.assert_allclose(widen(mine), base + ALPHA / RANK * products[field], atol=1e-7)
    np.testing.assert_array_equal(other, base)
    got = forward(params, IDS, How(dtype=np.float64))[0]
    wanted = forward(hold_as(params, "float32"), IDS, How(dtype=np.float64))[0]
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


def test_generate_runs_with_it(tmp_path):
    save_adapter(tmp_path / "lora", lora_alpha=800)
    ids = ["generate", "--weights", "tiny", "--ids", "2,7,96,45", "--greedy", "--max-new-tokens", "12"]
    plain, adapted = run(*ids), run(*ids, "--adapter", str(tmp_path / "lora"))
    assert (plain.returncode, adapted.returncode) == (0, 0)
    assert plain.stdout != adapted.stdout


def test_verify_refuses_it(tmp_path):
    save_adapter(tmp_path / "lora")
    done = run("verify", "--weights", "tiny", "--adapter", str(tmp_path / "lora"))
    assert done.returncode == 2
    assert "--adapter: wanted none: the goldens are of the weights as they are" in done.stderr


Q = "base_model.model.model.layers.3.self_attn.q_proj.lora_"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"use_dora": True}, "use_dora: wanted False: plain LoRA alone is known here, got 'True'"),
        ({"peft_type": "IA3"}, "peft_type: wanted LORA: .* got 'IA3'"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save: wanted None: "),
        ({"bias": "all"}, "bias: wanted none: "),
        ({"rank_pattern": {"q_proj": 2}}, "rank_pattern: wanted None: "),
        ({"r": 5}, "r: wanted 4, the rank of .*, got '5'"),
        ({"lora_alpha": "8"}, "lora_alpha: wanted a number, got '8'"),
        ({"lora_alpha": 0}, "lora_alpha: wanted a number, got '0'"),
    ],
)
def test_other_kinds_are_refused(tmp_path, settings, says):
    save_adapter(tmp_path / "lora", **settings)
    with pytest.raises(BadInput, match=says):
        read_adapter(tmp_path / "lora")


def test_a_configuration_that_does_not_say_its_kind_is_refused(tmp_path):
    save_adapter(tmp_path / "lora")
    (tmp_path / "lora/adapter_config.json").write_text('{"r": 4, "lora_alpha": 8}')
    with pytest.raises(BadInput, match="peft_type: wanted LORA: plain LoRA alone is known here, got 'None'"):
        read_adapter(tmp_path / "lora")


def without_b(tensors):
    del tensors[f"{Q}B.weight"]


def of_the_tower(tensors):
    tensors["base_model.model.model.vision_tower.x.lora_A.weight"] = np.zeros((4, 3), np.float32)
    tensors["base_model.model.model.vision_tower.x.lora_B.weight"] = np.zeros((3, 4), np.float32)


def of_a_norm(tensors):
    tensors["base_model.model.model.norm.weight"] = np.zeros(36, np.float32)


def of_another_rank(tensors):
    tensors[f"{Q}B.weight"] = np.zeros((120, 3), np.float32)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (without_b, r"tensor '.*q_proj.lora_B.weight': wanted one beside .*lora_A.weight', got none"),
        (of_the_tower, "adapted module: wanted a matrix of the text model, got 'model.vision_tower.x'"),
        (of_a_norm, "tensors: wanted lora_A and lora_B of matrices, got 1 others, first 'base_model.model.model.norm"),
        (of_another_rank, r"lora_B.weight': wanted \[O, 4\], of the rank of .*, got \[120, 3\]"),
        (dict.clear, "tensors: wanted lora_A and lora_B of matrices, got none of them"),
    ],
)
def test_tensors_that_do_not_go_together_are_refused(tmp_path, change, says):
    save_adapter(tmp_path / "lora", change=change)
    with pytest.raises(BadInput, match=says):
        read_adapter(tmp_path / "lora")


def in_layer_9(tensors):
    for name in [name for name in tensors if ".layers.3." in name]:
        tensors[name.replace(".layers.3.", ".layers.9.")] = tensors.pop(name)


def wider(tensors):
    tensors[f"{Q}A.weight"] = np.zeros((4, 37), np.float32)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (in_layer_9, "adapter lora: layer: wanted below 7, got 9"),
        (wider, r"adapter lora: q of layer 3: shape: wanted \[\d+, 36\], got \[\d+, 37\]"),
    ],
)
def test_an_adapter_of_another_model_is_refused(tmp_path, change, says):
    save_adapter(tmp_path / "lora", change=change)
    with pytest.raises(BadInput, match=says):
        loaded_with(tmp_path / "lora")


def test_one_that_was_merged_into_a_tied_embedding_is_refused(tmp_path):
    save_adapter(tmp_path / "lora", ["embedding"])
    with pytest.raises(BadInput, match=r"merged adapter: wanted one on layers alone, .* got one on the embedding"):
        loaded_with(tmp_path / "lora", merged=True)
