"""Read what `llama-eval-callback` and `llama-debug` print: of every node the first and last values and the sum.

    common_debug_cb_eval:   Qcur-0 = (f32)   MUL_MAT(blk.0.attn_q.weight{640, 1024, 1, 1}, attn_norm-0{640, 6, 1, 1}}) = {1024, 6, 1, 1}
        [
            [
                [      6.5610,       7.6259,       9.3290,    ...,      -0.4380,      -4.4296,      -0.0920  ],
                ...
            ],
        ]
        sum = 9738.016602

Sizes are printed with the contiguous axis first. Of an axis longer than 6 only the first 3 and the last 3 are shown.
Quantised nodes have no values. Without `-fa off` attention is fused there, and has neither scores nor probabilities.
"""  # noqa: E501

import math
import re
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ref.dump.llama_cpp_names import tap_of
from ref.errors import wanted
from ref.model.taps import tap_row
from ref.untrusted import integer_of, read_regular

MOST = 2**40  # values in a node; none is printed that would not fit into memory
LONGEST = 1000  # a node's first line has three names of at most 63 letters
SHOWN = 3  # values from each end of an axis
SIZES = r"(\d+), (\d+), (\d+), (\d+)"
HEADER = re.compile(r"\w+:\s+(.+?) = \((\w+)\)\s+(\w+)\((.*?)\{" + SIZES + r"\}, .*\}\) = \{" + SIZES + r"\}\s*$")
NUMBER = re.compile(r"[-+]?(?:\d+\.\d+|nan|inf)")
TOKEN = re.compile(r"\.\.\.|[^\s,]+")
SUM = re.compile(r"\s*sum += ([-+]?(?:\d+\.\d+|nan|inf))\s*$")
HEADED = ("attn.q_norm", "attn.k_norm", "attn.q_rope", "attn.k_rope")  # nodes with an axis of heads
COUNT = re.compile(r"number of input tokens = (\d+)\s*$")
PIECES = re.compile(r"Token ids \((\d+)\):\s*$")  # of llama-debug: each piece is followed by its id, "The(818) "


class PartialTap(NamedTuple):
    """What is known of one tap: a few values, and the sum of all."""

    node: str  # llama.cpp's name
    dtype: str  # as ggml names it
    shape: tuple[int, ...]  # of the whole value, in the registry's axes
    places: np.ndarray  # [values, axes] int64: where each listed value stands
    values: np.ndarray  # [values] float64, as printed
    step: float  # half a unit of the last printed digit: no listed value is further from the one held
    sum: float  # of all values, which llama.cpp adds one after the other in float32; NaN if one of them is
    first_token: int  # the token that row 0 of axis T belongs to: the last layer is run for the last token alone


class _Node(NamedTuple):
    name: str
    dtype: str
    sizes: tuple[int, ...]  # slowest axis first
    values: list[float]
    digits: int
    sum: float


def read_llama_text(path: str | Path, head_dim: int | None = None) -> dict[str, PartialTap]:
    """Read the text of one pass over a prompt and return what it says of each tap.

    Args:
        path: the text, stdout of `llama-eval-callback` (stderr may stand between nodes).
        head_dim: H; None reads it off the normalised queries.

    Returns:
        Tap name -> PartialTap, in the order printed. Nodes that are no taps are left out. Of attention scores the
        padded keys are left out of `places` and `shape`; their zeros stay in the sum.

    Raises:
        BadInput: no such text, a node cut short or of another form, or a tap twice (more than one pass: a prompt
            longer than `--ubatch-size` is split).

    Source: llama.cpp 0c1e57098 `common/debug.cpp` `common_debug_cb_eval`, `common_debug_print_tensor`.
    Differs: before 2026 the line begins with `ggml_debug:`; both are read.
    """
    nodes: dict[str, _Node] = {}
    lines = iter(enumerate(_lines(path), 1))
    for number, line in lines:
        header = HEADER.search(line) if len(line) < LONGEST else None
        tap = tap_of(header[1].strip(), header[3], header[4]) if header else None
        if header is None or tap is None:
            continue
        if tap in nodes:
            raise wanted(f"node {header[1].strip()}", f"{path}:{number}", "one pass, each node once", "it again")
        nodes[tap] = _read_node(header, lines, f"{path}:{number}")
    if not nodes:
        raise wanted("llama.cpp text", path, "what llama-eval-callback prints of a Gemma 3", "no node of it")
    headed = [node.sizes for tap, node in nodes.items() if tap.endswith(HEADED)]
    tokens = max(_tokens(tap, node) for tap, node in nodes.items())
    known = head_dim or next((sizes[-1] for sizes in headed), None)
    return {tap: _align(tap, node, known, tokens, path) for tap, node in nodes.items()}


