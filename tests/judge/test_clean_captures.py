"""One clean capture of each kind of the field, and some with a mistake planted: `bench/clean.py` runs all of them."""

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from bench.field.all_rows import all_rows
from bench.field.planted import mistake_for

from ref import compare

pytestmark = pytest.mark.witness
CLEAN = (
    *(f"torch/1b-pair/{dtype}/eager/3" for dtype in ("float32", "bfloat16", "float16")),
    *(f"{kind}/1b-pair/float32/eager/3" for kind in ("tf32", "bfloat16-operands", "autocast-bfloat16", "chain")),
    *(f"{kind}/1b-pair/float32/eager/3" for kind in ("fused-chain", "blocks-of-32", "split-4")),
    "torch/small-12-0/float32/eager/24",
    "tf32-convolutions/tiny/float32/eager/1-images",
    "torch/siglip-224/float32/eager/1-images",
    "plain-c/1b-pair/float32/o2/8",
)
PLANTED = tuple(name for name in CLEAN if name.startswith(("torch/1b", "tf32/", "chain", "split", "autocast")))
ROWS = {row.name: row for row in all_rows()}


@pytest.mark.parametrize("name", CLEAN)
def test_clean_captures_match(name, tmp_path):
    loaded = ROWS[name].write(tmp_path / "dump", None)
    report = compare(tmp_path / "dump", loaded=loaded)
    assert report["verdict"] == "match", report["first"]


@pytest.mark.parametrize("name", PLANTED)
def test_a_mistake_in_the_same_capture_is_found_at_its_tap(name, tmp_path):
    mistake = mistake_for(ROWS[name], 0)
    loaded = ROWS[name].write(tmp_path / "dump", mistake)
    report = compare(tmp_path / "dump", loaded=loaded)
    assert report["verdict"] == "bug"
    assert report["first"]["tap"] == mistake.tap(loaded)


def test_the_bench_has_four_hundred_rows_that_count_and_no_two_of_one_name():
    rows = list(all_rows())
    assert len(ROWS) == len(rows)
    assert sum(row.counted for row in rows) >= 400
    assert {row.size.split("-")[0] for row in rows} >= {"270m", "1b", "4b", "12b", "27b", "tiny", "siglip"}
