"""A tokenizer's model trained on a few lines, and what a refusal of one looks like."""

import io

import pytest
from sentencepiece import SentencePieceTrainer

from ref.errors import BadInput

NAMES = ["<mask>", "[multimodal]", *(f"<unused{i}>" for i in range(99)), "<start_of_turn>", "<end_of_turn>"]
TEXT = [
    "the cat sat on the mat",
    "a naïve café",
    "日本語 テスト",
    "one two  three",
    "hello world hello word",
] * 20


def train(names=NAMES, **options) -> bytes:
    given = {"vocab_size": 4 + len(names) + 256 + 90, "byte_fallback": True, "add_dummy_prefix": False}
    given |= {"remove_extra_whitespaces": False, "normalization_rule_name": "identity", "model_type": "bpe"}
    given |= {"pad_id": 0, "eos_id": 1, "bos_id": 2, "unk_id": 3, "pad_piece": "<pad>", "eos_piece": "<eos>"}
    given |= {"bos_piece": "<bos>", "unk_piece": "<unk>", "user_defined_symbols": names, "minloglevel": 2}
    out = io.BytesIO()
    SentencePieceTrainer.train(sentence_iterator=iter(TEXT), model_writer=out, **(given | options))
    return out.getvalue()


def refused(match):
    """Expect one line of BadInput."""
    return pytest.raises(BadInput, match=r"\A[^\n]*" + match + r"[^\n]*\Z")