def read_llama_ids(path: str | Path) -> list[int]:
    """Return the token ids that `llama-eval-callback` or `llama-debug` lists before the nodes; empty if there are none.

    Args:
        path: the text, as `read_llama_text`.

    Raises:
        BadInput: the file cannot be read, or the list is cut short.

    Source: llama.cpp 0c1e57098 `examples/eval-callback/eval-callback.cpp`.
    """
    lines = _lines(path)
    at = next((i for i, line in enumerate(lines) if COUNT.search(line)), None)
    found = COUNT.search(lines[at]) if at is not None else None
    if at is None or found is None:
        return _ids_of_pieces(lines)
    count = integer_of(found[1], most=MOST)
    words = [line.split()[-1:] for line in lines[at + 1 : at + 1 + (count or 0)]]
    last = [integer_of(one[0]) if one else None for one in words]
    ids = [one for one in last if one is not None]
    if len(ids) != count:
        raise wanted("token ids", path, f"{found[1]} lines, each ending with one", words)
    return ids


def _ids_of_pieces(lines: list[str]) -> list[int]:
    """Return the ids that follow the pieces of a prompt; empty where a piece looks like an id itself."""
    at = next((i for i, line in enumerate(lines) if PIECES.search(line)), None)
    if at is None:
        return []
    end = next((i for i, line in enumerate(lines[at + 1 :], at + 1) if HEADER.search(line[:LONGEST])), len(lines))
    count, ids = PIECES.search(lines[at]), re.findall(r"\((\d{1,9})\)(?= |$)", "\n".join(lines[at + 1 : end]), re.M)
    return [int(one) for one in ids] if count and int(count[1]) == len(ids) else []


def _lines(path: str | Path) -> list[str]:
    return read_regular(Path(path), "llama.cpp text").decode(errors="replace").splitlines()


def _read_node(header: re.Match, lines, where: str) -> _Node:
    """Read the lines of one node up to its sum; brackets only say where a row ends, since the sizes are known."""
    name, sizes = header[1].strip(), tuple(int(size) for size in reversed(header.groups()[-4:]))
    rows, digits = [], 0
    for _, line in lines:
        total = SUM.match(line)
        if total:
            break
        words = TOKEN.findall(line.replace("[", " ").replace("]", " "))
        numbers = [word for word in words if NUMBER.fullmatch(word)]
        if len(numbers) + words.count("...") != len(words):
            raise wanted(f"node {name}", where, "numbers and brackets up to its sum", line.strip())
        digits = max([digits, *(len(number.partition(".")[2]) for number in numbers)])
        rows += [numbers] if numbers else []
    else:
        raise wanted(f"node {name}", where, "values that end with their sum", "the end of the text")
    if not 0 < math.prod(sizes) < MOST:
        raise wanted(f"sizes of node {name}", where, f"1 to {MOST} values", sizes)
    counts = [len(_listed(size)) for size in sizes]
    if [len(row) for row in rows] != [counts[3]] * math.prod(counts[:3]):
        got = f"{len(rows)} of {sorted({len(row) for row in rows})}"
        raise wanted(f"node {name}", where, f"{math.prod(counts[:3])} rows of {counts[3]} values", got)
    return _Node(name, header[2], sizes, [float(one) for row in rows for one in row], digits, float(total[1]))


def _listed(size: int) -> list[int]:
    """List the indices along an axis whose values are printed."""
    return list(range(size)) if size <= 2 * SHOWN else [*range(SHOWN), *range(size - SHOWN, size)]


def _tokens(tap: str, node: _Node) -> int:
    return node.sizes[1] if tap.endswith(HEADED) else node.sizes[2]


def _align(tap: str, node: _Node, head_dim: int | None, tokens: int, path) -> PartialTap:
    row, own = tap_row(tap), _tokens(tap, node)
    axes, shape = row.axes if row else "", (1, own, math.prod(node.sizes) // max(own, 1))
    if axes == "B N T S":
        shape = node.sizes
    elif node.sizes[0] * (1 if tap.endswith(HEADED) else node.sizes[1]) != 1:
        raise wanted(f"sizes of node {node.name}", path, f"one batch row, axes {axes}", node.sizes)
    elif axes.endswith("H"):
        if head_dim is None or shape[2] % head_dim:
            raise wanted(f"heads of node {node.name}", path, "a head_dim that divides its width", head_dim)
        shape = (1, own, shape[2] // head_dim, head_dim)
    listed = np.array(list(product(*map(_listed, node.sizes))), np.int64)
    places = np.stack(np.unravel_index(np.ravel_multi_index(tuple(listed.T), node.sizes), shape), 1)
    values = np.array(node.values)
    if axes == "B N T S":  # keys are padded to a multiple of 256; in a first pass there are as many as queries
        real = places[:, 3] < own
        places, values, shape = places[real], values[real], (*shape[:3], own)
    step = 0.5 * 10.0**-node.digits
    return PartialTap(node.name, node.dtype, shape, places, values, step, node.sum, tokens - own)
