"""The last line of a report: where, what with its number, whether that is all, and what was not looked at."""

from support.report_causes import PROOF, at_k, basis, fitted, unexplained
from support.report_examples import INF, WRONG, example, wrong

from ref.report.text import render_text
from ref.report.words import LONGEST_LINE, how_far, verdict_line

CLEAN, _ = example()


def line(**more):
    return verdict_line(example()[0] | more)


def test_says_what_was_not_compared():
    rows = len(example()[0]["taps"])
    said = line(compared={"taps": rows, "of_dump": rows + 198, "of_model": rows})
    assert said.endswith(f"; 198 of the dump's {rows + 198} tensors not compared")


def test_says_how_much_of_the_model_it_is():
    rows = len(example()[0]["taps"])
    assert line(compared={"taps": rows, "of_dump": rows, "of_model": 999}).endswith(f"; {rows} of the model's 999 taps")
    assert "of the model's" not in line(compared={"taps": rows, "of_dump": rows, "of_model": rows})


def test_says_whose_path_the_weights_came_from():
    note = "weights: from some/folder, a path that the dump names: --weights says which you trust"
    assert line(notes=[note, "positions of pass 0 are 1..3"]).endswith(f"; {note}")


def test_says_which_arithmetic_it_is():
    one = {"what": "products took TF32 operands", "declared": "float32", "coefficient": 0.99993, "stderr": 4e-5}
    assert line(arithmetic=one).endswith(
        "; as if products took TF32 operands (c = 0.99993 +- 0.00004); declared float32"
    )
    sums = one | {"what": "products were summed in float16", "coefficient": None, "stderr": None}
    assert line(arithmetic=sums).endswith("; as if products were summed in float16; declared float32")


def bug(*causes, proof=PROOF, **more):
    report, _ = example()
    wrong(report, "text.layer.3.attn.k")
    return report | {"causes": list(causes), "proof": proof} | more


def test_the_line_says_operation_cause_and_proof():
    assert verdict_line(bug(at_k([3]))) == (
        "verdict: bug, first at text.layer.3.attn.k (pass 0), 41.2 floors: k has the weights of layer 1, not those of "
        "its own (layer 3) (weights_of_layer); this explains the logits"
    )
    assert " of its own, in layers 3..5 (weights_of_layer)" in verdict_line(bug(at_k([3, 4, 5])))
    remains = PROOF | {"verdict": "remains", "says": "something else remains, first at text.embed (pass 0): 7 floors"}
    assert verdict_line(bug(at_k([3]), proof=remains)).endswith(
        "; something else remains, first at text.embed (pass 0)"
    )


def test_several_mistakes_are_numbered_and_the_line_stays_short():
    second = fitted("part_missing", "The values of heads 7..9 are 0.", "text.layer.2.attn.q", where="heads 7..9")
    line = verdict_line(bug(at_k([3]), second))
    assert "41.2 floors; 2 mistakes: (1) attn.k in layer 3: k has" in line
    assert line.endswith(
        "(2) attn.q in layer 2: the values of heads 7..9 are 0 (part_missing); these explain the logits"
    )
    assert "; 2 causes: (1) " in verdict_line(bug(at_k([3]), unexplained(WRONG), proof=None))
    many = verdict_line(bug(*[at_k([3])] * 9))
    assert len(many) <= LONGEST_LINE
    assert "; ... and 6 more; these explain the logits" in many
    long = fitted("positions_of_tokens", "Tokens have other positions: " + "7..9 4 too large, " * 30, WRONG)
    assert len(verdict_line(bug(long))) <= LONGEST_LINE
    assert "... (positions_of_tokens); this explains" in verdict_line(bug(long))


def test_what_has_to_be_equal_differs_and_has_no_floors():
    report, _ = example()
    row = wrong(report, "text.layer.3.in", INF)
    assert how_far(row) == "differs"
    assert "inf" not in verdict_line(report)
    assert "inf" not in render_text(report).split()


def test_a_match_in_another_basis_says_so():
    rows = [
        basis("Channels of each head stand in another order: pairs interleaved: j, j + half, ....", i)
        for i in range(18)
    ]
    line = verdict_line(CLEAN | {"bases": rows})
    assert line.startswith(
        "verdict: match (in another basis: channels of each head stand in another order: pairs interleaved: j, "
        "j + half, ... in all 18 layers; cancels at attn.scores): 417 taps of 1 pass, at most "
    )
    assert "\nin another basis, and rightly so\n" in render_text(CLEAN | {"bases": rows})
