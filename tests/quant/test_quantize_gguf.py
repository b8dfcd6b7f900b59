"""`quantize` to GGUF: what is written is read back, and its metadata are those that llama.cpp's converter writes."""

import numpy as np
import pytest
from support.checkpoints import tensors_of
from support.quantized import WIDE, Pieces, wide

import ref
from ref.errors import BadInput
from ref.ops.linear import take_rows, widen
from ref.quant.encode import encode
from ref.quant.write import quantize
from ref.weights.gguf import open_gguf
from ref.weights.names import EMBEDDING, is_norm
from ref.weights.package import package_file
from ref.weights.synthetic import synthetic_params

gguf = pytest.importorskip("gguf")


@pytest.mark.parametrize("kind", ["Q4_0", "Q8_0"])
@pytest.mark.parametrize("keep", [False, True])
def test_a_gguf_file_is_read_back_block_by_block(tmp_path, kind, keep):
    source = wide()
    path = quantize(source, kind, tmp_path / "out", keep)
    again = ref.load(str(path))
    assert again.params.config._replace(name="wide") == WIDE
    for (field, layer, got), (_, _, was) in zip(tensors_of(again.params), tensors_of(source.params), strict=True):
        if is_norm(field):
            np.testing.assert_allclose(got, was, atol=1e-7)
        elif field == EMBEDDING and keep:
            np.testing.assert_array_equal(got, was)
        else:
            want = encode(np.asarray(widen(was), np.float32), kind)
            np.testing.assert_array_equal(got.data, want.data, err_msg=f"{field} {layer}")
    table = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}["token_embd.weight"]
    np.testing.assert_array_equal(gguf.dequantize(table.data, table.tensor_type), widen(again.params.embedding))


def test_an_embedding_made_by_rows_can_be_kept(tmp_path):
    made = ref.load("synthetic:270m")
    small = made.params.config._replace(layers=1)
    source = made._replace(params=synthetic_params(small, 0), tokenizer=lambda: Pieces(small.vocabulary))
    again = ref.load(str(quantize(source, "Q4_0", tmp_path / "out", keep_embedding=True)))
    np.testing.assert_array_equal(again.params.embedding[:5], take_rows(source.params.embedding, slice(0, 5)))


# piece, SentencePiece's type -> GGUF's type: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte
NAMED = [("<pad>", 3, 3), ("<eos>", 3, 3), ("<bos>", 3, 3), ("<unk>", 2, 3), ("<start_of_turn>", 4, 3)]
NAMED += [("<0x41>", 6, 6), ("<unused7>", 4, 3), ("▁▁", 4, 4), ("▁the", 1, 1)]


@pytest.mark.parametrize(("kind", "file_type"), [("Q4_0", 2), ("Q8_0", 7)])
@pytest.mark.parametrize("tuned", [False, True])
def test_metadata_are_these_and_no_others(tmp_path, kind, file_type, tuned):
    """Beside the tokenizer's arrays. No two numbers of the model are the same, but that keys are as long as values."""
    config = {"rope_base_global": 500_000.0, "max_positions": 4096, "rms_eps": 1e-5, "rope_factor": 4.0}
    source = wide([(piece, kind) for piece, kind, _ in NAMED], vocabulary=len(NAMED), **config)
    path = quantize(source._replace(instruction_tuned=tuned), kind, tmp_path / "out")
    assert path.name == f"gemma-3-wide{'-it' if tuned else ''}-{kind.lower()}.gguf"
    file = open_gguf(path)
    arrays = {f"tokenizer.ggml.{name}" for name in ("tokens", "scores", "token_type")}
    assert {key: value for key, value in file.metadata.items() if key not in arrays} == {
        "general.architecture": "gemma3",
        "general.name": f"Gemma 3 wide{' it' if tuned else ''}",
        "general.license": "gemma",
        "general.file_type": file_type,
        "general.quantization_version": 2,
        "gemma3.context_length": 4096,
        "gemma3.embedding_length": 64,
        "gemma3.block_count": 7,
        "gemma3.feed_forward_length": 96,
        "gemma3.attention.head_count": 12,
        "gemma3.attention.head_count_kv": 3,
        "gemma3.attention.key_length": 8,
        "gemma3.attention.value_length": 8,
        "gemma3.attention.layer_norm_rms_epsilon": float(np.float32(1e-5)),
        "gemma3.attention.sliding_window": 5,
        "gemma3.rope.freq_base": 500_000.0,
        "gemma3.rope.scaling.type": "linear",
        "gemma3.rope.scaling.factor": 4.0,
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.bos_token_id": 2,
        "tokenizer.ggml.eos_token_id": 1,
        "tokenizer.ggml.unknown_token_id": 3,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_eos_token": False,
        "tokenizer.ggml.add_space_prefix": False,
    }
    again = ref.load(str(path.rename(tmp_path / "other.gguf")))
    assert again.instruction_tuned is tuned
    assert again.params.config == source.params.config._replace(name="custom")


