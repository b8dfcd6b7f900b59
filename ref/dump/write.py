"""Dumps: a folder of `dump.json` and safetensors files that any implementation can write.

The format is a contract; `golden/schema/dump.schema.json` is its closed schema.
"""

import errno
import itertools
import json
import os
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import ml_dtypes  # noqa: F401 - teaches NumPy the name bfloat16
import numpy as np
from safetensors.numpy import load_file

import ref
from ref.dump.sketching import Sketch, asked_for
from ref.dump.write_pass import PassWriter
from ref.dump.write_pass import axes_of as axes_of
from ref.errors import BadInput, one_line, wanted
from ref.golden_files.files import check_schema
from ref.untrusted import open_regular, parse_json, read_regular

VERSIONS = (1, 2)
ONLY_IN_2 = frozenset({"row", "kept", "slots", "cache_slots", "sketch"})  # of a pass
OF_RANKS = ("name", "rank", "slice", "partial")  # of a tensor of several ranks
WHOLE_RANKS = "a dump of several ranks with whole tensors"
COMMON = frozenset({"file", "layout", "shape", "dtype"})
FORMAT = "dump format version 1 or 2"


def reference_producer() -> dict[str, str]:
    """Name this implementation as the producer of a dump."""
    return {"name": "gemma3-ref", "version": ref.__version__}


class DumpWriter:
    """Write a dump pass by pass into a temporary folder that takes its name when it is complete.

    In a `with` statement it is closed at the end, and abandoned after an error.

    Args:
        folder: where the dump will be; must not exist or be empty.
        model: {"config": ..., "weights": {"name", "dtype", "sha256"}}; perhaps "adapter" {"name", "merged"}, which
            makes it a dump of version 2.
        policy: {"compute_dtype", "matmul_activations", "kv_dtype", "rope_angle", "attention_impl"}, and what else the
            schema has of it.
        producer: {"name", "version"}.
        names: which alias table the tensor names come from: `ref` for our own.
        parallel: which rank this is, {"tensor": {"rank", "of"}, "pipeline": ...}: a dump of version 2.
        sketch: makes it a small dump, of version 2; None: as `ref.dump.sketching` says where it is called.

    Raises:
        BadInput: the folder holds something already, or cannot be made; a small dump of one of several ranks.
    """

    def __init__(
        self,
        folder: Path,
        model: dict,
        policy: dict,
        producer: dict | None = None,
        names: str = "ref",
        parallel: dict | None = None,
        sketch: Sketch | None = None,
    ):
        self.folder, self._sketch = folder.resolve(), sketch or asked_for()
        if self._sketch is not None and parallel:
            raise wanted("sketch", folder, WHOLE_RANKS, "parallel and a sketch")
        try:
            in_use = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
            self.new = self.folder if in_use else _new_beside(self.folder)
        except OSError as error:
            raise wanted("output folder", folder, "one that can be made", error.strerror) from None
        if in_use:
            raise wanted("output folder", folder, "an empty or new one", "something in the way")
        head = {"format_version": 1, "producer": producer or reference_producer()}
        self._open: list[PassWriter] = []
        self._pass: PassWriter | None = None  # the one that `add_tensor` writes
        self.content: dict[str, Any] = head | {"model": model, "policy": policy, "names": names, "passes": []}
        self.content |= {"parallel": parallel} if parallel else {}
        if self._sketch is not None:
            self.content["sketch"] = self._sketch._asdict()

    def add_pass(self, tensors: dict[str, np.ndarray], row: dict[str, Any], pixels: np.ndarray | None = None) -> None:
        """Add one pass of one batch row.

        Args:
            tensors: tap name -> value with its batch axis of length 1, or counting images in the vision tower.
            row: {"ids", "positions", "cached", "image_blocks", "left_pads"}; perhaps "row", "kept", "slots" and
                "cache_slots", which make it a dump of version 2, as padding does that stands elsewhere than left.
            pixels: [images, C, Y, X] that went in, kept in a file of their own; None without images.
        """
        for name, value in tensors.items():
            self.add_tensor(name, value)
        self.end_pass(row, pixels)

    def add_tensor(
        self, name: str, value: np.ndarray, layout: str | None = None, plus: np.ndarray | None = None
    ) -> None:
        """Write a tensor of the pass that is being written; arguments as `PassWriter.add_tensor`."""
        self._pass = self._pass or self.begin_pass()
        self._pass.add_tensor(name, value, layout, plus)

    def end_pass(self, row: dict[str, Any], pixels: np.ndarray | None = None) -> None:
        """End the pass; arguments as `add_pass`."""
        self.list_pass((self._pass or self.begin_pass()).end(row, pixels))
        self._pass = None

    def begin_pass(self) -> PassWriter:
        """Begin a pass beside those that are open, as of another row of a batch; `list_pass` says where it stands."""
        self._open.append(PassWriter(self.new, len(self._open), self._sketch))
        return self._open[-1]

    def list_pass(self, ended: dict[str, Any]) -> None:
        """List a pass that has ended, behind those that are listed."""
        self.content["passes"].append(ended)

    def __enter__(self) -> "DumpWriter":
        return self

    def __exit__(self, kind, error, _trace) -> None:
        """Complete the dump; after an error leave nothing behind, and name a full disk as one."""
        if error is None:
            self.close()
            return
        self.abandon()
        if isinstance(error, OSError):
            raise wanted("output folder", self.folder, "room to write", error.strerror) from None

    def close(self) -> Path:
        """Check the whole against the schema, write `dump.json` and give the folder its name.

        Raises:
            BadInput: what the schema refuses; something has come into the folder meanwhile, such as another run's
                dump. Nothing is left of this.
        """
        try:
            said = "adapter" in self.content["model"] or "ranks" in self.content["policy"]
            said = said or bool({"parallel", "sketch"} & self.content.keys())
            if said or any(map(_needs_version_2, self.content["passes"])):
                self.content["format_version"] = 2
            passes = [one | {"tensors": _unlike(one["tensors"])} for one in self.content["passes"]]
            check_schema(self.content | {"passes": passes}, "dump")
            (self.new / "dump.json").write_text(json.dumps(self.content, indent=1) + "\n")
            if self.folder.exists():
                self.folder.rmdir()
            return self.new.rename(self.folder)
        except jsonschema.ValidationError as error:
            raise wanted("dump", self.folder, FORMAT, _misfit(error)) from None
        except OSError as error:
            taken = error.errno in (errno.ENOTEMPTY, errno.EEXIST)
            got = "files in it by now: another run was quicker" if taken else error.strerror
            raise wanted("output folder", self.folder, "an empty or new one with room to write", got) from None
        finally:
            self.abandon()  # what is complete has another name by now

    def abandon(self) -> None:
        """Remove what was written so far."""
        for one in self._open:
            one.abandon()
        shutil.rmtree(self.new, ignore_errors=True)


