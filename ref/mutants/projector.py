"""Mistakes between the vision tower and the text model: the pool, the norm of soft tokens, the projection."""

import numpy as np

from ref.mutants.base import TapMutant
from ref.mutants.needs import Needs


def _consecutive(at):
    x = at["vision.post_norm"]
    return x.reshape(x.shape[0], -1, at.vision.pool**2, x.shape[-1]).mean(axis=2)


def _max_pool(at):
    x, pool, side = at["vision.post_norm"], at.vision.pool, at.vision.side
    squares = x.reshape(x.shape[0], side // pool, pool, side // pool, pool, x.shape[-1])
    return squares.max(axis=(2, 4)).reshape(x.shape[0], -1, x.shape[-1])


def _pool_first(at):
    """The tower's last norm after the pool instead of before."""
    pooled = at.ops.average_pool(at[f"vision.layer.{at.vision.layers - 1}.out"], at.vision.pool)
    return at.ops.layer_norm(pooled, at.vector("post_norm"), at.vector("post_norm_bias"), at.vision.layer_norm_eps)


def _first_row(at):
    """Only the first of the M rows is normalised."""
    x = at["vision.pool"].copy()
    x[:, :1] = at.ops.rms_norm(x[:, :1], at.vector("soft_norm"), at.vision.layer_norm_eps)
    return x


def _transposed_projection(at):
    flat = np.ascontiguousarray(at.vector("projection")).reshape(-1)
    wrong = flat.reshape(at.vector("projection").shape[1], -1).T  # its values laid out as the transpose's
    return at.ops.linear(at["vision.soft_norm"], np.ascontiguousarray(wrong.T))


PROJECTOR_MUTANTS = [
    TapMutant(
        name="pool_consecutive",
        what="Runs of patches are averaged instead of squares.",
        needs=Needs(image="any"),
        rules={"vision.pool": _consecutive},
    ),
    TapMutant(
        name="pool_maximum",
        what="The largest of each square is taken, not the mean.",
        needs=Needs(image="any"),
        rules={"vision.pool": _max_pool},
    ),
    TapMutant(
        name="pool_before_post_norm",
        what="Patches are averaged before the tower's last norm.",
        needs=Needs(image="any"),
        rules={"vision.pool": _pool_first},
    ),
    TapMutant(
        name="soft_norm_first_row_only",
        what="Only the first soft token of an image is normalised.",
        needs=Needs(image="any"),
        rules={"vision.soft_norm": _first_row},
    ),
    TapMutant(
        name="soft_norm_missing",
        what="Soft tokens are not normalised.",
        needs=Needs(image="any"),
        rules={"vision.soft_norm": lambda at: at["vision.pool"]},
    ),
    TapMutant(
        name="projection_transposed",
        what="The projection's values are read as those of its transpose.",
        needs=Needs(image="any"),
        rules={"vision.soft_tokens": _transposed_projection},
    ),
]
