"""A dump that names its weights need not say the model's sizes, even where merged axes are split by them."""

import numpy as np
import pytest
from support.dumps_on_disk import ROW, Q, T, written

import ref
from ref.errors import BadInput

MERGED = np.random.default_rng(3).standard_normal((T, 120)).astype(np.float32)


@pytest.fixture
def dump(tmp_path):
    return written(tmp_path / "dump", (ROW, {Q: MERGED}), config={}, layouts={Q: "T (N H)"})


def test_the_weights_that_it_names_have_the_sizes(dump):
    report = ref.compare(dump)
    assert report["taps"][0]["tap"] == Q
    assert report["weights"]["from"] == "the dump"


def test_where_it_names_none_they_are_asked_for(dump):
    text = (dump / "dump.json").read_text()
    (dump / "dump.json").write_text(text.replace('"name": "tiny"', '"name": "not said"'))
    with pytest.raises(BadInput, match="--weights: wanted the weights that the dump was made with"):
        ref.compare(dump)
    assert ref.compare(dump, "tiny")["weights"]["from"] == "--weights"
