"""`quantize`: what is written is read back, by our loader and as a file; refusals leave nothing behind."""

import json

import numpy as np
import pytest
from checkpoints import save_tiny
from command_line import json_of
from safetensors.numpy import load_file, save_file

import ref
from ref.cli import main
from ref.config import SIZES
from ref.errors import BadInput
from ref.ops.blocks import Blocks, decode
from ref.ops.linear import take_rows, widen
from ref.quant import plan, write
from ref.quant.encode import ENCODERS, encode
from ref.quant.write import quantize
from ref.weights.synthetic import synthetic_params

WIDE = SIZES["tiny"]._replace(name="wide", width=64, ffn_width=96, head_dim=8, query_heads=12, query_scale=8**-0.5)


def matrices(params):
    """Yield (name, Weight) of a model's matrices."""
    yield "embedding", params.embedding
    for i, layer in enumerate(params.layers):
        for name, weight in layer._asdict().items():
            if len(weight.shape) == 2:
                yield f"{i}.{name}", weight


def vectors(params):
    yield params.final_norm
    for layer in params.layers:
        yield from (weight for weight in layer if isinstance(weight, np.ndarray) and weight.ndim == 1)


@pytest.mark.parametrize("kind", ["INT4", "SFP8"])
def test_a_folder_is_read_back_code_by_code(tmp_path, kind):
    tiny = ref.load("tiny")
    path = quantize(tiny, kind, tmp_path / "out")
    assert path == tmp_path / "out"
    again = ref.load(str(path))
    assert again.params.config._replace(name="") == tiny.params.config._replace(name="")
    for (name, ours), (_, source) in zip(matrices(again.params), matrices(tiny.params), strict=True):
        wanted = encode(np.asarray(widen(source), np.float32), kind)
        assert isinstance(ours, Blocks), name
        assert ours.format == kind
        np.testing.assert_array_equal(ours.data, wanted.data)
        np.testing.assert_array_equal(ours.scale, wanted.scale)
    for ours, source in zip(vectors(again.params), vectors(tiny.params), strict=True):
        np.testing.assert_array_equal(ours, source)
    assert again.vision is not None
    np.testing.assert_array_equal(again.vision.patch, tiny.vision.patch)
    one, other = (ref.forward(x.params, [[2, 5, 7]])[0] for x in (again, _widened(again)))
    np.testing.assert_allclose(one, other, atol=1e-4)
    assert not [file.name for file in tmp_path.iterdir() if file != path]


def _widened(loaded):
    def wide(layer):
        return type(layer)(*(decode(weight) if isinstance(weight, Blocks) else weight for weight in layer))

    layers, embedding = [wide(layer) for layer in loaded.params.layers], decode(loaded.params.embedding)
    return loaded._replace(params=loaded.params._replace(layers=layers, embedding=embedding))


def test_the_embedding_can_be_kept(tmp_path):
    tiny = ref.load("tiny")
    again = ref.load(str(quantize(tiny, "INT4", tmp_path / "out", keep_embedding=True)))
    np.testing.assert_array_equal(again.params.embedding, tiny.params.embedding)
    assert isinstance(again.params.layers[0].q, Blocks)


@pytest.fixture(scope="module")
def coded(tmp_path_factory):
    """A model whose embedding is codes already: as folders and GGUF files hold them."""
    pytest.importorskip("gguf")
    made = ref.load("tiny")._replace(params=synthetic_params(WIDE, 3), vision=None, tokenizer=_Pieces)
    folder = tmp_path_factory.mktemp("coded")
    return {kind: ref.load(str(quantize(made, kind, folder / kind))) for kind in ("INT4", "SFP8", "Q8_0")}


