"""The last line of a report is not to be read without what it did not look at."""

from support.report_examples import example

from ref.report.words import verdict_line


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
