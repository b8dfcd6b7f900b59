"""Sphinx: python -m sphinx -W -b html docs build/site

Pages of functions come from their docstrings, notebooks from the executed pairs in notebooks/.
"""

import os
import re
import shutil
import sys
from importlib import metadata
from pathlib import Path

os.environ["NUMBA_DISABLE_JIT"] = "1"  # compiled functions hide their signatures

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS))
from tabs import tabbed  # noqa: E402

ROOT = DOCS.parent
# the repository's own pages: where the site has them
PAGES = {
    "README.md": "pages/readme.md",
    "CONTRIBUTING.md": "pages/contributing.md",
    "golden/README.md": "pages/vectors.md",
    "golden/KILLS.md": "pages/kills.md",
    "notebooks/README.md": "learn.md",
    "notebooks": "learn.md",
}
LINK = re.compile(r"\]\((?!\w+:)([^)#\s]+)")


def gather():
    """Copy the executed notebooks and the repository's own pages to where Sphinx reads."""
    for folder in ("notebooks", "pages"):
        shutil.rmtree(DOCS / folder, ignore_errors=True)
        (DOCS / folder).mkdir()
    for pair in (ROOT / "notebooks").glob("[0-9]*.ipynb"):
        shutil.copy(pair, DOCS / "notebooks")
    for path, page in PAGES.items():
        if page.startswith("pages/"):
            text = (ROOT / path).read_text(encoding="utf-8")
            (DOCS / page).write_text(relinked(text, ROOT / path, DOCS / page), encoding="utf-8")


def relinked(text: str, written: Path, page: Path) -> str:
    """Lead the links of a text to the site's pages.

    Args:
        text: Markdown. Its links are right where it was written, so that they work in the repository, too.
        written: the file it was written in.
        page: the file that Sphinx reads it from.
    """

    def lead(link: re.Match) -> str:
        target = Path(os.path.normpath(written.parent / link[1]))
        path = target.relative_to(ROOT).as_posix()
        inside = path if target.suffix == ".ipynb" else PAGES.get(path)
        here = os.path.relpath(DOCS / inside if inside else target, page.parent)
        return f"]({here}" if inside or target.is_relative_to(DOCS) else f"](path:{here}"  # a file to download

    return LINK.sub(lead, text)


def reread(app, docname, source):
    """Read the site's own Markdown, which is right in the repository, as the site wants it: links and tabs."""
    page = DOCS / f"{docname}.md"
    if page.exists() and not docname.startswith("pages/"):
        source[0] = tabbed(relinked(source[0], page, page))


gather()
project, author, copyright = "gemma3-ref", "the gemma3-ref authors", "the gemma3-ref authors, Apache-2.0"
release = metadata.version("gemma3-ref")
extensions = ["myst_nb", "sphinx_design", "sphinx.ext.apidoc", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
extensions += ["sphinx.ext.viewcode"]
html_theme, html_title = "furo", f"gemma3-ref {release}"
html_static_path, html_css_files = ["static"], ["site.css"]
# a page for each room: the theme makes the whole list of pages anew on every page
apidoc_modules = [{"path": "../ref", "destination": "api", "separate_modules": False, "module_first": True}]
nb_execution_mode = "off"  # notebooks/run.py has run them
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]  # the tabs that `tabbed` writes
default_role = "code"
napoleon_use_rtype = False
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
toc_object_entries_show_parents = "hide"

SECTIONS = re.compile(r"(Args|Returns|Yields|Raises|Rounding|Source|Differs):( |$)")


def as_rst(app, what, name, obj, options, lines):
    """Turn a docstring of ours into reStructuredText: formulas stay as they are written, signs are no markup."""
    out, inside, literal = [], False, False
    for line in _joined(lines):
        inside = inside or bool(SECTIONS.match(line))
        formula = not inside and line.startswith("    ")
        if formula and not literal:
            out += ["::", ""]
        if literal and line.strip() and not formula:
            out.append("")
        literal = formula or (literal and not line.strip())
        out.append(line if literal else _plain(line))
    lines[:] = out


def _joined(lines):
    """Make a field of each one-line section (`Source: ...`) and what follows it up to the next."""
    out, open_ = [], False
    for line in lines:
        told = re.match(r"(Returns|Raises|Rounding|Source|Differs): (.+)", line)
        if told:
            out.append(f":{told[1]}: {told[2]}")
        elif open_ and line.strip() and not SECTIONS.match(line):
            out[-1] += " " + line.strip()
            continue
        else:
            out += ["", line] if open_ and SECTIONS.match(line) else [line]
        open_ = bool(told)
    return out


def _plain(line):
    pieces = line.split("`")
    pieces[::2] = [re.sub(r"([*|]|(?<=\w)_(?!\w))", r"\\\1", piece) for piece in pieces[::2]]
    return "`".join(pieces)


def skip(app, what, name, obj, skipped, options):
    """Leave out the fields of named tuples, which stand in the signature."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def setup(app):
    """Connect, ours before napoleon's."""
    app.connect("autodoc-process-docstring", as_rst, priority=400)
    app.connect("autodoc-skip-member", skip)
    app.connect("source-read", reread)