@pytest.mark.parametrize("kind", ["INT4", "SFP8", "Q4_0"])
@pytest.mark.parametrize("held", ["INT4", "SFP8", "Q8_0"])
def test_a_kept_embedding_of_codes_is_read_back_value_by_value(tmp_path, coded, held, kind):
    """As codes where the target can hold them: a folder its own format's, a GGUF file ggml's. Else as float32."""
    source = coded[held]._replace(tokenizer=_Pieces)
    again = ref.load(str(quantize(source, kind, tmp_path / "out", keep_embedding=True)))
    ours, theirs = again.params.embedding, source.params.embedding
    np.testing.assert_array_equal(widen(ours).view(np.uint32), widen(theirs).view(np.uint32))
    if (held, kind) in (("INT4", "INT4"), ("SFP8", "SFP8"), ("Q8_0", "Q4_0")):
        assert ours.format == held
        np.testing.assert_array_equal(ours.data, theirs.data)
        np.testing.assert_array_equal(ours.scale, theirs.scale)
    else:
        assert ours.dtype == np.float32
    assert {layer.q.format for layer in again.params.layers} == {kind}


def test_a_folder_of_safetensors_is_a_source_too(tmp_path):
    save_tiny(tmp_path / "source")
    again = ref.load(str(quantize(ref.load(str(tmp_path / "source")), "SFP8", tmp_path / "out")))
    assert isinstance(again.params.embedding, Blocks)


@pytest.mark.parametrize("seeing", [True, False])
@pytest.mark.parametrize(("name", "tuned"), [("out", True), ("out-it", False)])  # against what the name says
def test_a_folder_stays_tuned_for_instructions_or_not(tmp_path, name, tuned, seeing):
    tiny = ref.load("tiny")._replace(instruction_tuned=tuned)
    folder = quantize(tiny if seeing else tiny._replace(vision=None), "SFP8", tmp_path / name)
    assert ref.load(str(folder)).instruction_tuned is tuned
    config = json.loads((folder / "config.json").read_text())
    stop = [1, 106] if tuned else [1]
    assert (config["eos_token_id"], config.get("text_config", config)["eos_token_id"]) == (stop, stop)


def test_json_says_what_was_written(tmp_path, capsys):
    told = json_of(capsys, "quantize", "--weights", "tiny", "--format", "sfp8", "-o", str(tmp_path / "out"))
    assert (told["weights"], told["format"]) == (str(tmp_path / "out"), "SFP8")
    assert told["bytes"] == sum(file.stat().st_size for file in (tmp_path / "out").iterdir())


def test_help_names_every_format(capsys):
    for command in ("quantize", "memory"):
        with pytest.raises(SystemExit, match="0"):
            main([command, "--help"])
        told = capsys.readouterr().out
        assert not [kind for kind in ENCODERS if kind.lower() not in told]


@pytest.mark.parametrize("kind", ENCODERS)
def test_some_rows_at_a_time_make_the_codes_of_the_whole(monkeypatch, kind):
    weight = np.random.default_rng(5).standard_normal((23, 64)).astype(np.float32)
    monkeypatch.setattr(plan, "ROWS", 7)
    whole, parts = encode(weight, kind), plan.encode_rows(weight, kind, "weight")
    np.testing.assert_array_equal(parts.data, whole.data)
    np.testing.assert_array_equal(parts.scale, whole.scale)


# --- what is refused


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


def test_what_is_not_encoded_must_be_finite_as_gguf_holds_it(tmp_path):
    pytest.importorskip("gguf")
    made = ref.load("tiny")._replace(params=synthetic_params(WIDE, 3), vision=None, tokenizer=_Pieces)
    norm = np.array(made.params.final_norm, np.float64)
    for value in (np.nan, 1e300):  # float64, which GGUF's norms are not
        norm[5] = value
        bad = made._replace(params=made.params._replace(final_norm=norm))
        with pytest.raises(BadInput, match=r"output_norm\.weight: value: wanted finite .*, got (nan|inf) at \[5\]"):
            quantize(bad, "Q4_0", tmp_path / "out")
    assert not list(tmp_path.iterdir())


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


# --- GGUF


class _Pieces:
    """A tokenizer with so many pieces."""

    def __init__(self, pieces=97):
        self.pieces = pieces

    @property
    def model(self):
        from sentencepiece import sentencepiece_model_pb2 as proto

        model = proto.ModelProto()
        for i in range(self.pieces):
            model.pieces.add(piece=f"p{i}", score=-i, type=1)
        return model.SerializeToString()


