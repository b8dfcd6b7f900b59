"""What the writers of dumps are given to write, and how the ones in other languages are run."""

import json
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import NamedTuple

import ml_dtypes  # noqa: F401 - teaches NumPy the name bfloat16
import numpy as np
import pytest
from support.judged import cached_passes

from ref.dump.open import open_dump
from ref.golden_files.files import check_schema
from ref.model.taps import tap_group
from ref.mutants import tap_mutants
from ref.record import Recorder

ROOT = Path(__file__).resolve().parents[2]
C_WRITER = ROOT / "examples/c_writer/gemma3_record.h"
JS_WRITER = ROOT / "examples/node_writer/gemma3_record.mjs"
STRICT = ["-std=c99", "-O1", "-Wall", "-Wextra", "-Werror", "-pedantic"]
needs_cc = pytest.mark.skipif(shutil.which("cc") is None, reason="needs cc, which is not installed")
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="needs node, which is not installed")
LAYOUTS = {"attn.q": "T (N H)", "attn.k": "K T H", "attn.mix": "B T (N H)", "cache.v": "K S H", "out": "T D"}


class Value(NamedTuple):
    """A value as a port has it."""

    name: str
    array: np.ndarray
    layout: str


def as_port_has_it(tap: str, value: np.ndarray, dtype: str) -> Value:
    """Bring a value into a port's layout and format: heads merged, or before tokens, or without the batch."""
    kept = value.astype(dtype) if value.dtype.kind == "f" else value
    layout = LAYOUTS.get(tap_group(tap).rpartition("*.")[2], "")
    if layout == "T D":
        return Value(tap, kept[0], layout)
    if layout.startswith("K"):
        return Value(tap, kept[0].swapaxes(0, 1), layout)
    if "(N H)" in layout:
        merged = kept.reshape(*kept.shape[:2], -1)
        return Value(tap, merged if layout.startswith("B") else merged[0], layout)
    return Value(tap, kept, layout)


@cache
def port(mistake: str | None = None, dtype: str = "float32"):
    """Run a prompt and two cached steps of `tiny`, right or with a mistake; [(ids, values)] of each pass."""
    rules = tap_mutants()[mistake].rules if mistake else None
    run = cached_passes([9, 1, 2], dtype, rules=rules)
    passes = zip(run.tokens, run.taps, strict=True)
    return [(ids.tolist(), [as_port_has_it(tap, x, dtype) for tap, x in taps.items()]) for ids, taps in passes]


def in_python(folder: Path, passes) -> None:
    """Record passes with `ref.record`."""
    [(ids, values), *steps] = passes
    with Recorder(folder, ids, weights="tiny") as rec:
        for name, array, layout in values:
            rec(name, array, layout)
        for ids, values in steps:
            rec.next_pass(ids)
            for name, array, layout in values:
                rec(name, array, layout)


def listed(folder: Path, passes) -> list[str]:
    """Write passes as the programs in C and JavaScript read them; the paths of their list and of its bytes."""
    rows, blob = [], []
    for number, (ids, values) in enumerate(passes):
        rows.append(f"{'step' if number else 'prompt'} {len(ids)} {' '.join(map(str, ids))}")
        for name, array, layout in values:
            shape = " ".join(map(str, array.shape))
            rows.append(f"value {name} {array.dtype.name} {array.ndim} {shape} |{layout}")
            blob.append(array.tobytes())
    (folder / "list.txt").write_text("\n".join(rows) + "\n")
    (folder / "values.bin").write_bytes(b"".join(blob))
    return [str(folder / "list.txt"), str(folder / "values.bin")]


def compiled(source: Path, folder: Path, *flags: str) -> Path:
    """Compile a program that includes the writer; any warning fails."""
    program = folder / "program"
    command = ["cc", *(flags or STRICT), f"-I{C_WRITER.parent}", str(source), "-o", str(program)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return program


def in_c(folder: Path, passes) -> None:
    """Record passes with the writer in C."""
    program = compiled(ROOT / "tests/support/record_all.c", folder.parent)
    subprocess.run([str(program), *listed(folder.parent, passes), str(folder)], check=True)


def in_javascript(folder: Path, passes) -> None:
    """Record passes with the writer in JavaScript."""
    program = [shutil.which("node") or "node", str(ROOT / "tests/support/record_all.mjs"), str(JS_WRITER)]
    subprocess.run([*program, *listed(folder.parent, passes), str(folder)], check=True)


def check_five_passes(folder: Path) -> None:
    """Check the dump that the tests of C and JavaScript write: left pads and a step, positions and a step, images."""
    content = json.loads((folder / "dump.json").read_text())
    check_schema(content, "dump")
    rows = content["passes"]
    assert [row["ids"] for row in rows] == [[2, 33, 5, 80], [2], [2, 33], [2], [2, 33, 5, 80]]
    assert [row["positions"] for row in rows] == [[-1, -1, 0, 1], [2], [0, 3], [2], [0, 1, 2, 3]]
    assert [row["cached"] for row in rows] == [0, 4, 0, 2, 0]
    assert [row["left_pads"] for row in rows] == [2, 2, 0, 0, 0]
    assert [row["image_blocks"] for row in rows] == [[], [], [], [], [[1, 3], [3, 4]]]
    assert content["producer"] == {"name": 'a "port"', "version": "not said"}
    assert (content["policy"]["compute_dtype"], content["policy"]["kv_dtype"]) == ("bfloat16", "float32")
    pixels = open_dump(folder).passes[-1].pixels
    assert (pixels.shape, pixels[0, 0, 0, 0]) == ((2, 3, 8, 8), np.float32(0.5))


def check_served(folder: Path) -> None:
    """Check the other: two rows that take turns, a right pad, slots, a stream kept as two, a rejected token, LoRA."""
    content = json.loads((folder / "dump.json").read_text())
    check_schema(content, "dump")
    rows = content["passes"]
    assert content["format_version"] == 2
    assert content["model"]["adapter"] == {"name": "lora", "merged": True}
    assert [row["ids"] for row in rows] == [[2, 33, 5, 80], [2, 33], [5], [2]]
    assert [row["positions"] for row in rows] == [[0, 1, 2, -1], [0, 1], [3], [2]]
    assert [row["cached"] for row in rows] == [0, 0, 4, 2]
    assert [row.get("row") for row in rows] == [0, 1, 0, None]
    assert [row.get("kept") for row in rows] == [None, None, None, [[0, 2, 0]]]
    assert [(row.get("slots"), row.get("cache_slots")) for row in rows] == [
        (None, None),
        ([3, 1], 5),
        *[(None, None)] * 2,
    ]
    opened = open_dump(folder)
    assert [(one.number, one.cached) for one in opened.passes] == [(0, 0), (2, 3), (3, 2), (1, 0)]
    value = opened.passes[0].tensors["text.layer.0.in"].load()
    assert (value.shape, value[0, 0, 0]) == ((1, 3, 36), 1.5)


WRITERS = [
    pytest.param(in_python, id="python"),
    pytest.param(in_c, id="c", marks=needs_cc),
    pytest.param(in_javascript, id="javascript", marks=needs_node),
]
