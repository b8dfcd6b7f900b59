"""Implementations whose head is always the embedding refuse weights with another."""

import pytest
from support.untied import untied_tiny

from ref.capture.gemma.model import params_of
from ref.capture.keras.model import fill
from ref.errors import BadInput


@pytest.mark.parametrize("give", [lambda params: params_of(None, params, "float32"), lambda params: fill(None, params)])
def test_a_head_of_its_own_is_refused_in_one_line(give):
    with pytest.raises(BadInput, match="head: wanted weights whose head is the embedding"):
        give(untied_tiny().params)
