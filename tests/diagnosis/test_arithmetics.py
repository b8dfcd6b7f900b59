"""Clean dumps in the arithmetics of the field match, declared or not, and a mistake beside them is still found."""

import numpy as np
import pytest
from support.judged import as_dump, cached_passes

import ref
from ref import compare
from ref.emulate.policy import FAMILIES, POLICIES, members_of
from ref.judge.family import family_of
from ref.judge.stored_format import format_of
from ref.mutants import tap_mutants
from ref.report.words import verdict_line

LENGTHS = (12, 1)
Q, OUT = "text.layer.0.attn.q", "text.layer.0.out"
WHAT = {  # family -> what the report says of it where a dump declares float32
    "tf32": "products took TF32 operands, or float16's",
    "bfloat16-operands": "products took bfloat16 operands",
    "float8-operands-float32": "products took float8 operands",
}


def judged(policy, dtype="float32", declared=None, rules=None, taps=None, **how):
    """Judge a run of `tiny` by a policy; `taps` may change what is in the dump."""
    passes = cached_passes(LENGTHS, dtype, policy=policy, rules=rules)
    kept = [list(one) for one in passes.taps]
    dump = as_dump(passes if taps is None else passes._replace(taps=taps(passes.taps)), kept)
    dump = dump._replace(policy=dump.policy | (declared or {}))
    return compare(dump, loaded=ref.load("tiny"), **how)


@pytest.mark.parametrize("family", WHAT)
def test_operands_that_nobody_declared_are_said_and_match(family):
    report = judged(FAMILIES[family][1])
    assert report["verdict"] == "match"
    one = report["arithmetic"]
    assert one["what"] == WHAT[family]
    assert abs(one["coefficient"] - 1) < 0.01
    assert (one["declared"], one["mistake_of"]) == ("float32", "format")
    assert f"as if {WHAT[family]} (c = " in verdict_line(report)
    assert "; declared float32" in verdict_line(report)


@pytest.mark.parametrize(
    "name", ["tf32", "bfloat16-operands", "float16-operands", "autocast-bfloat16", "autocast-float16"]
)
def test_arithmetics_match_by_their_own_runs(name):
    for policy in set(FAMILIES[name]):
        report = judged(policy, family=name)
        assert report["verdict"] == "match"
        assert max(row["local_ratio"] for row in report["taps"]) < 1.6


@pytest.mark.parametrize("ranks", [4, 8])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_ranks_that_nobody_declared_are_said_and_match(dtype, ranks):
    policy = f"transformers-{dtype}-ranks-{ranks}"
    assert judged(policy, dtype, {"ranks": ranks})["arithmetic"] is None
    report = judged(policy, dtype)
    assert report["verdict"] == "match"
    assert "ranks' rounded sums" in report["arithmetic"]["what"]
    assert report["policy"]["judged_as"].startswith(f"{dtype}-ranks-")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_mistake_beside_ranks_is_named(dtype):
    for declared in ({"ranks": 4}, {}):
        report = judged(f"transformers-{dtype}-ranks-4", dtype, declared, rules=tap_mutants()["ffn_silu"].rules)
        assert report["verdict"] == "bug"
        assert report["first"]["tap"].endswith("ffn.act")
        assert report["causes"][0]["mutant"] == "ffn_silu"


@pytest.mark.parametrize(
    "policy", ["mlx-bfloat16", "mlx-float16", "transformers-sdpa-bfloat16", "transformers-sdpa-float16"]
)
def test_roundings_of_libraries_match_as_anybodys(policy):
    assert judged(policy, policy.rpartition("-")[2])["verdict"] == "match"


def test_sums_in_float16_are_said():
    report = judged("transformers-float16-float16-sums", "float16")
    assert report["verdict"] == "match"
    if report["arithmetic"]:  # sums of 48 terms may lie within two floors
        assert report["arithmetic"]["what"] == "products were summed in float16"
    assert judged("transformers-float16-float16-sums", "float16", {"accumulate": "float16"})["verdict"] == "match"


