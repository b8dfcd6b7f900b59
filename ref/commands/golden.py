"""`gemma3-ref golden make|check`: make the goldens with the witness, or check that they are whole."""

import runpy
import sys
from importlib.util import find_spec
from pathlib import Path

from ref.commands import BUG, FINE
from ref.commands.about import About, add_command
from ref.commands.shared import json_flag, print_json
from ref.errors import pip_install, wanted

ABOUT = About(
    "golden",
    "make or check the golden files, which hold what other implementations compute",
    "",
    ("gemma3-ref golden check",),
    (FINE, BUG),
)
CHECK = About(
    "check",
    "check schemas and digests of the golden files; no arithmetic",
    "",
    ("gemma3-ref golden check",),
    (FINE, BUG),
)
MAKE = About(
    "make",
    "run the witness and write golden cases",
    "Needs the extra [witness].",
    ("gemma3-ref golden make --weights tiny --out new-goldens",),
)


def add(subparsers) -> None:
    """Declare the command."""
    parser = add_command(subparsers, ABOUT, None)
    actions = parser.add_subparsers(dest="action", required=True, metavar="{make,check}")
    check = add_command(actions, CHECK, run_check, [json_flag()])
    check.add_argument("--golden", type=Path, metavar="DIR", help="default: the goldens that came along")
    make = add_command(actions, MAKE, run_make)
    make.add_argument(
        "--weights", action="append", help="tiny, tiny-long, synthetic:4b-pair, 270m (default: these) or a folder"
    )
    make.add_argument("--out", help="the goldens' folder; default: the clone's")
    make.add_argument("--only", metavar="ID", help="only cases whose id contains this")
    make.add_argument("--json", action="store_true", help="print the ids of what was made")


def run_check(args) -> int:
    """Print each problem on a line; exit 1 if there is one."""
    from ref.golden_files.files import check_golden, golden_root, manifest_of

    root = args.golden or golden_root()
    problems = check_golden(root)
    if args.json:
        print_json({"verdict": "bug" if problems else "match", "problems": problems})
    else:
        files = manifest_of(root)["files"].values()
        print("\n".join(problems) or f"{len(files)} files, {sum(f['bytes'] for f in files) / 1e6:.1f} MB: whole")
    return BUG if problems else FINE


def run_make(args) -> int:
    """Hand over to golden/make, which only a clone has: it imports the witness, which `ref` never does."""
    from ref.golden_files.files import PACKAGE_ROOT

    script = PACKAGE_ROOT.parent / "golden" / "make"
    if not (script / "__main__.py").is_file():
        raise wanted("golden/make", script, "a clone of the repository", "an installed package")
    for name in ("torch", "transformers", "gguf"):
        if find_spec(name) is None:
            raise wanted(name, "golden make", pip_install("witness"), "not installed")
    argv, sys.argv = sys.argv, [str(script)]
    for weights in args.weights or []:
        sys.argv += ["--weights", weights]
    sys.argv += ["--out", args.out] if args.out else []
    sys.argv += ["--only", args.only] if args.only else []
    sys.argv += ["--json"] if args.json else []
    try:
        runpy.run_path(str(script), run_name="__main__")
    except OSError as error:
        raise wanted("golden folder", args.out or script.parent, "one that can be written", error) from None
    finally:
        sys.argv = argv
    return FINE
