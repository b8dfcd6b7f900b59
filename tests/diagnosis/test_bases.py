"""A port in another basis is no bug where the basis cancels; its wrong sibling, where it does not, is one."""

import numpy as np
import pytest
from support.caused import LOCAL, normed, product, report_of, right, rotated, table_of

from ref.emulate.text_rules import LAYER

ORDER = np.random.default_rng(1).permutation(44)
FACTOR = np.exp(0.5 * np.random.default_rng(2).normal(size=44)).astype(np.float32)
PAIRS = np.arange(10).reshape(2, 5).T.ravel()  # j, j + half, j + 1, ...


def up(name):
    return LAYER + name


def channels(cancels):
    """Permute the channels of the feed-forward network, and of the columns that read them."""
    undone = np.argsort(ORDER) if cancels else np.arange(44)
    return {
        up("ffn.gate"): lambda at: right("ffn.gate")(at)[..., ORDER],
        up("ffn.up"): lambda at: right("ffn.up")(at)[..., ORDER],
        up("ffn.out"): lambda at: product(at["ffn.act"][..., undone], at.weights.down),
    }


def factors(cancels):
    """Multiply the channels of `up`, and divide the columns that read them."""
    by = FACTOR if cancels else np.ones(44, np.float32)
    return {
        up("ffn.up"): lambda at: right("ffn.up")(at) * FACTOR,
        up("ffn.out"): lambda at: product(at["ffn.act"] / by, at.weights.down),
    }


def interleaved(cancels):
    """Store pairs side by side: rows of q and k, and the gains of their norms, or those forgotten."""

    def own_norm(at, name, gain):
        x, w = at[name].astype(np.float64), np.asarray(gain, np.float64)
        size = np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + 1e-6)
        return (x / size * (1 + (w[PAIRS] if cancels else w))).astype(np.float32)

    def turned(at, name):
        return rotated(at[name][..., np.argsort(PAIRS)], table_of(at))[..., PAIRS]

    return {
        up("attn.q"): lambda at: right("attn.q")(at)[..., PAIRS],
        up("attn.k"): lambda at: right("attn.k")(at)[..., PAIRS],
        up("attn.q_norm"): lambda at: own_norm(at, "attn.q", at.weights.q_norm),
        up("attn.k_norm"): lambda at: own_norm(at, "attn.k", at.weights.k_norm),
        up("attn.q_rope"): lambda at: turned(at, "attn.q_norm"),
        up("attn.k_rope"): lambda at: turned(at, "attn.k_norm"),
    }


@pytest.mark.parametrize(
    ("change", "taps", "cancels_at", "what"),
    [
        (channels, ["ffn.gate", "ffn.up", "ffn.act"], "ffn.out", "Channels stand in another order: 0 holds 19, "),
        (factors, ["ffn.up", "ffn.act"], "ffn.out", "Each channel has a factor of its own, from 0.295 to 2.796."),
        (
            interleaved,
            ["attn.q", "attn.k", "attn.q_norm", "attn.k_norm", "attn.q_rope", "attn.k_rope"],
            "attn.scores",
            "Channels of each head stand in another order: pairs interleaved: j, j + half, j + 1, ",
        ),
    ],
)
def test_a_basis_that_cancels_is_no_bug(change, taps, cancels_at, what):
    report = report_of(change(True), LOCAL)
    assert report["verdict"].startswith("match")
    assert (report["causes"], report["first"], report["proof"]) == ([], None, None)
    (base,) = report["bases"]
    assert base["what"].startswith(what)
    assert base["layers"] == [LOCAL]
    assert base["taps"] == [f"text.layer.{LOCAL}.{tap}" for tap in taps]
    assert base["cancels_at"] == [f"text.layer.{LOCAL}.{cancels_at}"]


@pytest.mark.parametrize(
    ("change", "name", "taps"),
    [
        (channels, "channels_permuted", ["ffn.gate", "ffn.up"]),
        (factors, "channel_factors", ["ffn.up"]),
        (interleaved, "weights_not_in_the_basis", ["attn.q_norm", "attn.k_norm"]),
    ],
)
def test_a_basis_that_does_not_cancel_is_one(change, name, taps):
    report = report_of(change(False), LOCAL)
    assert report["verdict"] == "bug"
    (cause,) = report["causes"]
    assert (cause["mutant"], cause["verdict"]) == (name, "named")
    assert cause["taps"] == [f"text.layer.{LOCAL}.{tap}" for tap in taps]
    assert report["proof"]["verdict"] == "explained"


def test_scales_folded_into_the_gain_before_one_is_added_are_a_bug():
    scales = np.exp(0.4 * np.random.default_rng(4).normal(size=36))

    def norm(at):
        return normed(at["mid"], np.asarray(at.weights.pre_ffn_norm, np.float64) / scales)

    def times(field):
        return lambda at: product(at["ffn.pre_norm"], np.asarray(getattr(at.weights, field), np.float64) * scales)

    rules = {LAYER + "ffn.gate": times("gate"), LAYER + "ffn.up": times("up")}
    report = report_of(rules | {LAYER + "ffn.pre_norm": norm}, LOCAL)
    assert report["verdict"] == "bug"
    assert report["first"]["tap"] == f"text.layer.{LOCAL}.ffn.pre_norm"
    assert [one["mutant"] for one in report["causes"]] == ["norm_gain_scaled_before_one"]
