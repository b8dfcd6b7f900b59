"""What ranks hold is kept whole: whoever writes, reads or shrinks a dump says so in one line."""

import json
from contextlib import nullcontext

import numpy as np
import pytest

from ref.dump.open import open_dump
from ref.dump.sketch import sketch
from ref.dump.sketching import Sketch, sketching
from ref.dump.write import DumpWriter
from ref.errors import BadInput
from ref.record import Recorder

IDS = [2, 5, 7]
CONFIG = {"width": 12, "query_heads": 4, "kv_heads": 2, "head_dim": 5, "ffn_width": 40, "layers": 2, "vocabulary": 97}
X = np.random.default_rng(0).standard_normal((3, 12)).astype(np.float32)


def of_ranks(folder):
    for rank in range(2):
        with Recorder(folder / f"rank{rank}", IDS, config=CONFIG, tensor=(rank, 2)) as rec:
            rec("text.embed", X, "T D")
    return folder


def test_a_recorder_of_ranks_makes_no_small_dump(tmp_path):
    for tensor, pipeline in (((0, 2), None), (2, None), (None, (1, 2))):
        with pytest.raises(ValueError, match="sketch: wanted none beside tensor or pipeline"):
            Recorder(tmp_path / "dump", IDS, sketch=True, tensor=tensor, pipeline=pipeline)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("how", [Sketch(), None])
def test_a_writer_of_ranks_makes_no_small_dump(how, tmp_path):
    model = {"config": CONFIG, "weights": {"name": "x", "dtype": "float32", "sha256": None}}
    parallel = {"tensor": {"rank": 0, "of": 2}}
    said = "wanted a dump of several ranks with whole tensors"
    with nullcontext() if how else sketching(), pytest.raises(BadInput, match=said):
        DumpWriter(tmp_path / "dump", model, {}, parallel=parallel, sketch=how)
    assert not list(tmp_path.iterdir())


def test_a_dump_of_ranks_is_not_made_small(tmp_path):
    for folder in (of_ranks(tmp_path / "dump"), tmp_path / "one"):
        if folder.name == "one":  # of all ranks in one
            with Recorder(folder, IDS, config=CONFIG, tensor=2) as rec:
                rec("text.embed", X, "T D")
        with pytest.raises(BadInput, match="wanted one without ranks"):
            sketch(folder, tmp_path / "small")
    assert not (tmp_path / "small").exists()


def test_a_dump_that_says_both_is_refused(tmp_path):
    path = of_ranks(tmp_path / "dump") / "rank1" / "dump.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"sketch": {"values": 5, "seed": 0}}))
    with pytest.raises(BadInput, match=r"rank1/dump\.json.*wanted a dump of several ranks with whole tensors"):
        open_dump(tmp_path / "dump")
