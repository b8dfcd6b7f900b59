"""llama.cpp's own numbers: captured whole, and on the right axes."""

import json

import numpy as np
import pytest
from support.captures import distance, passes_of
from support.checkpoints import SMALL
from support.llama_cpp_captures import DTYPES, IDS, UNSEEN, truth_of

from ref.capture.llama_cpp import capture
from ref.capture.llama_cpp.listen import visible_keys
from ref.dump.llama_cpp_names import LAYER_NODES, OTHER_NODES, tap_of
from ref.dump.write import load_pass, read_dump
from ref.model.tap_rows import LAYER_TAPS
from ref.model.taps import tap_names


@pytest.mark.parametrize("flash", [False, True], ids=["eager", "flash"])
def test_every_tap_of_a_prefill_and_cached_steps_stands_where_ours_does(tmp_path, llama_cpp, files, flash):
    capture(files["F32"], IDS, tmp_path / "dump", steps=2, flash_attention=flash)
    got, true = passes_of(tmp_path / "dump"), truth_of(files["F32"], tmp_path / "dump")
    unseen = UNSEEN | ({"attn.scores", "attn.probs"} if flash else set())
    for one, wanted in zip(got, true, strict=True):
        assert set(wanted) - set(one) == {f"text.layer.{i}.{name}" for i in range(SMALL.layers) for name in unseen}
        assert set(one) <= set(wanted)
        for tap, value in one.items():
            assert value.shape == wanted[tap].shape, tap
            if tap.endswith("visible"):
                np.testing.assert_array_equal(value, wanted[tap], err_msg=tap)
            else:  # float16 of keys, values, probabilities and GELU; a shifted, scaled or permuted tap is off by 1
                assert distance(value, wanted[tap]) < 4e-3, tap
            assert value.dtype == (
                np.int64 if tap.endswith("visible") else np.float16 if ".cache." in tap else np.float32
            )
        for i in range(SMALL.layers - 1):
            np.testing.assert_array_equal(one[f"text.layer.{i + 1}.in"], one[f"text.layer.{i}.out"])
    assert [list(one["text.logits"].shape) for one in got] == [[1, 9, 97], [1, 1, 97], [1, 1, 97]]


def test_the_dump_says_what_was_run(tmp_path, llama_cpp, files):
    capture(files["BF16"], [IDS, IDS[:3]], tmp_path / "dump", steps=1, taps=["text.logits"])
    content = read_dump(tmp_path / "dump")
    assert content["producer"]["name"] == "llama.cpp"
    assert content["producer"]["version"].startswith(f"llama-cpp-python {llama_cpp.__version__} (ggml 0.")
    assert content["model"]["config"] == json.loads(json.dumps(SMALL._asdict()))
    assert content["model"]["weights"] == {"name": "BF16.gguf", "dtype": "as in the file", "sha256": None}
    assert content["names"] == "ref"
    rows = [(one["ids"], one["positions"], one["cached"]) for one in content["passes"]]
    first, third = (load_pass(tmp_path / "dump", content["passes"][i])["text.logits"][0, -1].argmax() for i in (0, 2))
    assert rows == [
        (IDS, list(range(9)), 0),
        ([first], [9], 9),
        (IDS[:3], [0, 1, 2], 0),
        ([third], [3], 3),
    ]


@pytest.mark.parametrize(("kind", "rounded"), DTYPES.items())
def test_policy_and_listening_changes_no_bit(tmp_path, llama_cpp, files, kind, rounded):
    capture(files[kind], IDS, tmp_path / "all", n_threads=1)
    capture(files[kind], IDS, tmp_path / "last", taps=["text.logits"], n_threads=2)
    policy = read_dump(tmp_path / "all")["policy"]
    assert policy == {
        "compute_dtype": "float32",
        "matmul_activations": rounded,
        "kv_dtype": "float16",
        "rope_angle": "float32",
        "attention_impl": "eager",
    }
    [full], [last] = passes_of(tmp_path / "all"), passes_of(tmp_path / "last")
    assert list(last) == ["text.logits"]
    np.testing.assert_array_equal(full["text.logits"], last["text.logits"])


def test_every_tap_that_has_a_node_has_one_name_each_way():
    nodes = [f"text.layer.3.{tap}" for tap in LAYER_NODES.values()] + list(OTHER_NODES.values())
    named = [tap_of(f"{stem}-3", op, "x") for stem, op in LAYER_NODES if stem != "attn_output"]
    named += [tap_of("node_34", "MUL_MAT", "blk.3.attn_output.weight")]
    named += [tap_of(stem, op, "x") for stem, op in OTHER_NODES]
    assert sorted(named) == sorted(nodes)
    read = {"cache.k", "cache.v", "attn.visible", "in"}  # not nodes of their own
    inside = {f"text.layer.3.{name}" for name in LAYER_TAPS if name not in read | UNSEEN}
    assert set(nodes) == inside | {"text.embed", "text.final_norm", "text.logits"}
    assert set(nodes) <= set(tap_names(4))
    for name, op in [("Qcur-3", "RESHAPE"), ("norm-3", "RMS_NORM"), ("node_9", "SCALE"), ("Vcur-3", "VIEW")]:
        assert tap_of(name, op, "x") is None


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_masks_become_ranges_where_they_are(dtype):
    seen = np.array([[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 0, 0]], bool)
    mask = np.where(seen, 0, -np.inf).astype(dtype)[None, None]
    got = visible_keys(mask, 3)
    assert (got.dtype, got.tolist()) == (np.int64, [[[0, 1], [0, 2], [1, 3]]])
    assert visible_keys(mask, 4)[0, 3].tolist() == [0, 0]
    mask[0, 0, 2] = [0, -np.inf, 0, -np.inf, -np.inf]
    np.testing.assert_array_equal(visible_keys(mask, 3), [[[1, 0, 0], [1, 1, 0], [1, 0, 1]]])
