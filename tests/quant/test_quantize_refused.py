"""What `quantize` refuses to write, and what its folders are refused for; nothing is left behind."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import ref
from ref.cli import main
from ref.errors import BadInput
from ref.quant import plan
from ref.quant.write import quantize


def test_an_unknown_format_is_quoted_as_it_was_typed(tmp_path, capsys):
    assert main(["quantize", "--weights", "tiny", "--format", "q9", "-o", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.endswith("format: wanted one of q4_0, q8_0, int4, sfp8, got q9\n")


def test_a_folder_with_files_is_left_alone(tmp_path):
    (tmp_path / "mine").write_text("x")
    with pytest.raises(BadInput, match="folder: wanted an empty or new one, got files in it"):
        quantize(ref.load("tiny"), "INT4", tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("q9_K", "quantize: format: wanted one of q4_0, q8_0, int4, sfp8, got q9_K"),
        ("Q4_0", "width: wanted a multiple of 32, the block of Q4_0, got 36"),
    ],
)
def test_refusals_leave_nothing_behind(tmp_path, kind, line):
    with pytest.raises(BadInput, match=line):
        quantize(ref.load("tiny"), kind, tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("rows", [97, 30, 7])  # a part: row 60 of the only one, the first and an inner row of another
def test_weights_that_are_not_finite_are_named_with_their_place(tmp_path, monkeypatch, rows):
    monkeypatch.setattr(plan, "ROWS", rows)
    tiny = ref.load("tiny")
    bad = np.array(tiny.params.embedding, np.float32)
    bad[60, 4] = np.nan
    with pytest.raises(BadInput, match=r"embed_tokens\.weight: value: wanted finite .* INT4, got nan at \[60, 4\]"):
        quantize(tiny._replace(params=tiny.params._replace(embedding=bad)), "INT4", tmp_path / "out")
    assert not list(tmp_path.iterdir())


def _spoiled(loaded, where, value):
    """Return weights with one value changed, in a tensor that is not encoded."""

    def bad(array):
        array = np.array(array)
        array.reshape(-1)[5] = value
        return array

    params, vision = loaded.params, loaded.vision
    if where in ("embedding", "final_norm"):
        return loaded._replace(params=params._replace(**{where: bad(getattr(params, where))}))
    if where == "q_norm":
        layers = list(params.layers)
        layers[2] = layers[2]._replace(q_norm=bad(layers[2].q_norm))
        return loaded._replace(params=params._replace(layers=layers))
    if where == "up_bias":
        layers = list(vision.layers)
        layers[1] = layers[1]._replace(up_bias=bad(layers[1].up_bias))
        return loaded._replace(vision=vision._replace(layers=layers))
    return loaded._replace(vision=vision._replace(**{where: bad(getattr(vision, where))}))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(
    ("where", "line"),
    [
        ("embedding", r"embed_tokens\.weight: value: wanted finite numbers, got {} at \[0, 5\]"),
        ("final_norm", r"model\.norm\.weight: value: wanted finite numbers, got {} at \[5\]"),
        ("q_norm", r"layers\.2\.self_attn\.q_norm\.weight: value: wanted finite numbers, got {} at \[5\]"),
        ("position", r"position_embedding\.weight: value: wanted finite numbers, got {} at \[0, 5\]"),
        ("patch", r"patch_embedding\.weight: value: wanted finite numbers, got {} at \[0, 0, 1, 0\]"),
        ("up_bias", r"layers\.1\.mlp\.fc1\.bias: value: wanted finite numbers, got {} at \[5\]"),
        ("projection", r"mm_input_projection_weight: value: wanted finite numbers, got {} at \[0, 5\]"),
    ],
)
def test_what_is_not_encoded_must_be_finite_too(tmp_path, where, line, value):
    with pytest.raises(BadInput, match=line.format(value)):
        quantize(_spoiled(ref.load("tiny", "float32"), where, value), "SFP8", tmp_path / "out", keep_embedding=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("where", ["embedding", "projection"])
def test_bits_of_bfloat16_that_are_not_encoded_must_be_finite_too(tmp_path, where):
    bad = _spoiled(ref.load("tiny", "bfloat16"), where, 0x7F80)
    with pytest.raises(BadInput, match=r"wanted finite numbers, got inf at \[0, 5\]"):
        quantize(bad, "SFP8", tmp_path / "out", keep_embedding=True)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"quant_method": "bitsandbytes"}, "wanted quant_method gemma3-ref, got 'bitsandbytes'"),
        ({"format": "INT3"}, "wanted format INT4 or SFP8, got 'INT3'"),
    ],
)
def test_other_quantised_folders_are_refused(tmp_path, change, line):
    path = quantize(ref.load("tiny"), "INT4", tmp_path / "out")
    config = json.loads((path / "config.json").read_text())
    config["quantization_config"] |= change
    (path / "config.json").write_text(json.dumps(config))
    with pytest.raises(BadInput, match=line):
        ref.load(str(path))


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda x, name: x.pop(name + "_scale"), "no such name"),
        (lambda x, name: x.update({name + "_scale": np.ones(3, np.float32)}), r"wanted F32 \[97\], got F32 \[3\]"),
        (lambda x, name: x[name + "_scale"].__setitem__(0, 0), "wanted finite scales above 0"),
        (lambda x, name: x[name + "_scale"].__setitem__(0, np.nan), "wanted finite scales above 0"),
        (lambda x, name: x.update({name: x[name].reshape(-1)}), r"wanted codes \[O, bytes\]"),
        (lambda x, name: x.update({name: x[name][:, :-1]}), r"shape \[97, 36\]"),
    ],
)
def test_damaged_codes_are_refused(tmp_path, change, line):
    path = quantize(ref.load("tiny"), "INT4", tmp_path / "out") / "model.safetensors"
    tensors = {name: array.copy() for name, array in load_file(path).items()}
    change(tensors, next(name for name in tensors if name.endswith("embed_tokens.weight")))
    save_file({name: np.ascontiguousarray(array) for name, array in tensors.items()}, path)
    with pytest.raises(BadInput, match=line):
        ref.load(str(path.parent))
