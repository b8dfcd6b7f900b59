"""A read-only install and no home: kernels go to a temporary folder that is the user's own, and it is said once."""

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ref import kernel_cache

SOURCES = Path(kernel_cache.SOURCES)
BOXES = "from ref.ops.pan_and_scan import crop_boxes; print(len(crop_boxes(1000, 2500, 1.2, 256, 4, True)))"
AGAIN = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import ref.ops'], check=True)"
unix = pytest.mark.skipif(not hasattr(os, "getuid"), reason="Windows has no owners of this kind")


def rightless() -> list[str]:
    """Return a prefix that makes root obey the modes of files; other users do anyway."""
    if os.getuid():
        return []
    if not shutil.which("setpriv"):
        pytest.skip("root, and no setpriv to be less")
    return ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]


@pytest.fixture
def run(tmp_path):
    """Run Python with a copy of the package and a home that cannot be written."""
    package, home, temporary = tmp_path / "site" / "ref", tmp_path / "home", tmp_path / "temporary"
    shutil.copytree(SOURCES, package, ignore=shutil.ignore_patterns("__pycache__"))
    home.mkdir()
    temporary.mkdir()
    folders = [home, *(path for path in (package.parent, *package.rglob("*")) if path.is_dir()), package]
    for folder in folders:
        folder.chmod(0o555)

    def python(*arguments, **more):
        unset = ("NUMBA_CACHE_DIR", "NUMBA_DISABLE_JIT", "XDG_CACHE_HOME", "COVERAGE_PROCESS_START")
        env = {name: value for name, value in os.environ.items() if name not in unset}
        env |= {"PYTHONPATH": str(package.parent), "HOME": str(home), "TMPDIR": str(temporary), **more}
        command = [*rightless(), sys.executable, *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=env, cwd=tmp_path)

    yield python
    for folder in folders:
        folder.chmod(0o755)


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@unix
def test_a_read_only_install_without_a_home_works_and_says_once_where_kernels_go(run, tmp_path):
    first = run("-c", f"{BOXES}; {AGAIN}")
    folder = tmp_path / "temporary" / f"gemma3-ref-kernels-{os.getuid()}"
    assert (first.returncode, first.stdout) == (0, "3\n"), first.stderr
    why = "no other place can be written (NUMBA_CACHE_DIR sets one)"
    assert first.stderr == f"gemma3-ref: compiled kernels are kept in {folder}: {why}\n"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    kept = {path: path.stat().st_mtime_ns for path in files(folder)}
    assert any(path.suffix == ".nbc" for path in kept)
    assert run("-c", BOXES).stdout == "3\n"
    assert {path: path.stat().st_mtime_ns for path in files(folder)} == kept  # loaded, not compiled again


@unix
def test_doctor_says_where(run, tmp_path):
    ran = run("-m", "ref", "doctor")
    assert ran.returncode == 0, ran.stderr
    said = re.search("kernel_cache +(.*)", ran.stdout)
    assert (
        said[1] == f"{tmp_path}/temporary/gemma3-ref-kernels-{os.getuid()} (temporary: no other place can be written)"
    )
    assert len(ran.stderr.splitlines()) == 1


@unix
@pytest.mark.parametrize(
    "more", [{"NUMBA_CACHE_DIR": "{}/temporary/mine"}, {"XDG_CACHE_HOME": "{}/temporary"}, {"NUMBA_DISABLE_JIT": "1"}]
)
def test_who_has_a_place_or_needs_none_is_told_nothing(run, tmp_path, more):
    ran = run("-c", BOXES, **{name: value.format(tmp_path) for name, value in more.items()})
    assert (ran.stdout, ran.stderr) == ("3\n", "")
    assert not list((tmp_path / "temporary").glob("gemma3-ref-kernels-*"))


@unix
def test_a_place_that_was_named_but_cannot_be_written_is_replaced(run, tmp_path):
    ran = run("-c", BOXES, NUMBA_CACHE_DIR=str(tmp_path / "home" / "kernels"))
    assert ran.stdout == "3\n", ran.stderr
    assert "kept in" in ran.stderr


@unix
def test_numba_that_was_loaded_before_is_told_too(run):
    assert run("-c", f"import numba; {BOXES}").stdout == "3\n"


def a_link(folder):
    (folder.parent / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to(folder.parent / "elsewhere")


def given_away(folder):
    if os.getuid():
        pytest.skip("only root can give a folder away")
    folder.mkdir(mode=0o700)
    os.chown(folder, 12345, 12345)


TAKEN = {
    "a link": a_link,
    "a file": lambda folder: folder.write_text(""),
    "open to others": lambda folder: (folder.mkdir(), folder.chmod(0o777)),
    "another's": given_away,
}


@unix
@pytest.mark.parametrize("what", TAKEN)
def test_compiled_code_is_never_loaded_from_what_others_can_write_to(run, tmp_path, what):
    name = f"gemma3-ref-kernels-{os.getuid()}"
    TAKEN[what](tmp_path / "temporary" / name)
    ran = run("-c", f"{BOXES}; import os; print(oct(os.stat(os.environ['NUMBA_CACHE_DIR']).st_mode)[-3:])")
    assert ran.stdout == "3\n700\n", ran.stderr
    assert re.search(r"temporary/gemma3-ref-kernels-(?!\d+:)\w+", ran.stderr)
    assert files(tmp_path / "temporary") == (
        [tmp_path / "temporary" / name] if what == "a file" else []
    )  # gone with it


def test_all_folders_with_kernels_are_known():
    found = {path.parent for path in SOURCES.rglob("*.py") if re.search(r"\bcache=True", path.read_text())}
    assert {SOURCES / folder for folder in kernel_cache.WITH_KERNELS} == found


def test_a_user_without_a_home_is_refused_in_one_line(monkeypatch):
    from ref.commands.doctor import collect
    from ref.errors import BadInput
    from ref.weights.package import cache_folder

    def none():
        raise RuntimeError("Could not determine home directory.")

    for name in ("XDG_CACHE_HOME", "GEMMA3_REF_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", none)
    with pytest.raises(BadInput, match=r"weights: cache folder: wanted a user with a home \(or set GEMMA3_REF_CACHE\)"):
        cache_folder()
    assert "a user with a home" in collect()["cache_folder"]
