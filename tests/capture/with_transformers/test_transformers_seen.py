"""What is said of masks and scores: only what the probabilities bear out."""

import argparse
from importlib.util import find_spec

import numpy as np
import pytest
from support.transformers_captures import IDS, only_pass, text_only

from ref.capture.transformers.seen import lead_to, scores_behind, seen_cells, visible_keys
from ref.config import SIZES
from ref.model.taps import tap_names

pytestmark = pytest.mark.witness
if find_spec("torch") and find_spec("transformers"):
    import torch
    from transformers.models.gemma3 import modeling_gemma3 as gemma3

TINY = SIZES["tiny"]


def test_scores_are_there_only_where_the_probabilities_are_theirs(tmp_path, model, monkeypatch):
    inner = gemma3.eager_attention_forward

    def tiled(module, query, key, value, attention_mask, scaling=None, **kwargs):
        if module.layer_idx != 2:
            return inner(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
        heads = torch.arange(query.shape[1]) % key.shape[1]  # not n div G
        probs = torch.softmax(query @ key[:, heads].transpose(2, 3) * scaling + attention_mask, -1)
        return (probs @ gemma3.repeat_kv(value, module.num_key_value_groups)).transpose(1, 2), probs

    before = only_pass(model, tmp_path / "before")
    monkeypatch.setattr(gemma3, "eager_attention_forward", tiled)
    values = only_pass(model, tmp_path / "dump")
    assert before.keys() - values.keys() == {"text.layer.2.attn.scores"}


@pytest.mark.parametrize("way", ["view", "copy"])
@pytest.mark.parametrize("heads", [(4, 1), (4, 2), (2, 2)])
@pytest.mark.parametrize("rows", [1, 2, 3])
def test_scores_are_those_of_the_probabilities_to_the_last_bit(rows, heads, way):
    """Of several rows with one key head a view and a copy are multiplied in unlike orders."""
    rng = torch.Generator().manual_seed(0)
    q, k = (torch.randn(rows, n, s, 256, generator=rng) for n, s in zip(heads, (1, 11), strict=True))
    mask = torch.zeros(rows, 1, 1, 11)
    mask[0, ..., :4] = torch.finfo(torch.float32).min
    groups = heads[0] // heads[1]
    repeated = gemma3.repeat_kv(k, groups) if way == "view" else k.repeat_interleave(groups, 1)
    true = q @ repeated.transpose(2, 3) * 0.5
    found = scores_behind(q, k, 0.5, mask, torch.softmax(true + mask, -1))
    assert torch.equal(found, true)


def test_scores_that_lead_to_others_in_their_last_bits_are_none():
    """A unit of a score of 8 is 8 units of its probability, which a judge in float32 sees."""
    q = torch.tensor([[[[8.0]]]])
    k = torch.tensor([[[[1.0], [0.9], [0.5]]]])
    true = q @ k.transpose(2, 3)
    assert torch.equal(scores_behind(q, k, 1.0, None, torch.softmax(true, -1)), true)
    other = torch.nextafter(true, torch.zeros(()))
    other[..., 1] = true[..., 1]
    assert scores_behind(q, k, 1.0, None, torch.softmax(other, -1)) is None


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_scores_may_be_infinite(tmp_path, dtype):
    model = text_only(dtype)
    with torch.no_grad():
        model.model.layers[2].self_attn.q_norm.weight.fill_(6e4 if dtype == "float16" else 3e38)
    values = only_pass(model, tmp_path / "dump")
    assert sorted(values) == sorted(tap_names(TINY.layers))
    assert not np.isfinite(values["text.layer.2.attn.scores"].astype(np.float32)).all()
    assert np.isfinite(values["text.layer.1.out"].astype(np.float32)).all()


def test_of_masks_that_are_no_matrix_nothing_is_said():
    scores = torch.zeros(1, 2, 3, 3)
    probs = torch.full_like(scores, 1 / 3)
    assert lead_to(scores, None, probs)
    assert lead_to(scores, torch.ones(1, 1, 3, 3, dtype=torch.bool), probs)
    assert not lead_to(scores, torch.ones(1, 1, 3, 3, dtype=torch.bool).tril(), probs)
    assert not lead_to(scores, torch.ones(1, 3), probs)
    assert not lead_to(scores, None, probs[..., :2])
    assert not lead_to(scores, None, probs.bfloat16().float())  # rounded, and said to be float32
    assert lead_to(scores, None, probs.bfloat16())


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_mask_that_was_changed_is_shown(tmp_path, attention, monkeypatch):
    model = text_only(attention=attention)
    make = gemma3.create_sliding_window_causal_mask

    def one_less(*args, **kwargs):
        mask = make(*args, **kwargs)
        edge = torch.ones(mask.shape[-2:], dtype=torch.bool).tril(1 - TINY.window)
        return mask & ~edge if mask.dtype == torch.bool else mask.masked_fill(edge, torch.finfo(mask.dtype).min)

    monkeypatch.setattr(gemma3, "create_sliding_window_causal_mask", one_less)
    values = only_pass(model, tmp_path / "dump")
    assert values["text.layer.0.attn.visible"].tolist() == [[[max(0, n - 3), n + 1] for n in range(len(IDS))]]
    assert values["text.layer.5.attn.visible"].tolist() == [[[0, n + 1] for n in range(len(IDS))]]


def test_a_mask_with_holes_is_shown_as_a_matrix(tmp_path, model, monkeypatch):
    make = gemma3.create_causal_mask

    def holed(*args, **kwargs):
        mask = make(*args, **kwargs).clone()
        mask[..., 3:, 1] = -1e9
        return mask

    monkeypatch.setattr(gemma3, "create_causal_mask", holed)
    values = only_pass(model, tmp_path / "dump")
    wanted = np.tri(len(IDS), dtype=bool)
    wanted[3:, 1] = False
    np.testing.assert_array_equal(values["text.layer.5.attn.visible"], wanted[None])
    assert values["text.layer.0.attn.visible"].dtype == np.int64


# What a mask lets be seen


def test_what_is_seen_without_a_mask():
    q, k = torch.zeros(1, 4, 3, 2), torch.zeros(1, 2, 5, 2)
    module = argparse.Namespace(is_causal=True)
    given = {"module": module, "attention_mask": None}
    np.testing.assert_array_equal(seen_cells(q, k, given, "sdpa")[0], np.tri(3, 5, dtype=bool))  # upper-left, as sdpa
    assert seen_cells(q, k, given | {"is_causal": False}, "sdpa").all()
    assert seen_cells(q[:, :, :1], k, given, "sdpa").all()
    assert seen_cells(q, k, given, "eager").all()
    assert seen_cells(q, k, given, "flash_attention_2") is None
    by_head = torch.zeros(1, 4, 3, 5)
    by_head[0, 1, 0, 0] = -1e9
    assert seen_cells(q, k, given | {"attention_mask": by_head}, "eager") is None
    assert seen_cells(q, k, given | {"attention_mask": torch.zeros(1, 5)}, "flash_attention_2") is None


def test_ranges_are_in_key_indices_and_pads_do_not_count():
    seen = np.array([[1, 0, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]], bool)
    assert visible_keys(seen[1:], 10, 0).tolist() == [[[7, 9], [9, 9]]]
    assert visible_keys(seen, 10, 8).tolist() == [[[7, 7], [7, 9], [9, 9]]]
    np.testing.assert_array_equal(visible_keys(seen, 10, 7), seen[None])