@pytest.mark.parametrize("kind", ["Q4_0", "Q8_0"])
@pytest.mark.parametrize("keep", [False, True])
def test_a_gguf_file_is_read_back_block_by_block(tmp_path, kind, keep):
    gguf = pytest.importorskip("gguf")
    config = WIDE._replace(rope_factor=8.0, query_scale=8**-0.5)
    params = synthetic_params(config, 3)
    source = ref.load("tiny")._replace(params=params, vision=None, tokenizer=_Pieces)
    path = quantize(source, kind, tmp_path / "out", keep)
    again = ref.load(str(path))
    ours, wanted = again.params.config, config
    assert ours._replace(name="", query_scale=0) == wanted._replace(name="", query_scale=0)
    reader = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    for (name, got), (_, source_weight) in zip(matrices(again.params), matrices(params), strict=True):
        if name == "embedding" and keep:
            np.testing.assert_array_equal(widen(got), widen(source_weight))
            continue
        want = encode(np.asarray(widen(source_weight), np.float32), kind)
        np.testing.assert_array_equal(got.data, want.data)
    table = reader["token_embd.weight"]
    np.testing.assert_array_equal(gguf.dequantize(table.data, table.tensor_type), widen(again.params.embedding))
    for got, source_vector in zip(vectors(again.params), vectors(params), strict=True):
        np.testing.assert_allclose(got, source_vector, atol=1e-7)


def test_what_gguf_cannot_say_is_refused(tmp_path):
    pytest.importorskip("gguf")
    source = ref.load("tiny")._replace(
        params=synthetic_params(WIDE._replace(global_every=4), 3), vision=None, tokenizer=_Pieces
    )
    with pytest.raises(BadInput, match=r"gguf: global_every: wanted 6, which llama\.cpp takes, got 4"):
        quantize(source, "Q4_0", tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("pieces", [32, 98])
def test_a_tokenizer_that_does_not_fit_is_refused_before_a_file_is_opened(tmp_path, monkeypatch, pieces):
    gguf = pytest.importorskip("gguf")
    monkeypatch.setattr(gguf, "GGUFWriter", None)
    source = ref.load("tiny")._replace(params=synthetic_params(WIDE, 3), vision=None, tokenizer=lambda: _Pieces(pieces))
    line = f"^tiny: tokenizer: wanted 33 to 97 pieces, for 97 rows of the embedding, got {pieces}$"
    with pytest.raises(BadInput, match=line):
        quantize(source, "Q4_0", tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_an_embedding_made_by_rows_can_be_kept(tmp_path):
    pytest.importorskip("gguf")
    made = ref.load("synthetic:270m")
    small = made.params.config._replace(layers=1)
    source = made._replace(
        params=synthetic_params(small, 0, bfloat16=True), tokenizer=lambda: _Pieces(small.vocabulary)
    )
    again = ref.load(str(quantize(source, "Q4_0", tmp_path / "out", keep_embedding=True)))
    np.testing.assert_array_equal(again.params.embedding[:5], take_rows(source.params.embedding, slice(0, 5)))


def test_others_may_read_what_is_written(tmp_path):
    path = quantize(ref.load("tiny"), "SFP8", tmp_path / "out")
    modes = {file.stat().st_mode & 0o777 for file in path.iterdir()}
    assert len(modes) == 1


def test_several_files_come_with_an_index(tmp_path, monkeypatch):
    monkeypatch.setattr(write, "SHARD", 20_000)
    path = quantize(ref.load("tiny"), "INT4", tmp_path / "out")
    index = json.loads((path / "model.safetensors.index.json").read_text())
    files = sorted(file.name for file in path.glob("*.safetensors"))
    assert len(files) > 2
    assert sorted(set(index["weight_map"].values())) == files
    assert isinstance(ref.load(str(path)).params.layers[6].down, Blocks)
