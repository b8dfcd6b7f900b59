"""The ranks of a dump: one folder each, or all in one; what they say of the run must be the same."""

from collections.abc import Iterable, Mapping
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from ref.dump.write import OF_RANKS, WHOLE_RANKS, read_dump
from ref.errors import BadInput, wanted
from ref.untrusted import parse_json, quoted, read_regular

MOST = 1024  # folders that are looked at
SAME = (("names",), ("producer",), ("policy",), ("model", "config"), ("model", "weights", "name"))
SAME += (("model", "weights", "dtype"), ("model", "adapter"), ("format_version",))
OF_PASS = ("ids", "positions", "cached", "left_pads", "image_blocks", "row", "kept", "slots", "cache_slots")


class RankDump(NamedTuple):
    """One `dump.json`: of one rank, or of all of them."""

    folder: Path
    content: dict[str, Any]
    rank: int | None = 0  # of tensor parallelism; None: each tensor says its own
    stage: int = 0  # rank of pipeline parallelism
    of: int = 1  # ranks of tensor parallelism
    stages: int = 1

    @property
    def words(self) -> str:
        """Name the rank."""
        return rank_words(self.rank or 0, self.stage, self.of, self.stages)


def rank_words(rank: int, stage: int, of: int, stages: int) -> str:
    """Name a rank: `rank 1`, `pipeline rank 1`, `rank 1 of pipeline rank 0`."""
    if stages == 1:
        return f"rank {rank}"
    return f"pipeline rank {stage}" if of == 1 else f"rank {rank} of pipeline rank {stage}"


def folders_of(folder: Path) -> list[Path]:
    """List the folders with a `dump.json`: a dump itself, or those of its ranks inside it."""
    if (folder / "dump.json").exists():
        return [folder]
    try:
        inside = sorted(one for one in folder.iterdir() if (one / "dump.json").exists())
    except OSError:
        inside = []
    if len(inside) > MOST:
        raise wanted("ranks", folder, f"at most {MOST} folders", len(inside))
    return inside or [folder]


def is_folder_of_ranks(folder: Path) -> bool:
    """Tell whether a folder holds the folders of ranks of one dump, by what the first says of itself."""
    first = folders_of(folder)[0]
    if first == folder or not (first / "dump.json").exists():
        return False
    try:
        content = parse_json(read_regular(first / "dump.json"), first / "dump.json", "dump")
    except (BadInput, OSError):
        return False
    return "parallel" in content


def read_ranks(folder: Path) -> list[RankDump]:
    """Read what every rank's `dump.json` says, and check that they are the ranks of one run.

    Args:
        folder: a dump, or a folder of the folders of its ranks.

    Returns:
        The ranks, those of tensor parallelism within those of pipeline parallelism; one of a dump that has none.

    Raises:
        BadInput: what the schema refuses; a rank twice, or missing; ranks that say unlike things of the run.
    """
    ranks = [_rank_dump(one, read_dump(one)) for one in folders_of(folder)]
    if len(ranks) == 1 and "parallel" not in ranks[0].content:
        return ranks
    _check_complete(ranks, folder)
    ranks.sort(key=lambda one: (one.stage, one.rank or 0))
    for one in ranks[1:]:
        _check_same(one, ranks[0])
    return ranks


def _rank_dump(folder: Path, content: dict[str, Any]) -> RankDump:
    said = content.get("parallel", {})
    tensor, pipeline = said.get("tensor", {"rank": 0, "of": 1}), said.get("pipeline", {"rank": 0, "of": 1})
    for what, one in (("tensor", tensor), ("pipeline", pipeline)):
        if one.get("rank", 0) >= one["of"]:
            raise wanted(f"parallel.{what}.rank", folder / "dump.json", f"below {one['of']}", one["rank"])
    if said and "sketch" in content:
        raise wanted("sketch", folder / "dump.json", WHOLE_RANKS, "parallel and sketch")
    rank = RankDump(folder, content, tensor.get("rank"), pipeline["rank"], tensor["of"], pipeline["of"])
    for number, row in enumerate(content["passes"]):
        for name, entry in row["tensors"].items():
            _check_entry(rank, entry, f"tensor {quoted(name)} of pass {number}")
    return rank


