"""What a dump says of itself and the judge does not take on trust: arithmetic, weights, positions; nothing unlisted."""

import hashlib
import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from support.checkpoints import save_tiny
from support.dumps_on_disk import CONFIG, IDS, MODEL, ROW, VALUE, Q, T, row, written
from support.judged import captured, dumped
from support.reports import report_of

import ref
from ref.cli import main
from ref.dump.read_llama_text import PartialTap
from ref.errors import BadInput
from ref.judge.compare import compare
from ref.judge.trust import runs_of
from ref.weights.resolve import load

LOADED = ref.load("tiny")


def judge(dump, **how):
    return compare(dump, loaded=LOADED, **how)


def said(**fields):
    one = dumped(captured())
    return one._replace(policy=one.policy | fields)


# arithmetic


@pytest.mark.parametrize("field", ["compute_dtype", "kv_dtype", "matmul_activations", "products", "accumulate"])
@pytest.mark.parametrize("dtype", ["int4", "float8_e4m3fn", "fp32", "FLOAT32", "", "\x1b[31m"])
def test_an_unknown_arithmetic_is_refused_and_not_judged_as_float32(field, dtype):
    with pytest.raises(BadInput) as error:
        judge(said(**{field: dtype}))
    assert f"policy.{field}: wanted one of float16 bfloat16 float32 float64 (or --policy" in str(error.value)
    assert str(error.value).isprintable()


@pytest.mark.parametrize("field", ["compute_dtype", "kv_dtype", "matmul_activations", "products", "accumulate"])
def test_an_unknown_arithmetic_is_judged_by_the_one_that_is_said_to_it(field):
    assert judge(said(**{field: "int4"}), family="float32")["verdict"] == "match"


@pytest.mark.parametrize("field", ["matmul_operands", "conv_operands"])
def test_operands_may_be_tf32_too(field):
    with pytest.raises(BadInput, match=rf"policy\.{field}: wanted one of float16 bfloat16 float32 float64 tf32 \(or"):
        judge(said(**{field: "fp8"}))
    judge(said(**{field: "tf32"}))


@pytest.mark.parametrize("dtype", ["int4", "int8", "bf16"])
def test_an_unknown_format_of_the_weights_is_refused(dtype):
    one = dumped(captured())
    one = one._replace(weights=one.weights | {"dtype": dtype})
    with pytest.raises(BadInput, match=r"weights\.dtype: wanted one of as in the file, file, not said"):
        judge(one)
    assert judge(one, held="file")["verdict"] == "match"


@pytest.mark.parametrize("dtype", ["as in the file", "file", "not said", "float32", "float64", "Q4_K_M", "q8_0"])
def test_known_formats_of_weights_are_judged(dtype):
    one = dumped(captured(tokens=4))
    assert judge(one._replace(weights=one.weights | {"dtype": dtype}))["verdict"] == "match"


# weights


@pytest.fixture
def folder(tmp_path):
    save_tiny(tmp_path / "weights", bfloat16=False)
    return tmp_path / "weights"


def digests(folder):
    return {n: hashlib.sha256(x.tobytes()).hexdigest() for n, x in load_file(folder / "model.safetensors").items()}


def of_weights(folder, where, sha256):
    model = MODEL | {"weights": {"name": str(folder), "dtype": "float32", "sha256": sha256}}
    dump = written(where, (ROW, {"text.embed": np.ones((1, T, 36), np.float32)}))
    content = json.loads((dump / "dump.json").read_text()) | {"model": model}
    (dump / "dump.json").write_text(json.dumps(content))
    return dump


def test_digests_of_the_weights_are_compared(folder, tmp_path):
    whole = digests(folder)
    report = compare(of_weights(folder, tmp_path / "a", whole))
    assert f"weights: {len(whole)} tensors have the digests that the dump says" in report["notes"]
    report = compare(of_weights(folder, tmp_path / "b", {"model.norm": "0" * 64}))
    assert any("1 digests not compared, first of 'model.norm': no such tensor" in note for note in report["notes"])
    report = judge(of_weights(folder, tmp_path / "c", whole))
    assert any("made up, of no file" in note for note in report["notes"])


def test_weights_of_other_bytes_are_refused_by_name(folder, tmp_path):
    whole, name = digests(folder), "model.layers.3.mlp.up_proj.weight"
    tensors = load_file(folder / "model.safetensors")
    tensors[name] = tensors[name].copy()
    tensors[name][0, 0] += 1
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(BadInput, match=rf"tensor '{name}' of the weights .*: wanted sha256 .*, as the dump says, got"):
        compare(of_weights(folder, tmp_path / "a", whole))


def test_digests_of_gguf_tensors_are_of_the_bytes_in_the_file(tmp_path):
    pytest.importorskip("gguf")
    from support.checkpoints import SMALL, save_gguf

    from ref.weights.synthetic import synthetic_params

    save_gguf(tmp_path / "m.gguf", synthetic_params(SMALL, 0), "Q8_0")
    [file] = load(str(tmp_path / "m.gguf")).files
    assert len(file.raw("blk.0.ffn_up.weight")) == SMALL.ffn_width * SMALL.width // 32 * 34
    assert file.raw("blk.0.ffn_up.weight") == file.array("blk.0.ffn_up.weight").data.tobytes()


