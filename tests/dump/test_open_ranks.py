"""Dumps of several ranks opened: slices, shared slices, replicas and parts of a sum; ranks that do not go together."""

import json
import tracemalloc

import ml_dtypes
import numpy as np
import pytest
from support.dumps_on_disk import CONFIG, IDS, VALUE, Q, T, refused

from ref.dump.open import open_dump
from ref.record import ARITHMETIC, Recorder

OUT, K, IN = "text.layer.3.attn.out", "text.layer.3.attn.k", "text.layer.3.attn.pre_norm"
HALVES = [(0, 6), (6, 12)]
PARTS = np.random.default_rng(5).standard_normal((4, T, 36)).astype(np.float32)


def recorder(folder, rank, of, ids=IDS, **more):
    return Recorder(folder / f"rank{rank}", ids, weights="tiny", config=CONFIG, tensor=(rank, of), **more)


def sliced(folder, cuts=HALVES, name=Q, value=VALUE[0], **more):
    """Write a rank for each slice of the query heads."""
    for rank, (start, stop) in enumerate(cuts):
        with recorder(folder, rank, len(cuts), **more) as rec:
            rec(name, value[:, start:stop], "T N H", slice={"N": (start, stop)})
    return folder


def edit(folder, rank, change):
    path = folder / f"rank{rank}" / "dump.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def entry(content, name=Q):
    return content["passes"][0]["tensors"][name]


def test_slices_stand_side_by_side(tmp_path):
    stored = open_dump(sliced(tmp_path, [(0, 5), (5, 6), (6, 12)])).passes[0].tensors[Q]
    assert (stored.shape, stored.dtype) == (VALUE.shape, "float32")
    np.testing.assert_array_equal(stored.load(), VALUE)
    assert [(one.rank, one.kind, one.words) for one in stored.parts] == [
        (0, "slice", "N 0..4"),
        (1, "slice", "N 5..5"),
        (2, "slice", "N 6..11"),
    ]


LIES = {
    "T (N H)": lambda x: x.reshape(T, -1),
    "T (H N)": lambda x: x.transpose(0, 2, 1).reshape(T, -1),
    "H N T": lambda x: x.transpose(2, 1, 0),
    "T K G H": lambda x: x.reshape(T, -1, 4, 10),
}


@pytest.mark.parametrize("layout", LIES)
def test_slices_of_heads_may_lie_as_they_do(tmp_path, layout):
    for rank in range(3):
        here = slice(4 * rank, 4 * rank + 4)
        with recorder(tmp_path, rank, 3) as rec:
            rec(Q, LIES[layout](VALUE[0][:, here]), layout, slice={"N": (here.start, here.stop)})
    np.testing.assert_array_equal(open_dump(tmp_path).passes[0].tensors[Q].load(), VALUE)


def test_all_ranks_may_be_in_one_dump(tmp_path):
    with Recorder(tmp_path / "dump", IDS, weights="tiny", config=CONFIG, tensor=2) as rec:
        for rank, (start, stop) in enumerate(HALVES):
            rec(Q, VALUE[0][:, start:stop], "T N H", slice={"N": (start, stop)}, rank=rank)
            rec(IN, PARTS[rank], "T D", rank=rank)
    tensors = open_dump(tmp_path / "dump").passes[0].tensors
    np.testing.assert_array_equal(tensors[Q].load(), VALUE)
    np.testing.assert_array_equal(tensors[IN].load(), PARTS[:1])
    assert [one.rank for one in tensors[IN].parts] == [0, 1]


def test_ranks_that_share_a_slice_are_its_replicas(tmp_path):
    heads = CONFIG["kv_heads"]
    value = VALUE[0][:, :heads]
    for rank in range(2 * heads):
        head = rank // 2
        with recorder(tmp_path, rank, 2 * heads) as rec:
            rec(K, value[:, head : head + 1], "T K H", slice={"K": (head, head + 1)})
    stored = open_dump(tmp_path).passes[0].tensors[K]
    np.testing.assert_array_equal(stored.load()[0], value)
    assert len(stored.parts) == 2 * heads


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16, np.float16, np.float64])
def test_parts_of_a_sum_are_added_and_rounded_once(tmp_path, dtype):
    for rank in range(4):
        with recorder(tmp_path, rank, 4) as rec:
            rec(OUT, PARTS[rank].astype(dtype), "T D", partial=True)
    stored = open_dump(tmp_path).passes[0].tensors[OUT]
    want = PARTS.astype(dtype).astype(np.float64).sum(0)
    want = want if dtype == np.float64 else want.astype(np.float32).astype(dtype)
    np.testing.assert_array_equal(stored.load()[0], want.astype(stored.load().dtype))