def _needs_version_2(row: dict[str, Any]) -> bool:
    """Tell whether a pass says what version 1 cannot."""
    padding = [at for at, position in enumerate(row["positions"]) if position < 0]
    left = list(range(0 if row["cached"] else row["left_pads"]))
    more = any(one.keys() - COMMON for one in row["tensors"].values())
    return bool(ONLY_IN_2 & row.keys()) or padding != left or more


def _unlike(tensors: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return an entry of each kind: they were made here, and a schema takes longer for hundreds than a forward."""
    kinds = {
        (one["file"], one["layout"], one["dtype"], *sorted(one.keys() - COMMON)): name for name, one in tensors.items()
    }
    return {name: tensors[name] for name in kinds.values()}


def _new_beside(folder: Path) -> Path:
    """Make a folder beside another, under a name of its own: what a killed process left may be there already."""
    for number in itertools.count():
        new = folder.with_name(f"{folder.name}.{os.getpid()}{'-' * bool(number)}{number or ''}.part")
        try:
            new.mkdir(parents=True)
            return new
        except FileExistsError:
            if not new.exists():  # a parent is a file
                raise
    raise AssertionError("counted to the end")


def read_dump(folder: Path) -> dict[str, Any]:
    """Read `dump.json`, checked against its schema; tensors are loaded by `load_pass`.

    Args:
        folder: the dump.

    Raises:
        BadInput: no dump there, or one that does not match the schema.
    """
    path = folder / "dump.json"
    data = read_regular(path, "dump", want="a readable dump.json")
    try:
        content = parse_json(data, path, "dump.json")
        check_schema(content, "dump")
    except jsonschema.ValidationError as error:
        raise wanted("dump", path, FORMAT, _misfit(error)) from None
    except (BadInput, RecursionError) as error:  # no JSON; nested too deep for the schema
        got = str(error).removeprefix(f"{one_line(path)}: ")  # the path once: a refusal is cut where it is long
        raise wanted("dump", path, FORMAT, got) from None
    return content


def _misfit(error: jsonschema.ValidationError) -> str:
    """Say where a dump is not as its schema says, and how; of version 1 what it has not."""
    message = error.message
    if error.validator == "not" and isinstance(error.instance, dict):
        more = sorted((ONLY_IN_2 | {"plus", "adapter", "ranks", "parallel", *OF_RANKS}) & error.instance.keys())
        message = f"{', '.join(more)}, which format_version 2 has and 1 has not"
    return f"{error.json_path}: {message}"


def says_sizes(folder: Path) -> bool:
    """Tell whether a dump says the model's sizes, without checking anything else: that of many passes takes a second.

    Args:
        folder: the dump; what cannot be read is refused by `read_dump`.
    """
    path = folder / "dump.json"
    try:
        content = parse_json(read_regular(path, "dump"), path, "dump.json")
        return content["model"]["config"] != {}
    except (BadInput, RecursionError, TypeError, KeyError):
        return True


def load_pass(folder: Path, one: dict[str, Any]) -> dict[str, np.ndarray]:
    """Load one pass's tensors, checked against what `dump.json` says of their shape and dtype.

    Args:
        folder: the dump.
        one: an item of `passes`.

    Raises:
        BadInput: a file or tensor missing, of another shape, or outside the folder; a tensor that is a sketch.
    """
    files: dict[str, dict[str, np.ndarray]] = {}
    out = {}
    for name, row in one["tensors"].items():
        if "sketch" in row:
            raise wanted(f"tensor {name}", folder, "a whole one", "a sketch of it")
        if row["file"] not in files:
            try:
                with open_regular(folder / row["file"], f"file of {name}", want="a safetensors file"):
                    files[row["file"]] = load_file(folder / row["file"])  # `load` of bytes knows no bfloat16
            except BadInput:
                raise
            except Exception as error:  # safetensors has its own exception types for each broken file
                raise wanted(f"file of {name}", folder / row["file"], "a safetensors file", error) from None
        value = files[row["file"]].get(name)
        got = "missing" if value is None else f"{value.dtype} {list(value.shape)}"
        if got != f"{row['dtype']} {row['shape']}":
            raise wanted(f"tensor {name}", folder / row["file"], f"{row['dtype']} {row['shape']}", got)
        out[name] = value
    return out
