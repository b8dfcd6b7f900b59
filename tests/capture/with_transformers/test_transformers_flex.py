"""Flex attention, whose mask is a rule and whose probabilities nobody sees, is captured as it sees."""

from importlib import import_module
from importlib.util import find_spec

import numpy as np
import pytest
from support.captures import passes_of
from support.transformers_captures import IDS, assert_equal, text_only

from ref.capture.transformers import capture
from ref.config import SIZES
from ref.dump.write import read_dump

pytestmark = [
    pytest.mark.witness,
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),  # of peft on transformers 5
    pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning"),
]
if find_spec("torch") and find_spec("transformers"):
    import torch
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
    from transformers.models.gemma3 import modeling_gemma3 as gemma3

TINY = SIZES["tiny"]


def by_flex(lse):
    """Attend as flex_attention on a GPU: beside the mix the logarithms of the sums, [B, N, T]; the mask is a rule."""

    def attend(module, query, key, value, attention_mask, scaling=None, **kwargs):
        flex = torch.nn.attention.flex_attention
        seen = flex.create_mask(attention_mask.mask_mod, len(query), None, query.shape[2], key.shape[2], "cpu")
        scores = query @ gemma3.repeat_kv(key, module.num_key_value_groups).transpose(2, 3) * scaling
        scores = scores.masked_fill(~seen, -torch.inf)
        mix = torch.softmax(scores, -1).nan_to_num() @ gemma3.repeat_kv(value, module.num_key_value_groups)
        return mix.transpose(1, 2).contiguous(), torch.logsumexp(scores, -1) if lse else None

    return attend


@pytest.fixture
def flex(monkeypatch):
    """Make masks of rules without a C++ compiler."""
    masks = import_module("transformers.masking_utils")
    create = masks.create_block_mask
    monkeypatch.setattr(masks, "create_block_mask", lambda **given: create(**given | {"_compile": False}))


@pytest.mark.parametrize("lse", [True, False])
@pytest.mark.parametrize("tokens", [1, TINY.kv_heads, TINY.query_heads, 8])
def test_flex_attention_shows_what_it_sees_and_no_probabilities(tmp_path, flex, monkeypatch, tokens, lse):
    ids = [*IDS, 9][:tokens]
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._local_mapping, "flex_attention", by_flex(lse))
    model = text_only(attention="sdpa")
    wanted = passes_of(capture(model, ids, tmp_path / "sdpa", steps=2))
    model.set_attn_implementation("flex_attention")
    for values, own in zip(passes_of(capture(model, ids, tmp_path / "flex", steps=2)), wanted, strict=True):
        assert values.keys() == own.keys()
        for name, value in own.items():
            if name.endswith("visible"):
                np.testing.assert_array_equal(values[name], value, err_msg=name)
            else:
                np.testing.assert_allclose(values[name], value, rtol=1e-3, atol=1e-4, err_msg=name)
    assert read_dump(tmp_path / "flex")["policy"]["attention_impl"] == "flex_attention"


def test_flex_attention_of_padded_rows_is_shown(tmp_path, flex, monkeypatch):
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._local_mapping, "flex_attention", by_flex(True))
    rows, pads = [[1] * 4 + IDS[:7], [0] * 4 + IDS[:7]], [0, 4]
    model = text_only()
    wanted = passes_of(capture(model, rows, tmp_path / "eager", left_pads=pads, taps=["*.visible"]))
    model.set_attn_implementation("flex_attention")
    assert_equal(passes_of(capture(model, rows, tmp_path / "flex", left_pads=pads, taps=["*.visible"])), wanted)
