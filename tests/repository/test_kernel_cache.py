"""Compiled kernels: they follow every source, old ones go, and an install that cannot be written works, too."""

import ast
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ref import kernel_cache

SOURCES = kernel_cache.SOURCES
BOXES = "from ref.ops.pan_and_scan import crop_boxes; print(len(crop_boxes(1000, 2500, 1.2, 256, 4, True)))"
AGAIN = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BOXES!r}], check=True)"
UNSET = (*kernel_cache.VARIABLES, "NUMBA_DISABLE_JIT", "XDG_CACHE_HOME", "COVERAGE_PROCESS_START")
unix = pytest.mark.skipif(not hasattr(os, "getuid"), reason="Windows has no owners of this kind")


def rightless() -> list[str]:
    """Return a prefix that makes root obey the modes of files; other users do anyway."""
    if os.getuid():
        return []
    if not shutil.which("setpriv"):
        pytest.skip("root, and no setpriv to be less")
    return ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]


def copy(to: Path) -> Path:
    """Copy the package, and return the copy."""
    return Path(shutil.copytree(SOURCES, to / "ref", ignore=shutil.ignore_patterns("__pycache__")))


def environment(**more: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in UNSET} | more


@pytest.fixture
def run(tmp_path):
    """Run Python with a copy of the package and a home that cannot be written."""
    package, home, temporary = copy(tmp_path / "site"), tmp_path / "home", tmp_path / "temporary"
    home.mkdir()
    temporary.mkdir()
    folders = [home, *(path for path in (package.parent, *package.rglob("*")) if path.is_dir()), package]
    for folder in folders:
        folder.chmod(0o555)

    def python(*arguments, **more):
        env = environment(PYTHONPATH=str(package.parent), HOME=str(home), TMPDIR=str(temporary)) | more
        command = [*rightless(), sys.executable, *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=env, cwd=tmp_path)

    yield python
    for folder in folders:
        folder.chmod(0o755)


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


CALLED = """
from ref.ops.jit import kernel

@kernel
def called(x):
    return x + {}
"""
CALLS = """
from ref.ops.called import called
from ref.ops.jit import kernel

@kernel
def calls(x):
    return called(x)
"""


def test_an_edit_of_a_kernel_is_seen_by_its_callers_in_other_files(tmp_path):
    package = copy(tmp_path)
    (package / "ops" / "calls.py").write_text(CALLS)
    env = environment(PYTHONPATH=str(tmp_path), NUMBA_CACHE_DIR=str(tmp_path / "kept"))
    ask = [sys.executable, "-c", "from ref.ops.calls import calls; print(calls(1), len(calls.stats.cache_hits))"]
    said = []
    for number in (10, 10, 20, 10):
        (package / "ops" / "called.py").write_text(CALLED.format(number))
        said.append(subprocess.run(ask, check=True, capture_output=True, text=True, env=env, cwd=tmp_path).stdout)
    assert said == ["11 0\n", "11 1\n", "21 0\n", "11 1\n"]  # sums, and how many kernels were loaded


def test_what_was_used_last_stays_and_nothing_else_is_touched(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    base = tmp_path / "gemma3-ref"
    (base / "mine").mkdir(parents=True)
    os.utime(base / "mine", (0, 0))
    made = [kernel_cache.kernel_folder(number) for number in range(kernel_cache.KEPT)]
    for age, folder in enumerate(made):
        os.utime(folder, (1000 - age, 1000 - age))
    assert kernel_cache.kernel_folder(len(made) - 1) == made[-1]  # the oldest is used again
    new = kernel_cache.kernel_folder("new")
    assert {path.name for path in base.iterdir()} == {"mine", new.name, *(one.name for one in made if one != made[-2])}
    assert new.stat().st_mode & 0o777 == 0o700


def test_the_environment_says_where_and_stays_as_it_is(tmp_path, monkeypatch):
    places = [(name, tmp_path / name) for name in (*kernel_cache.VARIABLES, "XDG_CACHE_HOME")]
    before = dict(os.environ)
    for name, folder in places:
        monkeypatch.setenv(name, str(folder))
    if sys.platform in ("win32", "darwin"):
        places.pop()
    for name, folder in places:
        assert kernel_cache.kernel_folder(0).is_relative_to(folder)
        assert kernel_cache.describe_kernel_cache().startswith(str(folder))
        monkeypatch.delenv(name)
    monkeypatch.undo()
    assert dict(os.environ) == before


@unix
def test_a_read_only_install_without_a_home_works_and_says_once_where_kernels_go(run, tmp_path):
    first = run("-c", f"{BOXES}; {AGAIN}")
    folder = tmp_path / "temporary" / f"gemma3-ref-kernels-{os.getuid()}"
    assert (first.returncode, first.stdout.split()) == (0, ["3", "3"]), first.stderr
    why = "no other place can be written (NUMBA_CACHE_DIR sets one)"
    assert first.stderr == f"gemma3-ref: compiled kernels are kept in {folder}: {why}\n"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    kept = {path: path.stat().st_mtime_ns for path in files(folder)}
    assert any(path.suffix == ".nbc" for path in kept)
    assert (run("-c", BOXES).stdout, run("-c", BOXES).stderr) == ("3\n", "")
    assert {path: path.stat().st_mtime_ns for path in files(folder)} == kept  # loaded, not compiled again


@unix
def test_doctor_says_where(run, tmp_path):
    ran = run("-m", "ref", "doctor")
    assert (ran.returncode, ran.stderr) == (0, "")
    said = re.search("kernel_cache +(.*)", ran.stdout)
    folder = f"{tmp_path}/temporary/gemma3-ref-kernels-{os.getuid()}"
    assert said
    assert said[1] == f"{folder} (temporary: no other place can be written)"


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
def test_kernels_run_where_nothing_at_all_can_be_written(run, tmp_path):
    nowhere = f"import tempfile; tempfile._get_default_tempdir = lambda: {str(tmp_path / 'home')!r}"
    assert run("-c", f"{nowhere}; {BOXES}").stdout == "3\n"
    assert not files(tmp_path / "temporary")


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
    where = "from ref.ops.pan_and_scan import count_crops; print(count_crops.stats.cache_path)"
    ran = run("-c", f"{BOXES}; {where}; import os; print(oct(os.stat(count_crops.stats.cache_path).st_mode)[-3:])")
    boxes, path, mode = ran.stdout.split()
    assert (boxes, mode) == ("3", "700"), ran.stderr
    assert re.search(r"temporary/gemma3-ref-kernels-(?!\d+/)\w+/", path)
    assert re.search(r"temporary/gemma3-ref-kernels-(?!\d+:)\w+", ran.stderr)
    assert files(tmp_path / "temporary") == (
        [tmp_path / "temporary" / name] if what == "a file" else []
    )  # gone with it


def test_all_that_goes_into_machine_code_counts():
    """No kernel stands in, or names a value of, a file that is not among the sources."""
    known = set(kernel_cache.kernel_sources())
    for path in SOURCES.rglob("*.py"):
        compiled = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)]
        compiled = [node for node in compiled if any("kernel" in ast.unparse(one) for one in node.decorator_list)]
        assert not compiled or path.relative_to(SOURCES).as_posix() in known, path
        for module, name in imported(path):
            file = f"{module.removeprefix('ref.').replace('.', '/')}.py"
            used = {one.id for node in compiled for one in ast.walk(node) if isinstance(one, ast.Name)}
            assert name not in used or file in known, (path, name)


def imported(path: Path):
    """List what a file takes from others of ours: module and name."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("ref."):
            yield from ((node.module, alias.asname or alias.name) for alias in node.names)


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
