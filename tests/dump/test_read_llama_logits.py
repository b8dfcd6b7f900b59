"""Files of llama-debug --save-logits: judged by the last token's logits or by every token's final norm."""

import numpy as np
import pytest
from support.judged import captured

import ref
from ref import compare
from ref.dump.open import open_dump
from ref.dump.read_llama_text import read_llama_ids, read_llama_text
from ref.errors import BadInput
from ref.mutants import tap_mutants

IDS = [20 + i % 70 for i in range(19)]


def saved(folder, values, suffix="", ids=IDS):
    """Write what llama-debug writes: float32 and int32, one after the other, and its texts beside them."""
    base = f"llamacpp-tiny{suffix}"
    (folder / f"{base}.bin").write_bytes(np.asarray(values, "<f4").tobytes())
    (folder / f"{base}-tokens.bin").write_bytes(np.asarray(ids, "<i4").tobytes())
    (folder / f"{base}-prompt.txt").write_text(f"prompt: x\nn_tokens: {len(ids)}\ntoken ids: {ids}\n")
    return folder / f"{base}.bin"


def judged(path):
    return compare(path, loaded=ref.load("tiny"))


@pytest.mark.parametrize("mistake", [None, "rope_interleaved"])
def test_logits_of_the_last_token(tmp_path, mistake):
    taps = captured(tap_mutants()[mistake].rules if mistake else None)
    report = judged(saved(tmp_path, taps["text.logits"][0, -1]))
    assert report["verdict"] == ("bug" if mistake else "match")
    if mistake:
        [first, *_] = report["from_logits"]["ranked"]
        assert (first["mutant"], first["verdict"]) == (mistake, "named")


def test_embeddings_of_every_token(tmp_path):
    taps = captured(tap_mutants()["embed_unscaled"].rules)
    report = judged(saved(tmp_path, taps["text.final_norm"], "-embeddings"))
    assert (report["verdict"], report["first"]["tap"]) == ("bug", "text.final_norm")
    assert judged(saved(tmp_path, captured()["text.final_norm"], "-embeddings"))["verdict"] == "match"


def test_ids_that_are_given_must_be_the_same(tmp_path):
    path = saved(tmp_path, np.zeros(97))
    assert open_dump(path, IDS).passes[0].ids.tolist() == IDS
    with pytest.raises(BadInput, match="token id at 2"):
        open_dump(path, [*IDS[:2], 1, *IDS[3:]])


@pytest.mark.parametrize(
    ("values", "suffix", "ids", "line"),
    [
        (np.zeros(96), "", IDS, "logits: wanted 97, of the last token, got 96"),
        (np.zeros(0), "", IDS, "logits: wanted 97, of the last token, got none"),
        (np.zeros(36 * 18), "-embeddings", IDS, "embeddings: wanted 36 for each of 19 tokens, got 648 values"),
        (np.zeros(97), "", [], "token ids: wanted at least one, each 0 or more, got none"),
        (np.zeros(97), "", [5, -1], "token ids: wanted at least one, each 0 or more"),
    ],
)
def test_what_is_none_is_refused(tmp_path, values, suffix, ids, line):
    with pytest.raises(BadInput) as error:
        judged(saved(tmp_path, values, suffix, ids))
    assert line in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_a_file_cut_short_and_one_without_tokens(tmp_path):
    path = saved(tmp_path, np.zeros(97))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BadInput, match="values of 4 bytes, got 387 bytes"):
        judged(path)
    (tmp_path / "llamacpp-tiny-tokens.bin").unlink()
    with pytest.raises(BadInput, match="a pickle, which runs code"):
        judged(path)


TEXT = """Model add_bos: true
Input prompt: "The cap"
Token ids (3):
<bos>(2) The(818)  cap(3523)

ggml_debug:               Qcur-0 = (f32)    MUL_MAT(blk.0.attn_q.weight{2, 4, 1, 1}, attn_norm-0{2, 3, 1, 1}}) = {4, 3, 1, 1}
                                     [
                                      [
                                       [      1.0000,       2.0000,       3.0000,       4.0000],
                                       [      5.0000,       6.0000,       7.0000,       8.0000],
                                       [      9.0000,      10.0000,      11.0000,      12.0000],
                                      ],
                                     ]
                                     sum    = 78.000000
                                     sum_sq = 650.000000
"""  # noqa: E501


def test_the_text_of_llama_debug(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    assert read_llama_ids(path) == [2, 818, 3523]
    [(tap, found)] = read_llama_text(path, 2).items()
    assert (tap, found.shape, found.sum) == ("text.layer.0.attn.q", (1, 3, 2, 2), 78.0)
    assert found.values.tolist() == list(range(1, 13))


def test_pieces_that_look_like_ids_are_not_taken_for_them(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT.replace("The(818)", "(7) (818)"))
    assert read_llama_ids(path) == []