def test_a_mistake_beside_tf32_is_found_and_named():
    report = judged(FAMILIES["tf32"][1], rules=tap_mutants()["ffn_silu"].rules)
    assert report["verdict"] == "bug"
    assert report["first"]["tap"] == "text.layer.0.ffn.act"
    assert report["diagnosis"][0]["mutant"] == "ffn_silu"
    assert report["arithmetic"]["what"] == WHAT["tf32"]


def test_tf32_in_some_products_only_is_a_bug():
    fine = cached_passes(LENGTHS, "float32").taps

    def in_one_layer(coarse):
        layer = {tap: value for tap, value in coarse[0].items() if tap.startswith("text.layer.0.")}
        return [fine[0] | layer, fine[1]]

    report = judged(FAMILIES["tf32"][1], taps=in_one_layer)
    assert report["verdict"] == "bug"
    assert report["arithmetic"] is None
    assert report["first"]["tap"] == "text.layer.0.attn.q"
    assert report["diagnosis"][0]["mutant"] == "tf32"
    assert "but not all of them" in verdict_line(report)


@pytest.mark.parametrize("stored", ["bfloat16", "float16"])
def test_a_float32_run_whose_tensors_were_stored_narrow_matches(stored):
    passes = cached_passes(LENGTHS, "float32")
    short = {"bfloat16": ref.ops.rounding.bfloat16_values, "float16": lambda x: x.astype(np.float16).astype(np.float32)}
    taps = [{tap: short[stored](x) if x.dtype.kind == "f" else x for tap, x in one.items()} for one in passes.taps]
    dump = as_dump(passes._replace(taps=taps, dtype=stored), [list(one) for one in taps])
    config = dict.fromkeys(("compute_dtype", "matmul_activations", "kv_dtype"), "float32")
    report = compare(dump._replace(policy=config, weights=dump.weights | {"dtype": "file"}), loaded=ref.load("tiny"))
    assert report["policy"]["judged_as"] == "float32"
    assert report["verdict"] == "match", [row for row in report["taps"] if row["verdict"] != "match"][:1]


@pytest.mark.parametrize(
    ("policy", "heard", "family"),
    [
        ({"compute_dtype": "float32", "matmul_operands": "tf32", "conv_operands": "tf32"}, {}, "tf32"),
        ({"compute_dtype": "float32", "matmul_operands": "float32", "conv_operands": "tf32"}, {}, "tf32-convolutions"),
        ({"compute_dtype": "float32", "matmul_operands": "bfloat16"}, {}, "bfloat16-operands"),
        ({"compute_dtype": "float32", "matmul_operands": "bfloat16", "products": "bfloat16"}, {}, "autocast-bfloat16"),
        ({"compute_dtype": "float32"}, {Q: "float16", OUT: "float32"}, "autocast-float16"),
        ({"compute_dtype": "float32"}, {Q: "float16", OUT: "float16"}, "float32"),
        ({"compute_dtype": "float16", "accumulate": "float16"}, {}, "float16-sums"),
        ({"compute_dtype": "bfloat16", "matmul_operands": "bfloat16"}, {}, "bfloat16"),
        ({"compute_dtype": "float32", "kv_dtype": "float16"}, {}, "llama.cpp"),
        ({"compute_dtype": "bfloat16", "ranks": 8}, {}, "bfloat16-ranks-8"),
        ({"compute_dtype": "float16", "ranks": 5}, {}, "float16-ranks-6"),
        ({"compute_dtype": "bfloat16", "ranks": 1}, {}, "bfloat16"),
        ({"compute_dtype": "float32", "ranks": 8}, {}, "float32"),
    ],
)  # fmt: skip
def test_the_family_goes_by_what_is_said_and_heard(policy, heard, family):
    assert family_of(policy, "", heard) == family


def test_every_family_has_policies_and_six_runs():
    for name, policies in FAMILIES.items():
        assert set(policies) <= set(POLICIES)
        assert len(members_of(name)) == 6


