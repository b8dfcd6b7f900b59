"""Keep each notebook's pair in step: 01_rms_norm.py is the source, 01_rms_norm.ipynb the same, run, with its outputs.

python notebooks/run.py [NAME ...]       runs them in fresh kernels, two at once, and writes the .ipynb
python notebooks/run.py --check          runs them too, but writes nothing: fails where a cell does, or a pair differs
"""

import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import jupytext
import nbformat

HERE = Path(__file__).resolve().parent
LIMIT = 120  # seconds a cell


def run(path: Path, check: bool) -> tuple[str, float, str]:
    """Run one notebook; return its name, seconds, and what is wrong."""
    from nbclient import NotebookClient  # reading a source needs none

    notebook, pair = read(path), path.with_suffix(".ipynb")
    start, wrong = time.perf_counter(), ""
    if check and sources(notebook) != (sources(nbformat.read(pair, 4)) if pair.exists() else []):
        wrong = f"{pair.name} is not the same: python notebooks/run.py {path.stem}"
    try:
        NotebookClient(notebook, timeout=LIMIT, kernel_name="python3", record_timing=False).execute(cwd=str(HERE))
    except Exception as error:  # nbclient's own kinds hold the cell and the traceback
        wrong = str(error)
    if not check and not wrong:
        part = pair.with_name(f".{pair.name}.part")
        part.write_text(nbformat.writes(notebook) + "\n")
        part.replace(pair)
    return path.stem, time.perf_counter() - start, wrong


def read(path: Path):
    """Read a source as a notebook, the same each time."""
    notebook = jupytext.read(path)
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNEL, "language_info": {"name": "python"}})
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02}"  # jupytext draws them by chance
        cell.metadata.pop("lines_to_next_cell", None)
    return notebook


KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def sources(notebook) -> list[tuple[str, str]]:
    """List kind and text of the cells."""
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


def main(*names: str) -> int:
    """Run the notebooks asked for, or all; return 1 where one fails."""
    check, wanted = "--check" in names, [name.removesuffix(".py") for name in names if name != "--check"]
    paths = [path for path in sorted(HERE.glob("[0-9]*.py")) if not wanted or path.stem in wanted]
    unknown = sorted(set(wanted) - {path.stem for path in paths})
    if unknown:
        print(f"no such notebook: {', '.join(unknown)}")
        return 1
    failed, start = 0, time.perf_counter()
    with ProcessPoolExecutor(2) as pool:
        for name, seconds, wrong in pool.map(partial(run, check=check), paths):
            print(f"{name:<24}{seconds:6.1f} s  {wrong or 'fine'}", flush=True)
            failed += bool(wrong)
    print(f"{len(paths)} notebooks in {time.perf_counter() - start:.0f} s")
    return 1 if failed or not paths else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