def test_a_factor_of_1_is_not_written(tmp_path):
    path = quantize(wide(rope_factor=1.0), "Q8_0", tmp_path / "out")
    assert not [key for key in open_gguf(path).metadata if key.startswith("gemma3.rope.scaling")]


def test_the_tokenizer_s_arrays_are_these(tmp_path):
    """A row without a piece is a pad."""
    source = wide([(piece, kind) for piece, kind, _ in NAMED], vocabulary=len(NAMED) + 2)
    pieces, scores, types = open_gguf(quantize(source, "Q8_0", tmp_path / "out")).vocabulary()
    assert [piece.decode() for piece in pieces] == [
        *("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<0x41>", "<unused7>", "  ", "▁the"),
        *("[PAD9]", "[PAD10]"),
    ]
    assert types.tolist() == [*(kind for _, _, kind in NAMED), 5, 5]
    assert scores.tolist() == [-1000] * 5 + [-5, -1000, -1000, -8, -10_000, -10_000]


def test_rows_of_a_multimodal_checkpoint_begin_with_the_soft_token(tmp_path):
    source = wide(262_144, vocabulary=262_208, layers=1, width=32)
    pieces, scores, types = open_gguf(quantize(source, "Q8_0", tmp_path / "out")).vocabulary()
    assert len(pieces) == 262_208
    assert pieces[262_143:262_146] == [b"p262143", b"<image_soft_token>", b"[PAD262145]"]
    assert types[262_143:].tolist() == [1, 3] + [5] * 63
    assert scores[262_143:].tolist() == [-262_143, -1000] + [-10_000] * 63


@pytest.mark.weights
def test_the_vocabulary_of_the_released_file_is_written_as_it_is(tmp_path):
    loaded = ref.load("270m")
    first = loaded.params._replace(config=loaded.params.config._replace(layers=1), layers=[loaded.params.layers[0]])
    path = quantize(loaded._replace(params=first), "Q8_0", tmp_path / "out", keep_embedding=True)
    ours, released = open_gguf(path), open_gguf(package_file())
    assert ours.vocabulary_digest() == released.vocabulary_digest()
    same = [key for key in ours.metadata if key.startswith("tokenizer.ggml.add_") or key.endswith("_token_id")]
    assert len(same) == 7
    assert {key: ours.metadata[key] for key in same} == {key: released.metadata[key] for key in same}


# --- what is refused


def test_what_gguf_cannot_say_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"gguf: global_every: wanted 6, which llama\.cpp takes, got 4"):
        quantize(wide(global_every=4), "Q4_0", tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("pieces", [32, 98])
def test_a_tokenizer_that_does_not_fit_is_refused_before_a_file_is_opened(tmp_path, monkeypatch, pieces):
    monkeypatch.setattr(gguf, "GGUFWriter", None)
    line = f"^tiny: tokenizer: wanted 33 to 97 pieces, for 97 rows of the embedding, got {pieces}$"
    with pytest.raises(BadInput, match=line):
        quantize(wide(pieces), "Q4_0", tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_what_is_not_encoded_must_be_finite_as_gguf_holds_it(tmp_path):
    made = wide()
    norm = np.array(made.params.final_norm, np.float64)
    for value in (np.nan, 1e300):  # float64, which GGUF's norms are not
        norm[5] = value
        bad = made._replace(params=made.params._replace(final_norm=norm))
        with pytest.raises(BadInput, match=r"output_norm\.weight: value: wanted finite .*, got (nan|inf) at \[5\]"):
            quantize(bad, "Q4_0", tmp_path / "out")
    assert not list(tmp_path.iterdir())