@pytest.mark.parametrize("stored", ["bfloat16", "float16"])
def test_narrow_values_stored_as_float32_are_told_by_their_bits(stored):
    passes = cached_passes(LENGTHS, stored)
    dump = as_dump(passes._replace(dtype="float32"), [list(one) for one in passes.taps])
    report = compare(dump._replace(weights=dump.weights | {"dtype": "not said"}), loaded=ref.load("tiny"))
    assert (report["policy"]["judged_as"], report["weights"]["held_as"]) == (stored, stored)
    assert report["verdict"] == "match"
    assert any(f"stored wider, are {stored}'s; declared float32" in note for note in report["notes"])


def test_autocast_stored_as_float32_is_told_by_its_bits():
    report = judged("transformers-float32-autocast-bfloat16")
    assert report["policy"]["judged_as"] == "autocast-bfloat16"
    assert report["verdict"] == "match"


def test_few_values_tell_no_format():
    assert format_of(np.ones((1, 3), np.float32)) == ""
    assert format_of(np.arange(1, 200, dtype=np.float32)) == ""  # whole numbers
    assert format_of(np.linspace(0, 1, 300, dtype=np.float32)) is None
    assert format_of(np.where(np.arange(300) == 7, np.nan, 0.5).astype(np.float32)) == ""  # overflowed on the way


def test_one_narrow_kind_among_wide_ones_is_a_mistake_and_is_said():
    report = judged("transformers-float32", rules=tap_mutants()["softmax_float16"].rules)
    assert report["verdict"] == "bug"
    assert report["diagnosis"][0]["mutant"] == "softmax_float16"


OUTS = ("text.embed", ".out", "text.final_norm", "text.logits")


def of_outs(taps):
    """Keep hidden states and logits alone: the most usual dump."""
    return [{tap: x for tap, x in one.items() if tap.endswith(OUTS) and ".attn." not in tap and ".ffn." not in tap}
            for one in taps]  # fmt: skip


def sparsely(taps, dtype="float32"):
    dump = as_dump(cached_passes(LENGTHS)._replace(taps=taps, dtype=dtype), [list(one) for one in taps])
    return compare(dump, loaded=ref.load("tiny"))


def test_tf32_is_found_where_only_hidden_states_are_shown():
    report = sparsely(of_outs(cached_passes(LENGTHS, policy=FAMILIES["tf32"][1]).taps))
    assert report["verdict"] == "match"
    assert report["arithmetic"]["what"] == WHAT["tf32"]


def test_a_narrow_head_alone_says_nothing_of_the_layers():
    fine = of_outs(cached_passes(LENGTHS).taps)
    coarse = of_outs(cached_passes(LENGTHS, policy=FAMILIES["bfloat16-operands"][0]).taps)
    report = sparsely([one | {"text.logits": other["text.logits"]} for one, other in zip(fine, coarse, strict=True)])
    assert report["policy"]["judged_as"] == "float32"
    assert report["arithmetic"] is None
    assert report["first"]["tap"] == "text.logits"


def test_a_bfloat16_run_with_one_wide_kind_is_one_of_bfloat16():
    passes, wide = (cached_passes(LENGTHS, dtype) for dtype in ("bfloat16", "float32"))
    taps = [
        {tap: wide.taps[n][tap] if tap.endswith("attn.scores") else x for tap, x in one.items()}
        for n, one in enumerate(passes.taps)
    ]
    dump = as_dump(passes._replace(taps=taps, dtype="float32"), [list(one) for one in taps])
    report = compare(dump._replace(weights=dump.weights | {"dtype": "not said"}), loaded=ref.load("tiny"))
    assert (report["policy"]["judged_as"], report["weights"]["held_as"]) == ("bfloat16", "bfloat16")


def test_float32_values_stored_as_float64_are_float32s():
    passes = cached_passes(LENGTHS)
    taps = [{tap: x.astype(np.float64) if x.dtype.kind == "f" else x for tap, x in one.items()} for one in passes.taps]
    dump = as_dump(passes._replace(taps=taps, dtype="float64"), [list(one) for one in taps])
    report = compare(dump._replace(weights=dump.weights | {"dtype": "file"}), loaded=ref.load("tiny"))
    assert (report["policy"]["judged_as"], report["verdict"]) == ("float32", "match")
