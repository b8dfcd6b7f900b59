"""What stands in dumps: all taps of the support's TINY, and a folder of one pass with one tap."""

import pytest
from support.aligned import IDS
from support.dumps_on_disk import ROW, VALUE, Q, written
from support.tiny import params

from ref.model.taps import Recorder
from ref.model.text import How, forward


@pytest.fixture(scope="module")
def taps():
    recorder = Recorder("*")
    forward(params(), [IDS], How(taps=recorder))
    return recorder.values


@pytest.fixture
def dump(tmp_path):
    return written(tmp_path / "dump", (ROW, {Q: VALUE}))
