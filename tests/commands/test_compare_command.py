"""`compare`: reports are checked before the work, and what was found is printed whatever becomes of them."""

import errno
import os
import stat
from importlib.util import find_spec
from pathlib import Path

import pytest
from support.refusing import refusal
from support.report_examples import example, rope_bug

from ref.cli import main
from ref.commands import compare
from ref.golden_files.files import golden_root

pytestmark = pytest.mark.skipif(
    not (find_spec("plotly") and find_spec("junitparser")), reason="needs plotly and junitparser"
)
DUMP = str(golden_root() / "dumps" / "tiny")
FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def never(monkeypatch):
    """Fail where anything is judged."""
    monkeypatch.setattr(compare, "_judge", lambda *_: pytest.fail("judged before the outputs were checked"))


@pytest.fixture
def judged(monkeypatch):
    """Let dumps be judged at once: a bug, unless the name says otherwise."""
    monkeypatch.setattr(compare, "_judge", lambda args, dump: example() if "match" in dump else rope_bug())


@pytest.mark.parametrize("flag", ["--html", "--junit"])
@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("no/page", "no/page: output file: wanted a place that can be written, got no such folder"),
        ("", "output file: wanted a name for a file, got a folder or device"),
        ("file/page", "file/page: output file: wanted a place that can be written, got "),
        ("page\0x", "output file: wanted a place that can be written, got embedded null byte"),
        ("n" * 300, "output file: wanted a place that can be written, got File name too long"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused_before_anything_is_judged(
    capsys, tmp_path, never, flag, where, message
):
    (tmp_path / "file").write_text("")
    assert message in refusal(capsys, "compare", DUMP, flag, f"{tmp_path}/{where}")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("flag", ["--html", "--junit"])
@pytest.mark.parametrize("device", ["/dev/null", "/dev/full"])
def test_a_device_is_no_output(capsys, never, flag, device):
    if not Path(device).exists():
        pytest.skip(f"no {device}")
    assert "wanted a name for a file, got a folder or device" in refusal(capsys, "compare", DUMP, flag, device)


@pytest.mark.skipif(os.name != "posix" or not os.getuid(), reason="root may write anywhere")
def test_a_folder_that_is_read_only_is_refused_before(capsys, tmp_path, never):
    tmp_path.chmod(0o555)
    try:
        line = refusal(capsys, "compare", DUMP, "--html", str(tmp_path / "page.html"))
    finally:
        tmp_path.chmod(0o755)
    assert "wanted a place that can be written, got Permission denied" in line


def test_what_is_read_is_never_written_over(capsys, tmp_path, never):
    dump = tmp_path / "dump"
    dump.mkdir()
    for name in ("dump.json", "pass0000.safetensors", "page.html"):
        (dump / name).write_text("")
    bare, ids = tmp_path / "x.npz", tmp_path / "ids"
    bare.write_text("")
    ids.write_text("2")
    asked = [(dump, dump / "dump.json"), (dump, tmp_path / "dump" / "." / "pass0000.safetensors"), (bare, bare)]
    for given, out in asked:
        assert "output file: wanted another file than" in refusal(capsys, "compare", str(given), "--html", str(out))
    assert "wanted another file" in refusal(capsys, "compare", str(dump), str(bare), "--junit", str(bare))
    assert "wanted another file" in refusal(capsys, "compare", str(dump), "--ids", str(ids), "--junit", str(ids))
    both = ["--html", str(tmp_path / "one"), "--junit", str(tmp_path / "one")]
    assert "wanted another file than --html, got the same" in refusal(capsys, "compare", str(dump), *both)
    with pytest.raises(pytest.fail.Exception):  # a report of an earlier run, and a new one, may lie beside the dump
        main(["compare", str(dump), "--html", str(dump / "page.html"), "--junit", str(dump / "new.xml")])


def test_reports_are_written_beside_the_table(capsys, tmp_path, judged):
    page, xml = tmp_path / "page.html", tmp_path / "report.xml"
    assert main(["compare", DUMP, "--html", str(page), "--junit", str(xml)]) == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("verdict: bug, first at ")
    assert page.read_text().startswith("<!doctype html>")
    assert "<testsuites>" in xml.read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.html", "report.xml"]


@pytest.mark.parametrize("dump", ["a bug", "a match"])
@pytest.mark.parametrize("json", [[], ["--json"]])
def test_a_full_disk_loses_the_page_but_not_the_table(capsys, tmp_path, judged, monkeypatch, dump, json):
    """Exit code 2, whatever the verdict: a file that was asked for is not there, and the verdict has been printed."""
    writes = Path.write_bytes

    def full(path, data):
        if path.name.startswith("page.html"):
            raise FULL
        return writes(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    page, xml = tmp_path / "page.html", tmp_path / "report.xml"
    assert main(["compare", dump, *json, "--html", str(page), "--junit", str(xml)]) == 2
    out, err = capsys.readouterr()
    assert '"verdict": ' in out if json else out.splitlines()[-1].startswith("verdict: ")
    assert err.splitlines() == [
        f"gemma3-ref compare: {page}: output file: wanted a place that can be written, got No space left on device"
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["report.xml"]


def test_a_reader_who_leaves_early_still_gets_the_page(tmp_path, judged, monkeypatch):
    def leave(*_):
        raise BrokenPipeError

    monkeypatch.setattr(compare, "show", leave)
    page = tmp_path / "page.html"
    with pytest.raises(BrokenPipeError):
        compare.run(arguments(["compare", "a bug", "--html", str(page)]))
    assert page.exists()


def arguments(words):
    from ref.cli import build_parser

    return build_parser().parse_args(words)


def test_the_page_of_a_real_run_is_there(tmp_path, capsys):
    page = tmp_path / "page.html"
    assert main(["compare", DUMP, "--html", str(page)]) == 0
    assert stat.S_ISREG(page.stat().st_mode)
    assert capsys.readouterr().out.splitlines()[-1].startswith("verdict: match")