def _check_entry(one: RankDump, entry: Mapping[str, Any], what: str) -> None:
    where = one.folder / "dump.json"
    said = [field for field in OF_RANKS[1:] if field in entry]
    if said and "tensor" not in one.content.get("parallel", {}):
        raise wanted(what, where, f"no {said[0]}, since the dump says no parallel.tensor", said[0])
    if "rank" in entry and (one.rank is not None or entry["rank"] >= one.of):
        want = f"a rank below {one.of}" if one.rank is None else f"none: the dump is rank {one.rank}'s"
        raise wanted(f"rank of {what}", where, want, entry["rank"])
    if "slice" in entry and "partial" in entry:
        raise wanted(what, where, "a slice or a part of a sum", "both")


def _check_complete(ranks: list[RankDump], folder: Path) -> None:
    """Refuse ranks that are of unlike numbers, come twice, or lack some."""
    first = ranks[0]
    for one in ranks:
        if "parallel" not in one.content:
            want = "parallel, which rank it is, since there are several folders"
            raise wanted("dump", one.folder / "dump.json", want, "none")
        if (one.of, one.stages, one.rank is None) != (first.of, first.stages, first.rank is None):
            want = f"{first.of} of tensor and {first.stages} of pipeline parallelism, as {first.folder.name} says"
            raise wanted("parallel", one.folder / "dump.json", want, f"{one.of} and {one.stages}")
    numbers: list[int | None] = [None] if first.rank is None else list(range(first.of))
    wants, seen = set(product(numbers, range(first.stages))), dict[tuple[int | None, int], RankDump]()
    for one in ranks:
        place = one.rank, one.stage
        if place in seen:
            want = f"each rank once; {seen[place].folder.name} is {one.words} as well"
            raise wanted("parallel", one.folder / "dump.json", want, one.words)
        seen[place] = one
    missing = sorted(wants - seen.keys(), key=lambda place: (place[1], place[0] or 0))
    if missing:
        lost = _listed(rank_words(rank or 0, stage, first.of, first.stages) for rank, stage in missing)
        got = _listed(one.folder.name for one in ranks)
        raise wanted("ranks", folder, f"the folders of all {len(wants)} in one folder", f"{got}: no {lost}")


def _listed(names: Iterable[str], most: int = 6) -> str:
    several = list(names)
    return ", ".join(several[:most]) + (f" and {len(several) - most} more" if len(several) > most else "")


def _check_same(one: RankDump, first: RankDump) -> None:
    """Refuse a rank that says something else of the run than the first."""
    where = one.folder / "dump.json"
    for path in SAME:
        mine, theirs = (_at(rank.content, path) for rank in (one, first))
        if mine != theirs:
            name, want, got = _field(".".join(path), theirs, mine)
            raise wanted(f"{name} of {one.words}", where, f"{want}, as {first.words} says", got)
    mine, theirs = one.content["passes"], first.content["passes"]
    if len(mine) != len(theirs):
        raise wanted(f"passes of {one.words}", where, f"{len(theirs)}, as {first.words} has", len(mine))
    for number, (row, other) in enumerate(zip(mine, theirs, strict=True)):
        for field in OF_PASS:
            if row.get(field) != other.get(field):
                want, got = _differing(other.get(field), row.get(field))
                raise wanted(f"{field} of pass {number} of {one.words}", where, f"{want}, as {first.words} has", got)


def _at(content: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        content = content.get(name) if isinstance(content, Mapping) else None
    return content


def _field(name: str, want: Any, got: Any) -> tuple[str, Any, Any]:
    """Return the first field of two objects in which they differ, and both values."""
    if not (isinstance(want, dict) and isinstance(got, dict)):
        return name, want, got
    key = next(key for key in [*want, *got] if want.get(key) != got.get(key))
    return _field(f"{name}.{key}", want.get(key), got.get(key))


def _differing(want: Any, got: Any) -> tuple[str, str]:
    """Say where two fields differ: of long lists of one length the first place."""
    if isinstance(want, list) and isinstance(got, list) and len(want) == len(got):
        at = next(i for i, (a, b) in enumerate(zip(want, got, strict=True)) if a != b)
        return f"{want[at]} at {at}", f"{got[at]}"
    several = [f"{len(one)} of them" if isinstance(one, list) else str(one) for one in (want, got)]
    return several[0], several[1]