def test_a_sum_beside_its_parts_is_the_value(tmp_path):
    for rank in range(2):
        with recorder(tmp_path, rank, 2) as rec:
            rec(OUT, PARTS[rank], "T D", partial=True)
            rec(OUT, PARTS[3], "T D")
    stored = open_dump(tmp_path).passes[0].tensors[OUT]
    np.testing.assert_array_equal(stored.load()[0], PARTS[3])
    assert [one.kind for one in stored.parts] == ["partial", "replica"] * 2


def test_fused_tensors_have_a_slice_of_each_value(tmp_path):
    name = "model.layers.3.self_attn.qkv_proj"
    q, k, v = VALUE[0], VALUE[0][:, :3] + 1, VALUE[0][:, :3] + 2
    for rank in range(3):
        n, m = slice(4 * rank, 4 * rank + 4), slice(rank, rank + 1)
        rows = np.concatenate([x.reshape(T, -1) for x in (q[:, n], k[:, m], v[:, m])], axis=1)
        with recorder(tmp_path, rank, 3, names="transformers") as rec:
            rec(name, rows, slice={"N": (n.start, n.stop), "K": (m.start, m.stop)})
    tensors = open_dump(tmp_path).passes[0].tensors
    for tap, value in {"attn.q": q, "attn.k": k, "attn.v": v}.items():
        np.testing.assert_array_equal(tensors[f"text.layer.3.{tap}"].load()[0], value)


def test_pipeline_ranks_have_their_own_layers(tmp_path):
    for stage in range(2):
        where = tmp_path / f"stage{stage}"
        with Recorder(where, IDS, weights="tiny", config=CONFIG, pipeline=(stage, 2)) as rec:
            rec(f"text.layer.{stage}.attn.pre_norm", PARTS[stage], "T D")
    tensors = open_dump(tmp_path).passes[0].tensors
    assert [(tap, one.parts[0].stage) for tap, one in tensors.items()] == [
        ("text.layer.0.attn.pre_norm", 0),
        ("text.layer.1.attn.pre_norm", 1),
    ]


def test_nothing_of_a_replica_is_copied_and_nothing_read_before_it_is_asked_for(tmp_path):
    wide = CONFIG | {"vocabulary": 2**21}
    for rank in range(2):
        with Recorder(tmp_path / f"rank{rank}", IDS, config=wide, tensor=(rank, 2)) as rec:
            rec("text.logits", np.ones((T, 2**21), np.float32), "T V")
    tracemalloc.start()
    value = open_dump(tmp_path).passes[0].tensors["text.logits"].load()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert value.nbytes == 4 * T * 2**21
    assert peak < 2**20


def test_padding_is_cut_out_of_what_each_rank_holds(tmp_path):
    positions = [0, 1, -1, 2, 3, 4, 5]
    sliced(tmp_path, positions=positions)
    stored = open_dump(tmp_path).passes[0].tensors[Q]
    real = np.array(positions) >= 0
    np.testing.assert_array_equal(stored.load(), VALUE[:, real])
    assert [one.stored.load().shape[1] for one in stored.parts] == [6, 6]


