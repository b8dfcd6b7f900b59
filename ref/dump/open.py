"""Open a dump of any kind, aligned to our taps; its tensors are read when they are asked for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ref.dump.align import Stored as Stored
from ref.dump.claims import check_prompt, check_same_ids, rows_of_ids
from ref.dump.opened import Dump as Dump
from ref.dump.opened import DumpPass as DumpPass
from ref.dump.read_arrays import from_memory, read_safetensors
from ref.dump.read_bare import bare_dump, fields_of
from ref.dump.read_debugger import read_debugger
from ref.dump.read_folder import read_folder
from ref.dump.read_llama_logits import is_llama_logits, of_llama_cpp, read_llama_logits
from ref.dump.read_llama_text import read_llama_ids, read_llama_text
from ref.dump.read_npz import read_npz
from ref.errors import wanted

KINDS = "a folder with dump.json, .npz, .safetensors, llama.cpp's .txt or .bin, or transformers' .json"
TEXT = (".txt", ".log", ".out")
PICKLES = (".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".joblib", ".npy")


def open_dump(path: str | Path, ids: Any = None, names: str | None = None, config: Any = None) -> Dump:
    """Open a dump of any kind.

    Args:
        path: a folder; a .npz or .safetensors file; text of llama.cpp's `llama-eval-callback` or
            `llama-debug`, or what its `--save-logits` writes; JSON of transformers' `model_addition_debugger_context`.
        ids: token ids of a file that does not hold them, [T], or [B, T] of a batch. Those of one that does must be
            the same.
        names: whose names a bare file has, a key of `ref.dump.aliases.TABLES`; None: our taps'.
        config: the model's, a `TextConfig` or a dictionary of it (a tower's under "vision"): a bare file does not say
            into how many heads its axes are to be split.

    Returns:
        The dump. What could not be aligned is listed in it, with why.

    Raises:
        BadInput: no dump; a pickle; a broken file; what contradicts itself or the ids; a shape that does not fit, with
            the layout that would.

    Source: README, "Taps and dumps".
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if path.is_dir():
        return _checked(read_folder(path, fields_of(config)), ids)
    if is_llama_logits(path):
        _table(path, names, "llama.cpp")
        return _checked(read_llama_logits(path, fields_of(config)), ids)
    if suffix in PICKLES:
        got = "one array without a name" if suffix == ".npy" else "a pickle, which runs code when it is loaded"
        raise wanted("dump", path, KINDS, f"{suffix}, {got}")
    if suffix == ".npz":
        return bare_dump(read_npz(path), ids, names, path, config)
    if suffix == ".safetensors":
        return bare_dump(read_safetensors(path), ids, names, path, config)
    if suffix == ".json":
        return _debugger(path, ids, names, config)
    if suffix in TEXT:
        return _llama_text(path, ids, names, config)
    raise wanted("dump", path, KINDS, f"a file {suffix}" if path.exists() else "nothing there")


def arrays_as_dump(
    arrays: Mapping[str, Any], ids: Any = None, names: str | None = None, where: object = "arrays", config: Any = None
) -> Dump:
    """Take arrays in memory as a dump of one pass a batch row.

    Args:
        arrays: name -> array; names as of a bare file.
        ids: as `open_dump`.
        names: as `open_dump`.
        where: what to call them in refusals.
        config: as `open_dump`.

    Raises:
        BadInput: as `open_dump`.

    Source: README, "Taps and dumps".
    """
    return bare_dump(from_memory(arrays, where), ids, names, where, config)


def _checked(dump: Dump, ids: Any) -> Dump:
    """Return a dump that holds ids of its own, after comparing them with those given."""
    if ids is not None:
        check_prompt(dump, ids)
    return dump


def _table(path: Path, names: str | None, want: str) -> None:
    if names not in (None, want):
        raise wanted("names", path, f"{want}, whose file it is", names)


def _debugger(path: Path, ids: Any, names: str | None, config: Any) -> Dump:
    _table(path, names, "transformers")
    raw, left = read_debugger(path)
    dump = bare_dump(raw, ids, "transformers", path, config)
    return dump._replace(unaligned=[*dump.unaligned, *left])


def _llama_text(path: Path, ids: Any, names: str | None, config: Any) -> Dump:
    _table(path, names, "llama.cpp")
    partial = read_llama_text(path, fields_of(config).get("head_dim"))
    stored = read_llama_ids(path)
    if ids is None and not stored:
        raise wanted("token ids", path, "ids (--ids), or llama-eval-callback's stderr before the nodes", "neither")
    rows = rows_of_ids(stored if ids is None else ids, path)
    if len(rows) != 1:
        raise wanted("token ids", path, "one row", f"{len(rows)} rows")
    tokens = rows[0]
    if stored:
        check_same_ids(tokens.tolist(), stored, path)
    one = DumpPass(0, tokens, np.arange(len(tokens)), 0, [], 0, None, {})
    return of_llama_cpp(path, one, partial={0: partial})
