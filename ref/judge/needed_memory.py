"""How much memory the judge will need for a dump, and how much there is: what does not fit is refused before it starts.

A small file may ask for a lot: attention is judged with all its scores, [N, T, S] a run, where a port held a tile. Two
runs are in float64, six from the prompt and six on the dump's own inputs in float32, several of them at once.

    scores and probs not in the dump    q x (6 + 16 x threads)      q = heads x queries x keys of one pass and layer
    one of them in the dump             q x (120 + 33 x threads), of which 88 stay until all passes have had the layer
    all other values                    64 bytes a token and channel, of every pass
    logits                              (56 + 16 x threads) bytes a token and column, of one pass
    weights of a layer                  36 bytes each: float64, float32, and six orders of summation

The factors are measured (`python tests/bench/needed.py`): the estimate is within a factor of two of the peak.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numba

from ref.emulate.products import MOST_KEPT
from ref.emulate.stages import Stage, stages_of, taps_of
from ref.errors import wanted
from ref.measure.measure_logits import COLUMNS
from ref.measure.parallel import MOST, at_once
from ref.measure.pass_runs import PassRuns
from ref.model.tap_rows import LAYER_TAPS

UNITS = {"": 1, "B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}
UNITS |= {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
QUADRATIC = [name for name, row in LAYER_TAPS.items() if row.is_pairwise]
KEPT, ALIVE, EACH = 88, 120, 33  # bytes an entry of the scores, where the dump has some
FUSED, FUSED_EACH = 6, 16  # where it has none
LINEAR = 64  # bytes of any other value
WEIGHTS, PERMUTED = 13, 24  # bytes of a weight of the layer; of runs that keep a permuted copy, where it is not large
LOGITS, LOGITS_EACH = 56, 16
PROCESS = 400_000_000  # bytes of a worker that judges nothing yet
CGROUPS = (  # limit and use
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


class Need(NamedTuple):
    """What one stage of one pass needs, in bytes."""

    kept: int  # until all passes have had the stage
    alive: int  # while it is measured, what is kept included


def bytes_of(size: str | int, where: object = "--memory") -> int:
    """Return a size as bytes: 6GB, 512MB, 1.5GiB, or a plain number.

    Args:
        size: as above; decimal units unless they say i, or no B.
        where: for the refusal.

    Raises:
        BadInput: no such size, or none above 0.
    """
    found = re.fullmatch(r"([0-9]{1,18}(?:\.[0-9]{1,9})?) ?([KMGT]?(?:I?B)?)", str(size).strip().upper())
    unit = UNITS.get(found[2]) if found else None
    if found is None or unit is None or float(found[1]) * unit < 1:
        raise wanted("memory", where, "a size such as 6GB or 512MB", size)
    return int(float(found[1]) * unit)


def available() -> int | None:
    """Return the bytes that this process may still use; None where nothing says so.

    Source: Linux proc(5) MemAvailable; control groups 2 and 1; elsewhere what the machine has.
    """
    found = [room for limit, use in CGROUPS if (room := _room(limit, use)) is not None]
    match = re.search(r"MemAvailable: +([0-9]+) kB", _text("/proc/meminfo"))
    if match:
        found.append(int(match[1]) * 1024)
    elif hasattr(os, "sysconf") and {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= set(os.sysconf_names):
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(found, default=None)


def _room(limit: str, use: str) -> int | None:
    most, now = _text(limit).strip(), _text(use).strip()
    if not (most.isdecimal() and now.isdecimal()) or int(most) >= 2**60:  # "max", or a number that stands for it
        return None
    cached = re.search(r"^(?:total_)?inactive_file ([0-9]+)$", _text(str(Path(use).with_name("memory.stat"))), re.M)
    return max(0, int(most) - int(now) + (int(cached[1]) if cached else 0))


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except (OSError, ValueError):
        return ""


def needed(all_runs: Sequence[PassRuns], threads: int | None = None) -> tuple[int, str]:
    """Estimate the peak of judging a dump.

    Args:
        all_runs: the passes.
        threads: how many runs go on at one time; None: those of this process.

    Returns:
        (bytes, where the peak is).

    Source: measured, see above.
    """
    most = (0, "")
    for name in ("vision.layer", "layer", "logits"):
        by_layer: dict[int | None, list[tuple[Need, str]]] = {}
        for pass_runs in all_runs:
            for stage in _stages(pass_runs, name):
                what = f"{name} {stage.layer} of pass {pass_runs.number}" if stage.layer is not None else name
                need = _need(pass_runs, stage, min(threads, MOST) if threads else at_once())
                by_layer.setdefault(stage.layer, []).append((need, what))
        for found in by_layer.values():
            kept = sum(need.kept for need, _ in found)
            peak, what = max((kept - need.kept + need.alive, what) for need, what in found)
            most = max(most, (peak, what))
    return most


def _stages(pass_runs: PassRuns, name: str) -> list[Stage]:
    """List the stages of a kind that a pass is taken through: up to the last that the dump has a tap of."""
    stages, taps = stages_of(pass_runs.one_pass), {*pass_runs.stored, *pass_runs.partial}
    last = max((i for i, stage in enumerate(stages) if taps & set(taps_of(stage, True, True))), default=-1)
    return [stage for stage in stages[: last + 1] if stage.name == name]


def _need(pass_runs: PassRuns, stage: Stage, threads: int) -> Need:
    one_pass = pass_runs.one_pass
    queries, keys, c = one_pass.ids.shape[1], one_pass.total, one_pass.config
    if stage.name == "logits":
        columns = min(c.vocabulary, COLUMNS)
        return Need(0, (LOGITS + LOGITS_EACH * threads) * queries * columns)
    heads, rows, q = c.query_heads + c.kv_heads, queries, c.query_heads * queries * keys
    channels, prefix = 9 * c.width + 4 * heads * c.head_dim + 3 * c.ffn_width, f"text.layer.{stage.layer}."
    weights = c.width * (2 * heads * c.head_dim + 3 * c.ffn_width)
    if stage.name == "vision.layer" and one_pass.vision is not None:
        v, images = one_pass.vision.config, int(one_pass.places.sum()) // one_pass.vision.config.soft_tokens
        channels, rows, q = 14 * v.width + 2 * v.ffn_width, images * v.side**2, images * v.heads * v.side**4
        weights, prefix = v.width * (4 * v.width + 2 * v.ffn_width), f"vision.layer.{stage.layer}."
    each = WEIGHTS + (PERMUTED if _widest(pass_runs, stage) <= MOST_KEPT else 0)
    linear = LINEAR * rows * channels
    if any(prefix + name in {*pass_runs.stored, *pass_runs.partial} for name in QUADRATIC):
        return Need(linear + KEPT * q, linear + (ALIVE + EACH * threads) * q + each * weights)
    return Need(linear, linear + (FUSED + FUSED_EACH * threads) * q + each * weights)


def _widest(pass_runs: PassRuns, stage: Stage) -> int:
    """Return the values of the largest matrix of a layer."""
    config = (
        pass_runs.one_pass.vision.config
        if stage.name == "vision.layer" and pass_runs.one_pass.vision
        else pass_runs.one_pass.config
    )
    return config.width * config.ffn_width


def threads_that_fit(all_runs: Sequence[PassRuns], limit: str | int | None = None) -> int:
    """Return how many runs may go on at one time, so that there is enough memory: those of this process, or fewer.

    Args:
        all_runs: the passes.
        limit: what may be used, as `bytes_of` reads it; None: what is available now.

    Raises:
        BadInput: more is needed even one by one; the line says how much, where, and how much there is.
    """
    most, threads = available() if limit is None else bytes_of(limit), at_once()
    while most is not None and threads > 1 and needed(all_runs, threads)[0] > most:
        threads -= 1
    bytes_, what = needed(all_runs, threads)
    if most is not None and bytes_ > most:
        want = f"at most {_gigabytes(most)}, which {'is' if limit is None else 'are'} {_which(limit)}"
        got = f"about {_gigabytes(bytes_)} needed at {what} (fewer tokens need less; --memory SIZE sets another limit)"
        raise wanted("memory", "compare", want, got)
    return threads if threads < at_once() else numba.get_num_threads()


def check_workers(all_runs: Sequence[PassRuns], workers: int, threads: int, limit: str | int | None = None) -> None:
    """Refuse more workers of this machine than there is memory for.

    Args:
        all_runs: the passes.
        workers: processes, each of which judges a stage at one time.
        threads: of each.
        limit: as `check_memory`.

    Raises:
        BadInput: more is needed; the line says how many workers there is memory for.
    """
    most = available() if limit is None else bytes_of(limit)
    bytes_, what = needed(all_runs, threads)
    each = bytes_ + PROCESS
    if most is None or workers * each <= most:
        return
    fit = most // each
    want = f"at most {fit}, for which the {_gigabytes(most)} that are {_which(limit)} are enough"
    raise wanted("--workers", "compare", want, f"{workers}, of about {_gigabytes(each)} each at {what}")


def _which(limit: str | int | None) -> str:
    return "available" if limit is None else "allowed by --memory"


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB"