def test_the_report_says_where_the_weights_came_from(folder, tmp_path):
    dump = of_weights(folder, tmp_path / "a", None)
    report = compare(dump)
    assert report["weights"]["from"] == "the dump"
    assert report["notes"] == [f"weights: from {folder}, a path that the dump names: --weights says which you trust"]
    report = compare(dump, str(folder))
    assert (report["weights"]["from"], report["notes"]) == ("--weights", [])
    assert (judge(dump)["weights"]["from"], judge(dump)["notes"]) == ("given", [])
    report = compare(of_weights("tiny", tmp_path / "b", None))
    assert (report["weights"]["from"], report["notes"]) == ("the dump", [])


# positions


@pytest.mark.parametrize(
    ("positions", "note"),
    [
        ([1, 2, 3, 4, 5, 6, 7], "positions of pass 0 are 1..7, wanted 0..6 (first at token 0): judged with 0..6"),
        ([0, 1, 2, 4, 5, 6, 7], "positions of pass 0 are 0..2, 4..7, wanted 0..6 (first at token 3): judged with 0..6"),
        ([0, 1, 1, 2, 3, 4, 4], "positions of pass 0 are 0..1, 1..4, 4, wanted 0..6"),
        ([7, 5, 3, 1, 6, 4, 2], "positions of pass 0 are 7, 5, 3, and 4 more runs, wanted 0..6"),
        ([0, 1, 2, 0, 1, 2, 2], "positions of pass 0 are 0..2, 0..2, 2, wanted 0..2, 0..3 (first at token 6)"),
    ],
)
def test_positions_that_a_port_has_wrong_are_told_and_judged_with_the_right_ones(tmp_path, positions, note):
    report = judge(written(tmp_path / "d", (row(T, 0, positions=positions), {"text.embed": embedded(IDS)})))
    assert report["notes"][0].startswith(note)
    assert report["verdict"] == "match"


def embedded(ids):
    return np.float32(6) * ref.load("tiny").params.embedding[np.array(ids)][None]


@pytest.mark.parametrize("positions", [list(range(T)), [0, 1, 2, 0, 1, 2, 3], [0] * T])
def test_right_positions_and_packed_prompts_are_no_note(tmp_path, positions):
    assert judge(written(tmp_path / "d", (row(T, 0, positions=positions), {})))["notes"] == []


def test_positions_go_on_after_a_cached_pass_and_begin_after_pads(tmp_path):
    padded = [row(5, 0, left_pads=2, positions=[-1, -1, 0, 1, 2]), row(1, 5, left_pads=2, positions=[3])]
    assert judge(written(tmp_path / "a", *((one, {}) for one in padded)))["notes"] == []
    padded[1]["positions"] = [9]
    assert judge(written(tmp_path / "b", *((one, {}) for one in padded)))["notes"] == [
        "positions of pass 1 are 9, wanted 3: judged with 3"
    ]
    padded[0]["positions"] = [-1, -1, 2, 3, 4]
    assert judge(written(tmp_path / "c", *((one, {}) for one in padded)))["notes"][0].startswith(
        "positions of pass 0 are -1 x 2, 2..4, wanted -1 x 2, 0..2 (first at token 2)"
    )


def test_runs_are_written_short():
    assert runs_of(np.array([5])) == "5"
    assert runs_of(np.array([-1, -1, -1])) == "-1 x 3"


# nothing is dropped unlisted


def not_compared(report):
    return {one["name"]: one["why"] for one in report["unaligned"]}


def test_a_second_layout_and_a_second_name_of_a_tap_are_listed(tmp_path):
    swapped = f"{Q} [B N T H]"
    arrays = {Q: VALUE, swapped: VALUE.swapaxes(1, 2).copy(), "input_ids": np.array([IDS]), "ids": np.array([IDS])}
    for dump in (arrays, tmp_path / "x.npz", tmp_path / "x.safetensors"):
        np.savez(tmp_path / "x.npz", **arrays)
        save_file(arrays, tmp_path / "x.safetensors")
        why = not_compared(judge(dump))
        assert len({swapped, Q} & why.keys()) == 1
        assert why["ids"] == "the same input as input_ids, which was taken"
    names = {"layers.0.mlp": VALUE[..., :3, :].reshape(1, T, 30)[..., :30], "model.layers.0.mlp": VALUE}
    both = {name: np.ones((1, T, 36), np.float32) for name in names} | {"input_ids": np.array([IDS])}
    assert list(not_compared(judge(both, names="transformers"))) == ["model.layers.0.mlp"]


def test_a_tap_that_a_pass_cannot_have_is_listed(tmp_path):
    tensors = {
        "text.embed": embedded(IDS),
        "model.merged": embedded(IDS),
        "vision.pool": np.ones((1, 4, 26), np.float32),
    }
    report = judge(written(tmp_path / "d", (ROW, tensors), config=CONFIG))
    assert [one["tap"] for one in report["taps"]] == ["text.embed"]
    assert set(not_compared(report)) == {"model.merged", "vision.pool"}


def test_printed_values_of_layers_that_the_model_has_not_are_listed():
    one = dumped({"text.embed": embedded(IDS)})
    shown = PartialTap("x", "f32", (1, T, 36), np.zeros((1, 3), np.int64), np.zeros(1), 0.1, 0.0, 0)
    report = judge(one._replace(partial={0: {"text.layer.9.out": shown}}))
    assert "text.layer.9.out" in not_compared(report)


def test_notes_are_in_the_json_of_the_command(tmp_path, capsys):
    dump = written(tmp_path / "d", (row(T, 0, positions=list(range(1, T + 1))), {"text.embed": embedded(IDS)}))
    assert main(["compare", str(dump), "--json"]) == 0
    report = report_of(capsys.readouterr().out, "compare")
    assert report["notes"][0].startswith("positions of pass 0 are 1..7")
    assert report["weights"]["from"] == "the dump"
