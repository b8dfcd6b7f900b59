"""Remake the report and the picture of docs/reading-a-report.md: python docs/make_report_example.py

Plants a mistake into the real 270M, has it judged, writes what `compare` prints into the page, and takes a picture of
its HTML page. About a minute. Needs the extras [weights] and [report], and chromium (apt-get install chromium).
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

import ref
from ref.errors import wanted
from ref.testing import break_port

DOCS = Path(__file__).resolve().parent
PAGE, PICTURE = DOCS / "reading-a-report.md", DOCS / "report.png"
TEXT = "The capital of France is Paris, and the capital of Italy is"
MISTAKE, LAYER = "rope_interleaved", 5
SIZE = "1300,1400"  # as much of the page as one looks at first
COLOURS = 256  # the page has few: a palette is a third of the bytes
BLOCK = re.compile(r"(?<=<!-- report -->\n```text\n).*?(?=^```$)", re.S | re.M)


def judge(folder: Path) -> str:
    """Plant the mistake, compare, and return what is printed; the HTML page is written beside the dump."""
    loaded = ref.load("270m")
    break_port(folder / "port", loaded, loaded.tokenizer().encode(TEXT), MISTAKE, LAYER)
    command = [sys.executable, "-m", "ref", "compare", "port", "--html", "page.html"]
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    if done.returncode != 1:
        raise wanted("compare", "docs/make_report_example.py", "exit code 1: a bug", done.returncode)
    return done.stdout


def picture(page: Path) -> None:
    """Take the picture of an HTML page, in few colours."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if not browser:
        raise wanted("chromium", "docs/make_report_example.py", "apt-get install chromium", "no such program")
    shot = page.with_suffix(".png")
    flags = ["headless=new", "no-sandbox", "disable-gpu", "hide-scrollbars", "virtual-time-budget=20000"]
    flags += [f"window-size={SIZE}", f"screenshot={shot}"]
    subprocess.run([browser, *(f"--{flag}" for flag in flags), page.as_uri()], check=True, stderr=subprocess.DEVNULL)
    with Image.open(shot) as image:
        image.convert("RGB").quantize(COLOURS).save(PICTURE, optimize=True)


def main() -> None:
    """Write both, the page only if it has a place for the report."""
    with tempfile.TemporaryDirectory() as folder:
        said = judge(Path(folder))
        text, count = BLOCK.subn(lambda _: said, PAGE.read_text(encoding="utf-8"))
        if count != 1:
            raise wanted("<!-- report -->", str(PAGE), "once, with a text block after it", count)
        picture(Path(folder) / "page.html")
    PAGE.write_text(text, encoding="utf-8")
    print(f"{PAGE.name}: {len(said.splitlines())} lines; {PICTURE.name}: {PICTURE.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
