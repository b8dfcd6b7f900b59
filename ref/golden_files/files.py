"""Golden files: where they are, whether they are whole, and what is in them."""

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import numpy as np
from jsonschema.exceptions import best_match
from jsonschema.validators import extend
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from ref.errors import BadInput, wanted
from ref.untrusted import is_integer, read_regular

PACKAGE_ROOT = Path(__file__).resolve().parents[1]


def golden_root() -> Path:
    """Return the folder of the goldens: inside an installed package, or beside it in a clone.

    Raises:
        BadInput: neither is there.
    """
    for root in (PACKAGE_ROOT / "golden", PACKAGE_ROOT.parent / "golden"):
        if (root / "MANIFEST.json").is_file():
            return root
    raise wanted("golden files", PACKAGE_ROOT.parent / "golden", "MANIFEST.json", "none; install from a full clone")


def schema(name: str) -> dict[str, Any]:
    """Read one of the closed JSON schemas in `golden/schema`."""
    for place in (PACKAGE_ROOT / "golden", PACKAGE_ROOT.parent / "golden"):
        path = place / "schema" / f"{name}.schema.json"
        if path.is_file():
            return json.loads(path.read_text())
    raise wanted("schema", "golden/schema", f"{name}.schema.json", "no such file")


@cache
def _validator(name: str) -> Any:
    """Return what checks a schema, for which 1.0 is no integer: JSON Schema calls it one, NumPy no size."""
    types = jsonschema.Draft202012Validator.TYPE_CHECKER
    strict = types.redefine("integer", lambda _, value: is_integer(value, -(2**63)))
    kind = extend(jsonschema.Draft202012Validator, type_checker=strict)
    return kind(schema(name), registry=Registry(retrieve=_schema_file))


def _schema_file(uri: str) -> Resource:
    """Find the schema that another names as a file beside it."""
    return DRAFT202012.create_resource(schema(uri.removesuffix(".schema.json")))


def check_schema(content: Any, name: str) -> None:
    """Refuse what does not match a schema of `golden/schema`; an integer is one of 64 bits, and 1.0 is none.

    Args:
        content: what was read.
        name: of the schema.

    Raises:
        jsonschema.ValidationError: the most telling mismatch.
    """
    error = best_match(_validator(name).iter_errors(content))
    if error is not None:
        raise error


def read_checked(path: Path, schema_name: str) -> dict[str, Any]:
    """Read a JSON file of the goldens, checked against its schema.

    Args:
        path: the file.
        schema_name: that of a file in `golden/schema`, without its ending.

    Raises:
        BadInput: missing, not JSON, or not what the schema says.
    """
    try:
        content = json.loads(read_regular(path, path.name))
        check_schema(content, schema_name)
    except BadInput:
        raise
    except (ValueError, RecursionError, jsonschema.ValidationError) as error:
        raise wanted(
            path.name, path.parent, f"what {schema_name}.schema.json says", str(error).split("\n")[0]
        ) from None
    return content


def schema_of(name: str) -> str | None:
    """Tell which schema a golden file must match, by its path inside the goldens; None for those without one."""
    by_name = {"case.json": "case", "dump.json": "dump", "greedy.json": "greedy", "images.json": "token_images"}
    by_folder = {name: name for name in ("vectors", "official", "gemma_jax", "masks", "images")}
    path = Path(name)
    return by_name.get(path.name) or (by_folder.get(path.parts[0]) if path.suffix == ".json" else None)


def manifest_of(root: Path) -> dict[str, Any]:
    """List every golden file with its size and sha256, and every case id.

    Args:
        root: the folder of the goldens.
    """
    skipped = ("make", "__pycache__")
    files = {}
    for path in sorted(root.rglob("*")):
        inside = path.relative_to(root)
        if path.is_file() and inside.name != "MANIFEST.json" and not set(skipped) & set(inside.parts):
            data = path.read_bytes()
            files[inside.as_posix()] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    cases = [name.removesuffix("/case.json") for name in files if name.endswith("/case.json")]
    return {"format_version": 1, "cases": cases, "files": files}


def check_golden(root: Path) -> list[str]:
    """Compare the goldens with their manifest and their schemas; no arithmetic is done.

    Args:
        root: the folder of the goldens.

    Returns:
        One line for each thing wrong; empty when all is well.
    """
    listed = read_checked(root / "MANIFEST.json", "manifest")
    found, problems = manifest_of(root), []
    for name in sorted(listed["files"].keys() | found["files"].keys()):
        was, now = listed["files"].get(name), found["files"].get(name)
        if was != now:
            kind = "missing" if now is None else "not in the manifest" if was is None else "changed"
            problems.append(f"{name}: {kind}: wanted {was and was['sha256'][:12]}, got {now and now['sha256'][:12]}")
    if listed["cases"] != found["cases"]:
        problems.append(f"MANIFEST.json: cases: wanted {found['cases']}, got {listed['cases']}")
    for name in found["files"]:
        if kind := schema_of(name):
            try:
                read_checked(root / name, kind)
            except BadInput as error:
                problems.append(str(error))
    return problems


class Pass(NamedTuple):
    """One pass of a case: what goes in, and what the witness's float64 run says comes out."""

    number: int
    ids: np.ndarray  # [B, T]
    left_pads: np.ndarray  # [B]
    cached: int
    packed: list[int] | None
    images: int  # how many; `ref.golden_files.sampled.made_pixels` makes them
    rows: dict[str, dict[str, Any]]  # tap -> its row of case.json
    truth: dict[str, np.ndarray]  # tap -> float64 values or samples, int64 of exact taps


class Case(NamedTuple):
    """One golden case."""

    id: str
    purpose: str
    weights: dict[str, Any]
    full: bool
    passes: list[Pass]


def read_case(folder: Path) -> Case:
    """Read a case folder, refusing one that does not match its schema.

    Args:
        folder: with `case.json` and the passes' safetensors.

    Raises:
        BadInput: not a case of version 1.
    """
    from safetensors.numpy import load

    whole = read_checked(folder / "case.json", "case")
    passes = []
    for number, row in enumerate(whole["passes"]):
        rows = {tensor["tap"]: tensor for tensor in row["tensors"]}
        try:
            truth = load(read_regular(folder / row["file"])) if row["file"] else {}
        except BadInput:
            raise
        except Exception as error:  # safetensors has its own exception types for each broken file
            raise wanted("file", folder / row["file"], "a safetensors file", error) from None
        if missing := rows.keys() - truth.keys():
            raise wanted("tensors", folder / row["file"], "each that case.json lists", f"no {min(missing)}")
        pads = np.array(row["left_pads"], np.int64)
        images = row.get("images") or 0
        passes.append(Pass(number, np.array(row["ids"]), pads, row["cached"], row["packed"], images, rows, truth))
    return Case(whole["id"], whole["purpose"], whole["weights"], whole["full"], passes)


def find_cases(root: Path, weights: str) -> list[Path]:
    """List the case folders made from these weights: made-up ones' in `cases/NAME`, real ones' in `real/NAME`."""
    name = weights.replace(":", "-")
    place = root / "cases" / name if (root / "cases" / name).is_dir() else root / "real" / name
    try:
        return sorted(path.parent for path in place.rglob("case.json"))
    except OSError as error:
        raise wanted("golden files", root, "a folder that can be read", error.strerror) from None
