"""What a dump claims of its model and prompt is held against what the judge was given."""

from types import SimpleNamespace

import numpy as np
import pytest
from support.aligned import CONFIG, IDS
from support.tiny import TINY

from ref.config import SIZES, TINY_VISION
from ref.dump.align import check_model, check_prompt
from ref.dump.claims import differing_settings
from ref.errors import BadInput


def dump_of(config, *passes):
    """Stand in for a dump; a pass is (ids, cached, left pads)."""
    rows = [
        SimpleNamespace(number=i, ids=np.array(ids), cached=cached, left_pads=pads, image_blocks=[])
        for i, (ids, cached, pads) in enumerate(passes)
    ]
    return SimpleNamespace(where="d", config=config, passes=rows)


def test_another_models_dump_is_refused():
    check_model(dump_of(TINY._asdict(), (IDS, 0, 0)), TINY)
    check_model(dump_of({}, (IDS, 0, 0)), TINY)
    check_model(dump_of(CONFIG, (IDS, 0, 0)), TINY, TINY_VISION)
    with pytest.raises(BadInput) as error:
        check_model(dump_of(SIZES["1b"]._asdict(), (IDS, 0, 0)), SIZES["270m"])
    assert str(error.value) == (
        "d: model: wanted that of the weights, width 640, layers 18, ffn_width 2048, "
        "got another model's, width 1152, layers 26, ffn_width 6912"
    )
    with pytest.raises(BadInput, match=r"vision\.heads 2, got another model's, vision\.heads 4"):
        check_model(dump_of(CONFIG | {"vision": {"heads": 4}}), TINY, TINY_VISION)
    with pytest.raises(BadInput, match="d: pass 1: token id at 1: wanted 0 <= id < 97, got 97"):
        check_model(dump_of({}, (IDS, 0, 0), ([5, 97], 8, 0)), TINY)


def test_settings_that_a_producer_has_wrong_are_told_and_not_refused():
    theirs = TINY._asdict() | {"window": 6, "rope_factor": 1.0, "query_scale": TINY.query_scale * (1 + 1e-9)}
    check_model(dump_of(theirs, (IDS, 0, 0)), TINY)
    assert differing_settings(dump_of(theirs), TINY) == [
        "window: 6 in the dump, 5 in the weights",
        "rope_factor: 1.0 in the dump, 8.0 in the weights",
    ]
    assert differing_settings(dump_of({"window": "6"}), TINY) == ["window: 6 in the dump, 5 in the weights"]


def test_ids_unlike_the_prompt_are_refused():
    steps = dump_of({}, ([2, 5, 6], 0, 0), ([7], 3, 0), ([8], 4, 0))
    check_prompt(steps, [2, 5, 6])
    check_prompt(steps, [2, 5, 6, 7])  # in two passes
    check_prompt(dump_of({}, ([0, 0, 2, 5], 0, 2)), [2, 5])
    check_prompt(dump_of({}, ([2, 5], 0, 0), ([2, 6], 0, 0), ([9], 2, 0)), [[2, 5], [2, 6]])
    for ids, what in {
        (2, 9, 6): "d: token id at 1: wanted 9, as in the prompt, got 5",
        (2, 5): "d: prompt: wanted 2 tokens, got 3",
        (2, 5, 6, 7, 8, 9): "d: prompt: wanted 6 tokens, got 5",
        (): "prompt: token ids: wanted at least one, got none",
    }.items():
        with pytest.raises(BadInput) as error:
            check_prompt(steps, list(ids))
        assert str(error.value) == what
    with pytest.raises(BadInput, match="d: row 1: token id at 1: wanted 7, as in the prompt, got 6"):
        check_prompt(dump_of({}, ([2, 5], 0, 0), ([2, 6], 0, 0)), [[2, 5], [2, 7]])
    with pytest.raises(BadInput, match="prompts: wanted 2 rows, got 1"):
        check_prompt(steps, [[2, 5, 6], [2, 5, 6]])
