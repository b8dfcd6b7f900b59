"""The command of benchmarks: what it prints and leaves out, on the toy model. Nothing here looks at a time."""

import ast
import json
from pathlib import Path

import pytest
from bench import __main__ as command
from bench.all_rows import all_rows
from bench.alternate import measure
from bench.figures import figures
from bench.files import MAKERS, PREFIX, Files
from bench.row import Entry, Options, Row, Taken, chosen
from bench.run import together
from bench.say import as_page, as_text

ROOT = Path(__file__).resolve().parents[2]
BENCH = ROOT / "tests/bench"
SMALL = ["--model", "tiny", "--rounds", "1", "--threads", "1"]


def taken(name, seconds, peak=10**9, **of_entry):
    entry = Entry(name, "rows.limits:read", **of_entry)
    return Taken(entry, seconds, seconds, peak, {})


def test_json_has_every_row_and_a_peer_that_is_missing_is_one_line(capsys, tmp_path):
    nowhere = str(tmp_path / "python")
    asked = ["import", "prefill-128-last/file", "--against", "llama.cpp", "--llama-python", nowhere, "--json"]
    command.main([*asked, *SMALL])
    out, progress = capsys.readouterr()
    run = json.loads(out)
    assert run["left out"] == [f"llama.cpp: left out, no Python at {nowhere}"]
    assert progress.splitlines()[0] == run["left out"][0]
    assert [(row["row"], row["form"]) for row in run["rows"]] == [("import", ""), ("prefill-128-last", "file")]
    names = [[entry["name"] for entry in row["entries"]] for row in run["rows"]]
    assert names == [["ref"], ["ref", "ref in memory"]]
    for entry in (entry for row in run["rows"] for entry in row["entries"]):
        assert len(entry["of"]) == 1
        assert min(entry["seconds"], entry["cores"], entry["peak"]) > 0
    assert run["rows"][1]["entries"][0]["rate"] == pytest.approx(128 / run["rows"][1]["entries"][0]["seconds"])
    assert {"Python", "numpy", "numba", "BLAS"} <= set(run["versions"])
    assert run["threads"] == 1
    assert run["command"].startswith("python -m tests.bench import prefill-128-last/file --against llama.cpp ")
    assert str(tmp_path) not in run["command"]


def test_another_checkout_does_the_same_work_and_its_ratio_is_printed(capsys):
    command.main(["prefill-128-last/float32", "--against", "", "--beside", str(ROOT), *SMALL])
    title, ours, other = capsys.readouterr().out.splitlines()
    assert title.startswith("prefill-128-last/float32: ")
    assert ours.split()[0] == "ref"
    assert other.startswith(f"  ref of {ROOT.name} ")
    assert " x beside ref (" in other


def test_what_fails_is_left_out_in_one_line_and_the_others_go_on(tmp_path):
    entries = [
        Entry("works", "rows.limits:read", {"count": 1000}),
        Entry("no such job", "rows.limits:nothing"),
        Entry("ends", "rows.limits:read", {"count": "a"}),
    ]
    row, options = Row("name", "what", entries), Options(rounds=2)
    done, left_out = measure(row, options, Files(tmp_path, options))
    assert [(one.entry.name, len(one.seconds)) for one in done] == [("works", 2)]
    assert list(left_out) == ["no such job", "ends"]
    lines = as_text(figures(row, done, left_out)).splitlines()
    assert lines[2].startswith("  no such job: left out, AttributeError: ")
    assert len(lines) == 4


def test_ratios_are_of_medians_and_growth_is_over_the_line_above():
    row = Row("name", "what", [Entry("a", ""), Entry("b", "")])
    a, b = figures(row, [taken("a", [1, 2, 9]), taken("b", [4, 3, 5])], {})["entries"]
    assert "ratio" not in a
    assert (b["beside"], b["ratio"], b["ratios"]) == ("a", 2, [5 / 9, 4])
    lengths = [Entry("4", ""), Entry("8", "", beside="4"), Entry("16", "", beside="8")]
    row = Row("growth", "what", lengths, alone=True, limit=2.1)
    found = figures(row, [taken("4", [1.0]), taken("8", [2.0], beside="4"), taken("16", [4.4], beside="8")], {})
    assert [one.get("within") for one in found["entries"]] == [None, True, False]
    assert (
        as_text(found)
        .splitlines()[-1]
        .endswith("2.20 x, above 2.1 beside 8 (2.20 to 2.20), cores 2.20 x, memory 1.00 x")
    )


def test_rows_are_chosen_by_name_pattern_and_form():
    options = Options(forms=("file", "float32"), against=("transformers",))
    names = [row.full_name for row in chosen(all_rows(options), ["prefill-512-last", "decode-*/float32"], options)]
    decoding = [f"decode-{count}/float32" for count in (0, 512, 4096)]
    assert names == ["prefill-512-last/file", "prefill-512-last/float32", *decoding]
    [row] = chosen(all_rows(options), ["load/float32"], options)
    assert [entry.name for entry in row.entries] == ["ref", "transformers sdpa", "transformers eager"]
    assert len({row.full_name for row in all_rows(options)}) == len(all_rows(options))


def test_every_job_and_file_that_a_row_names_is_there():
    for entry in (entry for row in all_rows(Options()) for entry in row.entries):
        module, function = entry.job.split(":")
        tree = ast.parse((BENCH / f"{module.replace('.', '/')}.py").read_text())
        found = {one.name: one for one in tree.body if isinstance(one, ast.FunctionDef)}
        assert function in found, entry.job
        assert set(entry.given) <= {one.arg for one in found[function].args.args}, entry.job
        files = [one for one in entry.given.values() if isinstance(one, str) and one.startswith(PREFIX)]
        assert {one.removeprefix(PREFIX) for one in files} <= set(MAKERS)


def test_a_page_of_several_runs_has_the_later_of_a_row():
    def run(seconds):
        row = figures(Row("name", "what", [Entry("ref", "")], form="file"), [taken("ref", [seconds])], {})
        facts = {"date": "2026-01-01", "machine": {"cpu": "one"}, "versions": {"numpy": "2"}, "commit": "abc"}
        return facts | {"command": f"run {seconds}", "threads": 1, "left out": ["no peer"], "rows": [row]}

    page = as_page(together([run(1.0), run(2.0)]))
    assert "Made by `run 1.0`, `run 2.0` on 2026-01-01." in page
    assert "- numpy: 2\n" in page
    assert "- no peer\n" in page
    assert [line for line in page.splitlines() if line.startswith("| file: ")] == [
        "| file: ref |  | 2 s | ± 0% | 2 s | 1.00 GB |  |  |  |  |"
    ]


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (["nothing"], "no row"),
        (["import", "--against", "jax"], "got jax"),
        (["--rounds", "0"], "1 or more, got 0"),
    ],
)
def test_what_there_is_not_is_refused_in_one_line(asked, says):
    with pytest.raises(SystemExit, match=says):
        command.main(asked)
