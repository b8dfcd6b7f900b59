"""Models of google-deepmind/gemma that their owners have patched are heard as they are, and left so."""

import numpy as np
import pytest
from support.captures import distance
from support.gemma_captures import IDS, Pair, needs_gemma, only_pass, plain

from ref.capture.gemma import capture
from ref.config import SIZES
from ref.model.taps import tap_names

TINY = SIZES["tiny"]


@needs_gemma
def test_a_mistake_planted_after_a_first_capture_is_heard(tmp_path, parts, tiny: Pair, monkeypatch):
    before = only_pass(tiny, tmp_path / "before")
    monkeypatch.setattr(parts.nn, "gelu", lambda x: parts.jax.nn.gelu(x, approximate=False))
    after = only_pass(tiny, tmp_path / "after")
    for tap in tap_names(TINY.layers)[: tap_names(TINY.layers).index("text.layer.0.ffn.act")]:
        np.testing.assert_array_equal(before[tap], after[tap])
    gate, up = after["text.layer.0.ffn.gate"], after["text.layer.0.ffn.up"]
    exact = np.asarray(parts.jax.nn.gelu(gate, approximate=False)) * up
    assert distance(after["text.layer.0.ffn.act"], exact) < 1e-6 < distance(before["text.layer.0.ffn.act"], exact)


@needs_gemma
def test_a_mask_that_was_changed_is_shown(tmp_path, parts, tiny: Pair, monkeypatch):
    make = parts.modules.create_sliding_mask

    def one_less(*args, sliding_window_size, **kwargs):
        return make(*args, sliding_window_size=sliding_window_size - 1, **kwargs)

    monkeypatch.setattr(parts.modules, "create_sliding_mask", one_less)
    values = only_pass(tiny, tmp_path / "dump")
    assert values["text.layer.0.attn.visible"].tolist() == [[[max(0, n - 3), n + 1] for n in range(len(IDS))]]
    assert values["text.layer.5.attn.visible"].tolist() == [[[0, n + 1] for n in range(len(IDS))]]


@needs_gemma
def test_a_replaced_rotation_is_heard(tmp_path, parts, tiny: Pair, monkeypatch):
    monkeypatch.setattr(parts.rotations, "apply_rope", lambda x, *args, **kwargs: 2 * x)
    one = only_pass(tiny, tmp_path / "dump")
    for tap in ("text.layer.3.attn.q", "text.layer.5.attn.k"):
        np.testing.assert_array_equal(one[f"{tap}_rope"], 2 * one[f"{tap}_norm"])


def state(parts):
    return parts.modules.jnp, parts.rotations.apply_rope, parts.modules.jnp.where


@needs_gemma
def test_everything_is_as_it_was_also_after_an_error(tmp_path, parts, tiny: Pair, monkeypatch):
    before, logits = state(parts), plain(parts, tiny)
    capture(*tiny, IDS, tmp_path / "dump", taps=["text.logits"])
    assert state(parts) == before

    def breaks(*_):
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(parts.nn, "gelu", breaks)
        with pytest.raises(ZeroDivisionError):
            capture(*tiny, IDS, tmp_path / "broken")
    assert state(parts) == before
    assert [path.name for path in tmp_path.iterdir()] == ["dump"]
    np.testing.assert_array_equal(plain(parts, tiny), logits)
