"""Write a dump of your own port of Gemma 3, in three lines and with NumPy alone.

    from record import Recorder

    rec = Recorder("dump", ids, weights="270m")  # token ids of the prompt; the weights that the port runs
    rec("text.layer.0.attn.q", q, "T (N H)")     # a value under its name, with its axes as they lie
    rec.close()                                  # the folder is there: gemma3-ref compare dump

This file needs Python, NumPy and nothing else. Copy it into your project, as it is or changed.
SPDX-License-Identifier: Apache-2.0
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

HEADER = 2**16 - 8  # bytes left at the start of each file for its header, which is written last
LONGEST = 255  # characters of a name
NOT_SAID = "not said"
AXES = "BTSDNKGHFVPMCYX12"  # letters of axes; 2 is the pair of attn.visible
LAYOUT = re.compile(r"(?:\w|\(\w(?: \w)+\))(?: (?:\w|\(\w(?: \w)+\)))*")
# fmt: off
KINDS = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "bool": "BOOL",
    "int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8",
    "uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8",
}
# fmt: on
NAMES = ("ref", "transformers", "gemma", "llama.cpp", "keras", "mlx", "transformer_lens")
ARITHMETIC = ("compute_dtype", "matmul_activations", "kv_dtype")  # by default the format of most values
POLICY = (*ARITHMETIC, "rope_angle", "attention_impl")
VERSION_2 = frozenset({"row", "kept", "slots", "cache_slots"})  # what a pass of version 1 does not say
SLICED = "TNKHDFVM"  # letters of axes that ranks may hold slices of
SKETCH_VALUES = 2560  # of a tap: with float32's, norms and digest 13 KB of 512 tokens
MORE_POLICY = ("matmul_operands", "conv_operands", "accumulate", "products", "ranks", "torch")


class Recorder:
    """Write values into a dump as they are given; the folder takes its name when it is complete.

    In a `with` statement it is closed at the end, and abandoned after an error.

    Args:
        folder: where the dump will be; must not exist or be empty.
        ids: [T] token ids of the first pass, one row of a batch. So are the next seven.
        positions: [T], -1 at padding; None counts from 0 behind left pads.
        left_pads: how many of the ids are.
        image_blocks: [start, stop] of each image's soft tokens among the keys.
        pixels: [images, C, Y, X] that went in; None without images.
        row: number of the row of the batch, where several take turns.
        slots: [T] where in the cache the key of each token was written, if not one behind the other.
        cache_slots: how many slots the cache has: the length of the axis of keys.
        weights: what `--weights` takes, or {"name", "dtype", "sha256"}: the dtype in which the port held them, and the
            SHA-256 of its tensors' bytes by name, or None.
        adapter: name of a LoRA adapter on them, or {"name", "merged"}: whether it was added to them first.
        policy: of the arithmetic, what is known of "compute_dtype", "matmul_activations", "kv_dtype", "rope_angle",
            "attention_impl", and what else the format has. The rest is the format of most values.
        producer: the port's name, or {"name", "version"}.
        names: whose names the values have, if not gemma3-ref's: transformers, gemma, llama.cpp, keras, mlx,
            transformer_lens.
        config: sizes of the model as gemma3-ref calls them; None takes those of the weights.
        tensor: (rank, of) of tensor parallelism, each rank writing a folder of its own beside the others', such as
            dump/rank0 and dump/rank1; a number alone says how many are in this one dump.
        pipeline: (rank, of) of pipeline parallelism, likewise.
        sketch: True, or a Sketch: keep of each larger value its norms, a digest and values at hashed places; not
            beside tensor or pipeline.

    Raises:
        ValueError: in one line, a folder in use, or what the format cannot hold.
    """

    def __init__(
        self,
        folder: str | Path,
        ids: Any,
        *,
        positions: Any = None,
        left_pads: int = 0,
        image_blocks: Any = (),
        pixels: Any = None,
        row: int | None = None,
        slots: Any = None,
        cache_slots: int | None = None,
        weights: str | os.PathLike[str] | dict[str, Any] = NOT_SAID,
        adapter: str | dict[str, Any] | None = None,
        policy: dict[str, Any] | None = None,
        producer: str | dict[str, str] = NOT_SAID,
        names: str = "ref",
        config: dict[str, Any] | None = None,
        tensor: Any = None,
        pipeline: Any = None,
        sketch: bool | Sketch = False,
    ):
        self.folder = Path(folder).absolute()
        self._sketch = Sketch() if sketch is True else sketch or None
        self._policy = _fields("policy", policy or {}, (), (*POLICY, *MORE_POLICY))
        weights = {"name": str(weights)} if isinstance(weights, str | os.PathLike) else weights
        weights = {"dtype": NOT_SAID, "sha256": None} | _fields("weights", weights, ("name",), ("dtype", "sha256"))
        producer = {"name": producer} if isinstance(producer, str) else producer
        if names not in NAMES:
            raise _wrong("names", " ".join(NAMES), names)
        if not isinstance(config or {}, dict):
            raise _wrong("config", "a dictionary", config)
        self._head: dict[str, Any] = {"format_version": 2 if "ranks" in self._policy else 1, "names": names}
        self._head["producer"] = {"version": NOT_SAID} | _fields("producer", producer, ("name",), ("version",))
        self._head["model"] = {"config": config or {}, "weights": weights}
        if adapter is not None:
            self._head["model"]["adapter"], self._head["format_version"] = _adapter(adapter), 2
        self._ranks, self._rank = 0, None  # of tensor parallelism, and this one; None: each value says its own
        if tensor is not None or pipeline is not None:
            both = {"tensor": tensor, "pipeline": pipeline}
            parallel = {what: _rank_of(what, given) for what, given in both.items() if given is not None}
            self._head["parallel"], self._head["format_version"] = parallel, 2
            self._ranks = parallel.get("tensor", {}).get("of", 0)
            self._rank = parallel.get("tensor", {}).get("rank")
        if self._sketch is not None:
            values, seed = (_integer(f"sketch {name}", one) for name, one in self._sketch._asdict().items())
            if "parallel" in self._head:
                raise _wrong("sketch", "none beside tensor or pipeline: ranks' values are kept whole", sketch)
            self._sketch = Sketch(max(1, values), seed)
            self._head["sketch"], self._head["format_version"] = self._sketch._asdict(), 2
        try:
            json.dumps([self._head, self._policy], allow_nan=False)
        except (TypeError, ValueError) as error:
            raise _wrong("weights, policy and config", "what JSON can hold", error) from None
        self._passes: list[dict[str, Any]] = []
        self._floats: Counter[str] = Counter()
        self._rows: dict[int, _Keys] = {}  # that each row of the batch has in the cache
        said, seen = _row(ids, _Keys(), positions, left_pads, image_blocks), _pixels(pixels)
        said |= _places(row, slots, cache_slots, len(said["ids"]))
        self._new: Path | None = _part_of(self.folder)
        with self._writing():
            self._begin(said, seen, said.get("row", 0), _Keys())

    def __call__(
        self,
        name: str,
        value: Any,
        layout: str = "",
        dtype: str | None = None,
        plus: Any = None,
        *,
        slice: dict[str, Any] | None = None,
        partial: bool = False,
        rank: int | None = None,
    ) -> Any:
        """Write a value now: what happens to the array later does not matter.

        Args:
            name: of the tap, or the port's own where `names` says whose.
            value: what NumPy makes an array of, in CPU memory: floats, integers, booleans. Bfloat16 as ml_dtypes,
                torch or MLX have it, or as its bits.
            layout: its axes in the order in which they lie, merged ones in brackets, such as `T (N H)` or `B N T H`;
                a batch of one may be left out. Empty: the tap's own order.
            dtype: of an array of uint16 what it holds: `bfloat16` or `uint16`.
            plus: what is to be added to it: a residual stream that is kept as two.
            slice: the part of the whole value that this rank has, such as {"N": (2, 4)}: axis -> (start, stop). A value
                that is neither a slice nor partial is a replica: every rank has it.
            partial: whether it is this rank's part of a sum that is not added yet. The sum is another value.
            rank: whose it is, where all ranks are in one dump.

        Returns:
            The value as it was given, so that a call may stand around an expression.

        Raises:
            ValueError: in one line, an array of another kind or of a device, axes that its shape cannot have, a name
                that this pass has.
        """
        new, said = self._open()
        good = isinstance(name, str) and name.isprintable() and name != "__metadata__"
        if not good or not 0 < len(name) <= LONGEST:
            raise _wrong("name of a tap", f"1 to {LONGEST} printable characters", repr(name))
        array, kind = _array(name, value, dtype)
        held = _held(name, layout, slice, partial, rank, self._ranks, self._rank)
        _check_layout(name, layout, array.shape, len(said["ids"]), held.get("slice", {}))
        key = name + ".partial" * partial + (f"@{rank}" if rank is not None else "")
        if key != name:
            held["name"] = name
        more = None if plus is None else _addend(name, plus, dtype, array, kind)
        pairs, entry = self._parts(key, array, kind, layout, more)
        names = {one for one, _, _ in pairs}
        if self._names & names:
            raise _wrong(f"value {key}", "one in a pass", "a second one")
        with self._writing():
            if not self._file.add(*pairs):
                part = len({one["file"] for one in said["tensors"].values()})
                self._file.close()
                self._file = TensorFile(new / f"pass{len(self._passes) - 1:04}-{part:02}.safetensors")
                self._file.add(*pairs)
        said["tensors"][key] = {"file": self._file.path.name} | entry | held
        self._names |= names
        if "float" in kind:
            self._floats[kind] += 1
        return value

    def next_pass(
        self,
        ids: Any,
        *,
        cached: int | None = None,
        kept: Any = None,
        positions: Any = None,
        left_pads: int | None = None,
        image_blocks: Any = (),
        pixels: Any = None,
        row: int | None = None,
        slots: Any = None,
        cache_slots: int | None = None,
    ) -> None:
        """Begin another pass: a decode step or chunk, or with `cached=0` another prompt or row of a batch.

        Args:
            ids: [T] token ids of this pass alone.
            cached: how many keys there were before, padding among them; None: all that the row has.
            kept: [start, stop, position] of the keys of the pass before that are still there, where some were dropped
                or moved: [[0, 17, 0]] of rejected tokens, [[0, 4, 0], [12, 20, 4]] of a context shift. None: all.
            positions: as of Recorder; None counts on.
            left_pads: None: where keys are cached, those of the pass before.
            image_blocks, pixels, slots, cache_slots: as of Recorder.
            row: that this pass goes on with, or begins; None: that of the pass before, or with `cached=0` a new one.

        Raises:
            ValueError: in one line, as of Recorder; keys that no pass has left.
        """
        self._open()
        row = None if row is None else _integer("row", row)
        number = max(self._rows) + 1 if row is None and cached == 0 else self._row if row is None else row
        before = self._rows.get(number, _Keys())
        if kept is None and cached not in (None, len(before.real)):
            whose = "the pass before leaves" if row is None else f"row {row} has"
            raise _wrong("cached", f"0, or the {len(before.real)} keys that {whose}", cached)
        left = None
        if kept is not None:
            if cached is not None:
                raise _wrong("cached", "nothing beside kept, which says it", cached)
            left, before = _left(kept, before)
        pads = before.left_pads if left_pads is None else left_pads
        said, seen = _row(ids, before, positions, pads, image_blocks), _pixels(pixels)
        said |= _places(row, slots, cache_slots, len(said["ids"])) | ({"kept": left} if left is not None else {})
        with self._writing():
            self._file.close()
            self._begin(said, seen, number, before)

    def close(self) -> Path:
        """Complete the dump and give the folder its name, which it returns.

        Raises:
            ValueError: in one line, no value at all, or something has come into the folder meanwhile: the rest is left.
        """
        new, _ = self._open()
        if not any(row["tensors"] for row in self._passes):
            raise _wrong(self.folder, "values to write", "none")
        most = self._floats.most_common(1)[0][0] if self._floats else "float32"
        said = dict.fromkeys(ARITHMETIC, most) | dict.fromkeys(POLICY[len(ARITHMETIC) :], NOT_SAID)
        content = self._head | {"policy": said | self._policy, "passes": self._passes}
        with self._writing():
            self._file.close()
            text = json.dumps(content, indent=1, allow_nan=False)
            (new / "dump.json").write_text(text + "\n", encoding="utf-8")
            if self.folder.exists():
                self.folder.rmdir()
            new.rename(self.folder)
        self._new = None
        return self.folder

    def abandon(self) -> None:
        """Remove what was written so far; the dump never comes to be."""
        if self._new is not None:
            with suppress(OSError, AttributeError):  # a full disk, told already; no file yet
                self._file.file.close()
            shutil.rmtree(self._new, ignore_errors=True)
            self._new = None

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        """Close, or after an error leave nothing behind."""
        try:
            if error is None:
                self.close()
        finally:
            self.abandon()  # what is complete has another name by now

    def _parts(
        self, name: str, array: np.ndarray, kind: str, layout: str, more: np.ndarray | None
    ) -> tuple[list[tuple[str, np.ndarray, str]], dict[str, Any]]:
        """Return what is written of a value, and what dump.json says of it."""
        entry: dict[str, Any] = {"layout": layout, "shape": list(array.shape), "dtype": kind}
        if self._sketch is not None:
            number = len(self._passes) - 1
            axis = token_axis(layout, array.shape, len(self._passes[-1]["ids"]))
            parts, said = sketch_of(self._sketch, name, number, array, kind, axis, more)
            if said:
                return parts, entry | {"sketch": said}
        pairs = [(name, array, kind)]
        if more is not None:
            entry["plus"], self._head["format_version"] = f"{name}.plus", 2
            pairs.append((f"{name}.plus", more, kind))
        return pairs, entry

    def _open(self) -> tuple[Path, dict[str, Any]]:
        if self._new is None:
            raise _wrong(self.folder, "a recorder that is open", "one that was closed")
        return self._new, self._passes[-1]

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.abandon()
            raise _wrong(self.folder, "an empty or new folder with room to write", error.strerror) from None

    def _begin(self, said: dict[str, Any], pixels: np.ndarray | None, row: int, before: _Keys) -> None:
        """Begin a pass that is checked; its pixels have a file of their own."""
        new, number = self._new, len(self._passes)
        assert new is not None
        if pixels is not None:
            file = TensorFile(new / f"pixels{number:04}.safetensors")
            file.add(("pixels", pixels, pixels.dtype.name))
            file.close()
            said["pixels"] = file.path.name
        left = list(range(0 if before.real else said["left_pads"]))
        real = [place >= 0 for place in said["positions"]]
        if VERSION_2 & said.keys() or left != [at for at, one in enumerate(real) if not one]:
            self._head["format_version"] = 2
        if self._sketch is not None:
            said["sketch"] = number
        self._row, self._rows[row] = row, _Keys([*before.real, *real], said["left_pads"])
        self._passes.append(said)
        self._names: set[str] = set()
        self._file = TensorFile(new / f"pass{number:04}.safetensors")


class Sketch(NamedTuple):
    """How small what is kept of a value is, and at which places it is looked at.

    A value with an axis of tokens is seen as a matrix [tokens, rest], its other axes in their order; one without has a
    single row. Of n values in all, K = tokens * ceil(values / tokens) are kept, the one of place i of

        start = floor(i n / K),  stop = floor((i + 1) n / K),  place = start + mix(state + (i + 1) G) mod (stop - start)

    with G = 0x9E3779B97F4A7C15, all modulo 2^64. `state` is the 64-bit FNV-1a hash of the UTF-8 text `name|pass|seed`,
    `mix` the finaliser of SplitMix64. So each token has the same number of places, one in each stretch of its channels.

    Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators" (OOPSLA 2014), as in Vigna's
    splitmix64.c; FNV-1a: http://www.isthe.com/chongo/tech/comp/fnv/
    """

    values: int = SKETCH_VALUES  # of each tap, at least; one that has no more is kept whole
    seed: int = 0


def sketch_places(sketch: Sketch, name: str, number: int, tokens: int, rest: int) -> np.ndarray:
    """Return the places of a sketch in a matrix [tokens, rest], counted along its rows.

    Args:
        sketch: how many, and the seed.
        name: of the value in dump.json.
        number: of the pass there, its `sketch`.
        tokens: rows.
        rest: columns.

    Returns:
        [K] int64, ascending.
    """
    count = tokens * -(-sketch.values // tokens)
    edges = np.arange(count + 1, dtype=np.uint64) * np.uint64(tokens * rest) // np.uint64(count)
    hashes = splitmix64(fnv1a(f"{name}|{number}|{sketch.seed}"), count)
    return (edges[:-1] + hashes % (edges[1:] - edges[:-1])).astype(np.int64)


def fnv1a(text: str) -> int:
    """Return the 64-bit FNV-1a hash of a text's UTF-8 bytes."""
    state = 0xCBF29CE484222325
    for byte in text.encode():
        state = (state ^ byte) * 0x100000001B3 % 2**64
    return state


