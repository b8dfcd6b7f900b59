"""`quantize`: what is written is read back, by our loader and as a file; refusals leave nothing behind."""

import json

import numpy as np
import pytest
from support.checkpoints import save_tiny
from support.command_line import json_of
from support.quantized import Pieces, wide

import ref
from ref.cli import main
from ref.ops.blocks import Blocks, decode
from ref.ops.linear import widen
from ref.quant import plan, write
from ref.quant.encode import ENCODERS, encode
from ref.quant.write import quantize


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
    folder = tmp_path_factory.mktemp("coded")
    return {kind: ref.load(str(quantize(wide(), kind, folder / kind))) for kind in ("INT4", "SFP8", "Q8_0")}


@pytest.mark.parametrize("kind", ["INT4", "SFP8", "Q4_0"])
@pytest.mark.parametrize("held", ["INT4", "SFP8", "Q8_0"])
def test_a_kept_embedding_of_codes_is_read_back_value_by_value(tmp_path, coded, held, kind):
    """As codes where the target can hold them: a folder its own format's, a GGUF file ggml's. Else as float32."""
    source = coded[held]._replace(tokenizer=Pieces)
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


@pytest.mark.parametrize("flags", [[], ["--keep-embedding"]])
def test_the_command_keeps_the_embedding_when_it_is_told_to(tmp_path, flags):
    save_tiny(tmp_path / "source")
    arguments = ["--weights", str(tmp_path / "source"), "--format", "int4", "-o", str(tmp_path / "out")]
    assert main(["quantize", *arguments, *flags]) == 0
    ours, was = (ref.load(str(tmp_path / name)).params.embedding for name in ("out", "source"))
    if flags:
        assert ours.dtype == np.uint16
        np.testing.assert_array_equal(ours, was)
    else:
        assert ours.format == "INT4"


@pytest.mark.parametrize("linked", [False, True])  # as a Hugging Face cache has it
def test_the_command_copies_the_tokenizer_of_a_folder(tmp_path, linked):
    save_tiny(tmp_path / "source")
    file = tmp_path / "source/tokenizer.model"
    (tmp_path / "blob" if linked else file).write_bytes(b"pieces")
    if linked:
        file.symlink_to(tmp_path / "blob")
    out = tmp_path / "out"
    assert main(["quantize", "--weights", str(tmp_path / "source"), "--format", "sfp8", "-o", str(out)]) == 0
    assert (out / "tokenizer.model").read_bytes() == b"pieces"
    assert not (out / "tokenizer.model").is_symlink()
    assert sorted(path.name for path in out.iterdir()) == ["config.json", "model.safetensors", "tokenizer.model"]


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