CHANGES = {
    "overlap": (
        lambda c: entry(c)["slice"].update(N=[4, 10]),
        "slices that are the same or apart, got N 0..5 of rank 0 and N 4..9 of rank 1",
    ),
    "beyond": (
        lambda c: entry(c)["slice"].update(N=[7, 13]),
        "slice of 'text.layer.3.attn.q' of rank 1: wanted N within 0..12, got 7..13",
    ),
    "ids": (
        lambda c: c["passes"][0]["ids"].__setitem__(3, 9),
        "ids of pass 0 of rank 1: wanted 33 at 3, as rank 0 has, got 9",
    ),
    "positions": (
        lambda c: c["passes"][0]["positions"].__setitem__(6, 7),
        "positions of pass 0 of rank 1: wanted 6 at 6, as rank 0 has, got 7",
    ),
    "passes": (
        lambda c: c["passes"].append(c["passes"][0]),
        "passes of rank 1: wanted 1, as rank 0 has, got 2",
    ),
    "weights": (
        lambda c: c["model"]["weights"].update(name="270m"),
        "model.weights.name of rank 1: wanted tiny, as rank 0 says, got 270m",
    ),
    "policy": (
        lambda c: c["policy"].update(kv_dtype="float16"),
        "policy.kv_dtype of rank 1: wanted float32, as rank 0 says, got float16",
    ),
    "twice": (
        lambda c: c["parallel"]["tensor"].update(rank=0),
        "wanted each rank once; rank0 is rank 0 as well, got rank 0",
    ),
    "of": (
        lambda c: c["parallel"]["tensor"].update(of=4),
        "wanted 2 of tensor and 1 of pipeline parallelism, as rank0 says, got 4 and 1",
    ),
    "none": (lambda c: c.pop("parallel"), "no slice, since the dump says no parallel.tensor"),
    "no such rank": (
        lambda c: c["parallel"]["tensor"].update(rank=2),
        "parallel.tensor.rank: wanted below 2, got 2",
    ),
    "axis": (lambda c: entry(c).update(slice={"F": [0, 6]}), "wanted one axis of B T N H, got F"),
    "two axes": (lambda c: entry(c).update(slice={"N": [6, 12], "H": [0, 10]}), "one axis of B T N H, got N H"),
    "both": (lambda c: entry(c).update(partial=True), "wanted a slice or a part of a sum, got both"),
    "whose": (lambda c: entry(c).update(rank=1), "wanted none: the dump is rank 1's, got 1"),
}


@pytest.mark.parametrize(("change", "line"), CHANGES.values(), ids=CHANGES)
def test_ranks_that_do_not_go_together_are_refused(tmp_path, change, line):
    edit(sliced(tmp_path), 1, change)
    said = refused(tmp_path)
    assert line in said
    assert "rank1" in said


def test_a_hole_between_slices_names_the_rank_that_has_nothing(tmp_path):
    sliced(tmp_path, [(0, 4), (4, 8), (8, 12)])
    edit(tmp_path, 1, lambda content: content["passes"][0].update(tensors={}))
    assert "wanted all of N 0..11, got no N 4..7; nothing of rank 1" in refused(tmp_path)


def test_a_folder_that_is_missing_is_named(tmp_path):
    for rank in (0, 1, 3):
        with recorder(tmp_path, rank, 4) as rec:
            rec(IN, PARTS[0], "T D")
    assert "ranks: wanted the folders of all 4 in one folder, got rank0, rank1, rank3: no rank 2" in refused(tmp_path)
    assert "got rank0: no rank 1, rank 2, rank 3" in refused(tmp_path / "rank0")


def test_a_sum_that_lacks_a_rank_is_refused(tmp_path):
    for rank in range(2):
        with recorder(tmp_path, rank, 2) as rec:
            rec(OUT if rank == 0 else IN, PARTS[rank], "T D", partial=True)
    assert "wanted one of each of 2 ranks, got none of rank 1" in refused(tmp_path)


def test_ranks_of_other_shapes_or_formats_are_refused(tmp_path):
    for rank, dtype in enumerate((np.float32, np.float16)):
        with recorder(tmp_path, rank, 2) as rec:
            rec(IN, PARTS[0].astype(dtype), "T D")
    edit(tmp_path, 1, lambda content: content["policy"].update(dict.fromkeys(ARITHMETIC, "float32")))
    assert "of rank 1: wanted float32 [1, 7, 36], as rank 0 has, got float16 [1, 7, 36]" in refused(tmp_path)


def test_positions_may_not_go_back_where_nothing_says_why(tmp_path):
    rec = Recorder(tmp_path / "dump", IDS, weights="tiny", config=CONFIG)
    rec(IN, PARTS[0], "T D")
    rec.next_pass([5], positions=[4])
    rec(IN, PARTS[0][:1], "T D")
    rec.close()
    assert "positions of pass 1: wanted positions that go on" in refused(tmp_path / "dump")


def test_positions_that_go_back_within_a_pass_may_be_a_mistake_that_is_to_be_found(tmp_path):
    with Recorder(tmp_path / "dump", IDS, positions=[0, 1, 2, 3, 2, 3, 4], config=CONFIG) as rec:
        rec(IN, PARTS[0], "T D")
    assert open_dump(tmp_path / "dump").passes[0].positions.tolist() == [0, 1, 2, 3, 2, 3, 4]