def splitmix64(state: int, count: int) -> np.ndarray:
    """Return the first numbers, [count] uint64, of SplitMix64 that begins in a state."""
    z = np.uint64(state) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def sketch_of(
    sketch: Sketch,
    name: str,
    number: int,
    array: np.ndarray,
    kind: str,
    axis: int | None,
    plus: np.ndarray | None = None,
) -> tuple[list[tuple[str, np.ndarray, str]], dict[str, Any]]:
    """Return what a sketch keeps of a value: tensors, and what dump.json says of it.

    Args:
        sketch: how.
        name: of the value.
        number: of the pass.
        array: the value; bfloat16 as its bits.
        kind: what it holds.
        axis: of its tokens; None: it has none, and one norm.
        plus: what is to be added to it.

    Returns:
        ([(name, array, kind)], {"axis", "sha256", "nonfinite", "first"}); ([], {}) of a value that is to be kept
        whole. The tensors are `name`, the values at the places (of a sum float64), and of floats `name.norms`,
        float32: the L2 norm of each token, added up in float64. `first` counts as places do.
    """
    tokens = 1 if axis is None else array.shape[axis]
    if not tokens or array.size <= tokens * -(-sketch.values // tokens):
        return [], {}
    rows = [np.moveaxis(one[None] if axis is None else one, axis or 0, 0) for one in (array, plus) if one is not None]
    places = sketch_places(sketch, name, number, tokens, array.size // tokens)
    at = np.unravel_index(places, rows[0].shape)
    parts = [(name, rows[0][at], kind)]
    if plus is not None:
        parts = [(name, _sum([one[at] for one in rows], kind), "float64")]
    digest = hashlib.sha256()
    for one in (array, plus):
        if one is not None:
            digest.update(np.ascontiguousarray(one).reshape(-1).view(np.uint8).data)
    said: dict[str, Any] = {"axis": axis, "sha256": digest.hexdigest(), "nonfinite": 0, "first": None}
    if "float" in kind:
        norms, said["nonfinite"], said["first"] = _norms(rows, kind)
        parts.append((f"{name}.norms", norms, "float32"))
    return parts, said


def token_axis(layout: str, shape: tuple[int, ...], tokens: int = 0) -> int | None:
    """Return which axis is that of tokens, or else of keys or patches; None where there is none.

    Args:
        layout: the axes; empty: the first that is as long as there are tokens.
        shape: of the value.
        tokens: of the pass; 0 is not known.
    """
    groups = [set(re.findall(r"\w", group)) for group in re.findall(r"\([^)]*\)|\w", layout.upper())]
    for letter in "TSPM" if len(groups) == len(shape) else "":
        for axis, group in enumerate(groups):
            if letter in group and group <= {letter, "B", "1"}:
                return axis
    return shape.index(tokens) if tokens > 1 and tokens in shape and not layout else None


def _sum(values: list[np.ndarray], kind: str) -> np.ndarray:
    """Return a value, or two that are added, as float64."""
    first, *more = [_wide(one, kind) for one in values]
    return first + more[0] if more else first


def _wide(values: np.ndarray, kind: str) -> np.ndarray:
    """Return values as float64, bfloat16's bits as what they stand for."""
    if kind == "bfloat16":
        return (values.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return values.astype(np.float64)


def _norms(rows: list[np.ndarray], kind: str) -> tuple[np.ndarray, int, int | None]:
    """Return the norm of each row, how many values are not finite, and the place of the first of them."""
    norms, count, first, rest = np.empty(len(rows[0])), 0, None, rows[0].size // len(rows[0])
    step = max(1, 2**20 // rest)
    with np.errstate(all="ignore"):
        for start in range(0, len(norms), step):
            part = _sum([one[start : start + step].reshape(-1, rest) for one in rows], kind)
            norms[start : start + step] = np.sqrt(np.einsum("tr,tr->t", part, part))
            if not np.isfinite(part).all():
                bad = np.flatnonzero(~np.isfinite(part))
                count, first = count + bad.size, start * rest + int(bad[0]) if first is None else first
        return norms.astype(np.float32), count, first


class TensorFile:
    """A safetensors file that grows: its header is written last, into room that was left for it."""

    def __init__(self, path: Path):
        self.path, self.file, self._end = path, path.open("wb"), 0
        self._header, self._room = [], HEADER - 2
        self.file.seek(8 + HEADER)

    def add(self, *tensors: tuple[str, np.ndarray, str]) -> bool:
        """Write tensors, each a name, an array and what it holds; False, and none, where the header has no room."""
        stop, entries = self._end, []
        for name, array, kind in tensors:
            start, stop = stop, stop + array.nbytes
            entry = {"dtype": KINDS[kind], "shape": array.shape, "data_offsets": [start, stop]}
            entries.append(f"{json.dumps(name)}: {json.dumps(entry)}")
        room = self._room - sum(len(text) + 2 for text in entries)
        if room < 0:
            return False
        for _, array, _ in tensors:
            self.file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        self._header += entries
        self._end, self._room = stop, room
        return True

    def close(self) -> None:
        """Write the header; spaces behind it are part of the format."""
        text = "{" + ", ".join(self._header) + "}"
        self.file.seek(0)
        self.file.write(HEADER.to_bytes(8, "little") + text.encode().ljust(HEADER))
        self.file.close()


class _Keys(NamedTuple):
    """What a row of a batch has in the cache."""

    real: list[bool] = []  # of each key: no padding  # noqa: RUF012 - nobody writes into it
    left_pads: int = 0


def _row(ids: Any, before: _Keys, positions: Any, pads: Any, blocks: Any) -> dict[str, Any]:
    """Return a pass as dump.json has it, checked; its tensors are yet to come."""
    tokens, cached = _integers("ids", ids, 0), len(before.real)
    if not tokens:
        raise _wrong("ids", "at least one token", "none")
    pads = _integer("left_pads", pads)
    if pads and pads >= (cached or len(tokens)):
        raise _wrong("left_pads", f"fewer than {cached or len(tokens)}", pads)
    if cached and pads != before.left_pads:
        raise _wrong("left_pads", f"{before.left_pads}, as the row began with", pads)
    left, count = 0 if cached else pads, sum(before.real)
    counted = [-1] * left + list(range(count, count + len(tokens) - left))
    places = counted if positions is None else _integers("positions", positions, -1)
    if len(places) != len(tokens) or max(places[:left], default=-1) >= 0 or max(places) < 0:
        raise _wrong("positions", f"{len(tokens)}, as ids, -1 at {left} left pads and not everywhere", places)
    pairs = _pairs(blocks, cached + len(tokens))
    said = {"ids": tokens, "positions": places, "cached": cached, "image_blocks": pairs, "left_pads": pads}
    return said | {"pixels": None, "tensors": {}}


def _left(kept: Any, before: _Keys) -> tuple[list[list[int]], _Keys]:
    """Return ranges of keys that are left, one behind the other, each with its position now; and those keys."""
    if before.left_pads:
        raise _wrong("kept", "a row without left pads", f"{before.left_pads} of them")
    out, last, real = [], 0, []
    for one in kept:
        start, stop, position = three = _integers("kept", one, 0) if len(one) == 3 else [0, 0, 0]
        if not last <= start < stop <= len(before.real) or position != sum(real):
            keys = f"the {len(before.real)} keys that are there"
            raise _wrong("kept", f"[start, stop, position] within {keys}, positions one after the other", kept)
        out.append(three)
        real += before.real[start:stop]
        last = stop
    return out, _Keys(real)


def _places(row: Any, slots: Any, cache_slots: Any, tokens: int) -> dict[str, Any]:
    """Return what is said of the row and of slots; whether another pass has a slot is for the judge to find."""
    one = {"row": row, "cache_slots": cache_slots}
    out: dict[str, Any] = {name: _integer(name, given) for name, given in one.items() if given is not None}
    if slots is not None:
        out["slots"] = _integers("slots", slots, 0)
        if not len(set(out["slots"])) == len(out["slots"]) == tokens:
            raise _wrong("slots", f"{tokens}, as ids, each once", slots)
    most = max(out.get("slots", [0]))
    if out.get("cache_slots", most + 1) <= most:
        raise _wrong("cache_slots", f"more than {most}", cache_slots)
    return out


def _adapter(given: Any) -> dict[str, Any]:
    adapter = {"name": given, "merged": False} if isinstance(given, str) else given
    good = isinstance(adapter, dict) and adapter.keys() == {"name", "merged"} and isinstance(adapter["name"], str)
    if not good or not isinstance(adapter["merged"], bool):
        raise _wrong("adapter", "its name, or name and merged", given)
    return adapter


def _rank_of(what: str, given: Any) -> dict[str, int]:
    """Return which rank of how many this is; of tensor parallelism perhaps how many only."""
    several = isinstance(given, tuple | list)
    numbers = _integers(what, given if several else [given], 0)
    if several and len(numbers) == 2 and numbers[0] < numbers[1]:
        return {"rank": numbers[0], "of": numbers[1]}
    if what == "tensor" and not several and numbers[0] > 0:
        return {"of": numbers[0]}
    raise _wrong(what, "(rank, of), ranks from 0", given)


def _held(name: str, layout: str, cut: Any, partial: bool, rank: Any, ranks: int, own: int | None) -> dict[str, Any]:
    """Return what an entry says of a rank: its slice of the value, a part of a sum, whose it is; checked."""
    if (cut is not None or partial or rank is not None) and not ranks:
        raise _wrong(f"slice, partial and rank of {name}", "a recorder that was told tensor=(rank, of)", "none")
    if (cut is not None or partial) and own is None and rank is None:
        raise _wrong(f"rank of {name}", f"0 to {ranks - 1}, since all ranks are in this dump", rank)
    out: dict[str, Any] = {"partial": True} if partial else {}
    if rank is not None:
        out["rank"] = _integer(f"rank of {name}", rank)
        if own is not None or out["rank"] >= ranks:
            raise _wrong(f"rank of {name}", "none" if own is not None else f"0 to {ranks - 1}", rank)
    if cut is not None:
        good = isinstance(cut, dict) and cut and all(isinstance(one, str) and one in SLICED for one in cut)
        pairs = {one: _integers(f"slice of {name}", pair, 0) for one, pair in cut.items()} if good else {}
        if partial or not good or any(len(pair) != 2 or pair[0] >= pair[1] for pair in pairs.values()):
            want = f"axis (one of {' '.join(SLICED)}) -> (start, stop), of what is not partial"
            raise _wrong(f"slice of {name}", want, cut)
        out["slice"] = pairs
    return out


def _addend(name: str, plus: Any, dtype: str | None, array: np.ndarray, kind: str) -> np.ndarray:
    """Return what is added to a value, which must be like it."""
    other, own = _array(f"plus of {name}", plus, dtype)
    if (own, other.shape) != (kind, array.shape) or "float" not in kind:
        raise _wrong(f"plus of {name}", f"floats as {kind} {list(array.shape)}", f"{own} {list(other.shape)}")
    return other


def _pairs(given: Any, most: int) -> list[list[int]]:
    array, kind = _array("image_blocks", given, None)
    if array.size and (array.ndim != 2 or array.shape[1] != 2 or array.dtype.kind not in "iu"):
        raise _wrong("image_blocks", "integers [images, 2]", f"{kind} {list(array.shape)}")
    pairs = array.tolist() if array.size else []
    edges = [0, *(edge for pair in pairs for edge in pair), most]
    if sorted(edges) != edges or any(start == stop for start, stop in pairs):
        raise _wrong("image_blocks", f"start < stop <= {most}, one behind the other", pairs)
    return pairs


def _integer(what: str, given: Any) -> int:
    some = _integers(what, [given], 0)
    if len(some) != 1:
        raise _wrong(what, "an integer", given)
    return some[0]


def _integers(what: str, given: Any, least: int) -> list[int]:
    array, kind = _array(what, given, None)
    if array.size == 0:
        return []
    row = array[0] if array.ndim == 2 and len(array) == 1 else array  # a batch of one
    if array.dtype.kind not in "iu" or row.ndim != 1:
        raise _wrong(what, "integers, of one row", f"{kind} {list(array.shape)}")
    if row.min() < least:
        raise _wrong(what, f"integers from {least}", row.min())
    return row.tolist()


def _pixels(given: Any) -> np.ndarray | None:
    if given is None:
        return None
    array, kind = _array("pixels", given, None)
    if array.ndim != 4 or kind not in ("float64", "float32", "float16"):
        raise _wrong("pixels", "floats [images, C, Y, X]", f"{kind} {list(array.shape)}")
    return array


def _array(what: str, given: Any, dtype: str | None) -> tuple[np.ndarray, str]:
    """Return an array in CPU memory, in little-endian order, and what it holds; bfloat16 as its bits."""
    try:
        given = given.detach() if hasattr(given, "detach") else given  # torch's, of a parameter
        if str(getattr(given, "dtype", "")) in ("torch.bfloat16", "mlx.core.bfloat16"):  # NumPy has none
            given, dtype = given.view(sys.modules[type(given.dtype).__module__].uint16), "bfloat16"
        array = np.asarray(given)
        if array.dtype.hasobject and array is not given and hasattr(given, "__dlpack__"):
            array = np.from_dlpack(given)
    except Exception as error:  # ragged; of a device; each library has its own
        raise _wrong(what, "an array in CPU memory", error) from None
    kind = array.dtype.name
    if kind in ("uint16", "bfloat16") and dtype in ("uint16", "bfloat16"):
        array, kind = array.view(np.uint16), dtype
    elif kind == "uint16":
        raise _wrong(what, 'dtype="bfloat16" if these are its bits, or "uint16"', dtype)
    elif dtype not in (None, kind) or kind not in KINDS:
        raise _wrong(what, dtype or "floats, integers or booleans", kind)
    elif kind == "bfloat16":
        array = array.view(np.uint16)
    return array.astype(array.dtype.newbyteorder("<"), copy=False), kind


def _check_layout(
    what: str, layout: str, shape: tuple[int, ...], tokens: int, held: dict[str, list[int]] | None = None
) -> None:
    """Refuse a layout that is none, or axes that the shape cannot have in this pass, or in a rank's slice."""
    if layout == "":
        return
    letters = re.findall(r"\w", layout.upper()) if isinstance(layout, str) and LAYOUT.fullmatch(layout) else []
    twice = [axis for axis in set(letters) if letters.count(axis) > {"1": 32, "P": 2}.get(axis, 1)]
    if not letters or twice or not set(letters) <= set(AXES):
        raise _wrong(f"layout of {what}", 'axes such as "T (N H)" or "B N T H", each once', repr(layout))
    known = {"T": tokens, "B": 1, "1": 1, "2": 2} if "T" in letters else {"1": 1}  # without T, B counts images
    known |= {axis: stop - start for axis, (start, stop) in (held or {}).items() if axis in letters}
    groups = [re.findall(r"\w", group) for group in re.findall(r"\([^)]*\)|\w", layout.upper())]
    if len(groups) != len(shape) or not all(map(_can_be, groups, shape, [known] * len(shape))):
        told = f" where T is {known['T']}" if "T" in letters else ""
        told += f", slice {held}" if held else ""
        raise _wrong(f"shape of {what}", f"{layout}{told}", list(shape))


def _can_be(axes: list[str], length: int, known: dict[str, int]) -> bool:
    """Tell whether merged axes, of which some lengths are known, can be so long."""
    rest = math.prod(known.get(axis, 1) for axis in axes)
    return length == rest if set(axes) <= set(known) else length % rest == 0


def _fields(what: str, given: Any, needed: tuple[str, ...], more: tuple[str, ...]) -> dict[str, Any]:
    """Return the fields of an argument, of which the format knows these."""
    if not isinstance(given, dict) or not set(needed) <= set(given) <= {*needed, *more}:
        raise _wrong(what, f"some of {' '.join((*needed, *more))}", given)
    other = [name for name, value in given.items() if not isinstance(value, str) and name not in ("sha256", "torch")]
    if other:
        raise _wrong(f"{what}.{other[0]}", "a text", given[other[0]])
    return dict(given)


def _part_of(folder: Path) -> Path:
    """Make a folder beside another, under a name of its own: what a killed process left may be there."""
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise _wrong(folder, "an empty or new folder", "something in the way")
        for number in range(2**16):
            new = folder.with_name(f"{folder.name}.{os.getpid()}-{number}.part")
            if not new.exists():
                new.mkdir(parents=True)
                return new
    except OSError as error:
        raise _wrong(folder, "a folder that can be made", error.strerror) from None
    raise _wrong(folder, "a folder that can be made", "too many that were left")


def _wrong(what: object, want: object, got: object) -> ValueError:
    """Build a refusal of one line: what, wanted, got."""
    line = " ".join(f"{what}: wanted {want}, got {got}".split())
    return ValueError("".join(one if one.isprintable() else repr(one)[1:-1] for one in line)[:600])
