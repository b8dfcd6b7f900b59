"""A head that is not the embedding is a tensor of the weights, in folders and in GGUF files."""

import numpy as np
import pytest
from support.checkpoints import (
    SMALL,
    assert_same_params,
    change_config,
    change_tensors,
    save_gguf,
    save_tiny,
)
from support.untied import own_head, untied_tiny

from ref.errors import BadInput
from ref.model.text import How, forward
from ref.ops.blocks import Blocks
from ref.ops.linear import widen
from ref.quant.write import quantize
from ref.weights.export import save_hugging_face
from ref.weights.resolve import load
from ref.weights.synthetic import synthetic_params

IDS = [[2, 7, 96, 0, 45, 31]]


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("style", [None, "4.51", "4.52"])
def test_a_folder_keeps_its_head(tmp_path, style, shards):
    tiny = untied_tiny(sees=style is not None)
    save_hugging_face(tiny.params, tmp_path / "own", shards, tiny.vision, style or "4.51")
    loaded = load(str(tmp_path / "own"))
    assert_same_params(loaded.params, tiny.params)
    assert loaded.params.head is not None
    assert loaded.report.left == ()


def put_head(change):
    """Return a change of tensors that stores the embedding as a head, too, and then changes it."""

    def add(tensors):
        head = np.array(tensors["model.embed_tokens.weight"])
        change(head)
        tensors["lm_head.weight"] = head

    return add


def one_value(head):
    head[77, 3] += 1


def test_values_are_believed_more_than_a_configuration_that_says_tied(tmp_path):
    save_tiny(tmp_path / "tiny", bfloat16=False)
    change_tensors(tmp_path / "tiny", put_head(one_value))
    params = load(str(tmp_path / "tiny")).params
    assert params.head is not None
    assert np.argwhere(params.head != params.embedding).tolist() == [[77, 3]]


def test_a_configuration_may_say_untied_of_equal_values(tmp_path):
    save_tiny(tmp_path / "tiny")
    change_tensors(tmp_path / "tiny", put_head(lambda head: None))
    assert load(str(tmp_path / "tiny")).params.head is None
    change_config(tmp_path / "tiny", tie_word_embeddings=False)
    params = load(str(tmp_path / "tiny")).params
    np.testing.assert_array_equal(params.head, params.embedding)


def test_what_cannot_be_is_refused_in_one_line(tmp_path):
    save_tiny(tmp_path / "tiny")
    change_config(tmp_path / "tiny", tie_word_embeddings=False)
    with pytest.raises(BadInput, match=r"tensor lm_head.weight: wanted shape \[97, 36\], got no such tensor"):
        load(str(tmp_path / "tiny"))
    change_config(tmp_path / "tiny", tie_word_embeddings="no")
    with pytest.raises(BadInput, match="tie_word_embeddings: wanted true or false, got 'no'"):
        load(str(tmp_path / "tiny"))
    change_config(tmp_path / "tiny", tie_word_embeddings=True)
    change_tensors(tmp_path / "tiny", lambda tensors: tensors.update({"lm_head.weight": np.zeros((36, 97), "f4")}))
    with pytest.raises(BadInput, match=r"tensor lm_head.weight: wanted shape \[97, 36\], got \[36, 97\] \(transposed"):
        load(str(tmp_path / "tiny"))


@pytest.mark.parametrize("kind", ["F32", "Q8_0"])
def test_a_gguf_file_keeps_its_head(tmp_path, kind):
    small = synthetic_params(SMALL, 5, bfloat16=True)
    small = small._replace(head=own_head(small.embedding.shape))
    save_gguf(tmp_path / "own.gguf", small, kind)
    params = load(str(tmp_path / "own.gguf")).params
    assert isinstance(params.head, Blocks) == (kind == "Q8_0")
    error = np.abs(widen(params.head) - small.head).max()
    assert error <= (0 if kind == "F32" else np.abs(small.head).max() / 127)


def test_the_head_makes_the_logits_and_nothing_else():
    tied, own = untied_tiny().params._replace(head=None), untied_tiny().params
    got, was = (forward(params, IDS, How(dtype=np.float64))[0] for params in (own, tied))
    embedding, head = (np.asarray(x, np.float64) for x in (own.embedding, own.head))
    normed = np.linalg.lstsq(embedding, was[0].T, rcond=None)[0].T
    np.testing.assert_allclose(got[0], normed @ head.T, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("held_as", ["float32", "bfloat16"])
def test_the_head_is_held_as_the_matrices_are(tmp_path, held_as):
    tiny = untied_tiny()
    save_hugging_face(tiny.params, tmp_path / "own")
    params = load(str(tmp_path / "own"), held_as).params
    assert params.head.dtype == params.embedding.dtype == (np.uint16 if held_as == "bfloat16" else np.float32)


@pytest.mark.parametrize("keep", [True, False])
def test_the_head_is_quantised_as_the_embedding_is(tmp_path, keep):
    tiny = untied_tiny()
    params = load(str(quantize(tiny, "INT4", tmp_path / "out", keep_embedding=keep))).params
    assert isinstance(params.head, Blocks) == isinstance(params.embedding, Blocks) == (not keep)
    largest = np.abs(tiny.params.head).max()
    assert np.abs(widen(params.head) - tiny.params.head).max() <= (0 if keep else largest / 7)
