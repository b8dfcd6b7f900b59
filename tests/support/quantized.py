"""A model that every format fits, and a tokenizer for it: what `quantize` is tested with."""

import ref
from ref.config import SIZES
from ref.weights.resolve import Loaded
from ref.weights.synthetic import synthetic_params

# TINY in blocks of 32, and with the query scale that llama.cpp takes
WIDE = SIZES["tiny"]._replace(name="wide", width=64, ffn_width=96, head_dim=8, query_heads=12, query_scale=8**-0.5)


class Pieces:
    """A tokenizer of these pieces, or of so many normal ones."""

    def __init__(self, pieces=WIDE.vocabulary):
        self.pieces = [(f"p{i}", 1) for i in range(pieces)] if isinstance(pieces, int) else pieces

    @property
    def model(self) -> bytes:
        """Return a `tokenizer.model`; the score is the piece's place, below 0."""
        from sentencepiece import sentencepiece_model_pb2 as proto

        model = proto.ModelProto()
        for i, (piece, kind) in enumerate(self.pieces):
            model.pieces.add(piece=piece, score=-i, type=kind)
        return model.SerializeToString()


def wide(pieces=WIDE.vocabulary, **changes) -> Loaded:
    """Return WIDE, changed, with made-up weights."""
    params = synthetic_params(WIDE._replace(**changes), 3)
    return ref.load("tiny")._replace(params=params, vision=None, tokenizer=lambda: Pieces(pieces))
