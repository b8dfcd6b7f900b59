"""`ref.record` of servers: rejected tokens and context shifts, read back and judged."""

import json

import numpy as np
import pytest
from support.dumps_on_disk import MODEL
from support.serving import chain, ids_of, index_of, shown

import ref
from ref import compare
from ref.record import Recorder

A, B = ids_of(9, 1), ids_of(5, 2)


def recorded(folder, kept):
    _, taps = chain([(A, None), (B, kept)])
    with Recorder(folder, A, weights="tiny", config=MODEL["config"]) as rec:
        for number, some in enumerate(taps):
            if number:
                rec.next_pass(B, kept=kept)
            for name, value in shown(some).items():
                rec(name, value)
    return folder


@pytest.mark.parametrize("kept", [[[0, 7, 0]], [[0, 2, 0], [5, 9, 2]]])
def test_what_is_left_of_the_cache(tmp_path, kept):
    folder = recorded(tmp_path / "dump", kept)
    content = json.loads((folder / "dump.json").read_text())
    left = len(index_of(kept)[0])
    assert (content["format_version"], content["passes"][1]["cached"]) == (2, left)
    assert content["passes"][1]["positions"] == list(range(left, left + 5))
    assert compare(folder, loaded=ref.load("tiny"))["verdict"] == "match"


@pytest.mark.parametrize("kept", [[[0, 10, 0]], [[3, 2, 0]], [[0, 2, 1]], [[0, 4, 0], [3, 6, 4]], [[0, 4]]])
def test_what_cannot_be_left(tmp_path, kept):
    rec = Recorder(tmp_path / "dump", A)
    with pytest.raises(ValueError, match="kept: wanted") as error:
        rec.next_pass(B, kept=kept)
    assert len(str(error.value).splitlines()) == 1
    with pytest.raises(ValueError, match="cached: wanted nothing beside kept"):
        rec.next_pass(B, kept=[[0, 2, 0]], cached=2)
    rec("text.layer.0.in", np.zeros((9, 36), np.float32), "T D")
    rec.close()
