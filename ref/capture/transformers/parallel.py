"""Tensor parallelism: a model whose weights lie in slices on several ranks gives one whole dump, or one of each rank.

Every rank runs `capture` on the same ids, as it runs the model. Heads and channels that a rank holds are gathered when
they are heard, and the first rank writes a dump that tells nothing of ranks but that there were some; or each writes
what it holds, so that the judge can tell which rank is wrong.
"""

from pathlib import Path
from typing import Any, NamedTuple

from ref.capture.rows import NoWriter
from ref.dump.write import DumpWriter
from ref.errors import BadInput, wanted

SLICED = {"N": "self_attn.q_proj", "K": "self_attn.k_proj", "F": "mlp.gate_proj"}  # axis -> whose outputs it counts


class Ranks(NamedTuple):
    """The ranks that hold a model together.

    Args:
        mesh: torch's, of one dimension.
        number: of this rank.
        sliced: letters of the axes of which this rank holds a part: N, K, F; none of a model that FSDP has cut.
        each: whether each writes a dump of its own.
    """

    mesh: Any
    number: int
    sliced: frozenset[str]
    each: bool = False

    @property
    def count(self) -> int:
        """Return how many there are."""
        return self.mesh.size()


def ranks_of(text: Any) -> Ranks | None:
    """Return the ranks that a decoder lies on; None where it is whole.

    Args:
        text: transformers' decoder.

    Raises:
        BadInput: the ranks are a grid of several dimensions; heads are cut in the middle.

    Source: transformers 5.23 `distributed/tensor_parallel.py`: weights are DTensors, of one mesh.
    """
    layer = text.layers[0]
    found = {letter: _weight(layer, path) for letter, path in SLICED.items()}
    split = {letter: weight for letter, weight in found.items() if hasattr(weight, "device_mesh")}
    if not split:
        return None
    mesh = next(iter(split.values())).device_mesh
    if mesh.ndim != 1:
        raise wanted("ranks", "capture", "a mesh of one dimension, tensor parallelism", list(mesh.shape))
    from torch.distributed.fsdp import FSDPModule

    if isinstance(layer, FSDPModule) or isinstance(text, FSDPModule):  # puts weights together before they are used
        return Ranks(mesh, mesh.get_local_rank(), frozenset())
    length = layer.self_attn.head_dim
    for letter in {"N", "K"} & set(split):
        rows = split[letter].to_local().shape[0]
        if rows % length:
            want = f"whole heads of {length} channels on every rank"
            raise wanted(f"weights of {SLICED[letter]}", "capture", want, f"{rows} channels")
    sliced = frozenset(letter for letter, weight in split.items() if weight.to_local().shape != weight.shape)
    return Ranks(mesh, mesh.get_local_rank(), sliced)


def _weight(layer: Any, path: str) -> Any:
    owner, name = path.split(".")
    return getattr(getattr(getattr(layer, owner, None), name, None), "weight", None)


def gathered(ranks: Ranks, value: Any, axes: str) -> Any:
    """Return the whole of a value of which each rank holds a slice.

    Args:
        ranks: all of them call this.
        value: a tensor, or a DTensor.
        axes: letters, as the registry has them; the first one that is sliced is put together.

    Source: torch 2.13 `torch.distributed.tensor.DTensor.full_tensor`.
    """
    from torch.distributed.tensor import DTensor

    if isinstance(value, DTensor):  # which knows what the others hold
        return value.full_tensor()
    axis = next((i for i, letter in enumerate(axes.split()) if letter in ranks.sliced), None)
    if axis is None:
        return value
    import torch

    sizes = _sizes(ranks, value, axis)
    rows = value.detach().movedim(axis, 0).contiguous()
    padded = rows.new_zeros((max(sizes), *rows.shape[1:]))  # the last rank may hold less
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in range(ranks.count)]
    torch.distributed.all_gather(parts, padded, group=ranks.mesh.get_group())
    return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)]).movedim(0, axis)


def _sizes(ranks: Ranks, value: Any, axis: int) -> list[int]:
    """Ask every rank how much of an axis it holds."""
    import torch

    sizes = [torch.zeros(1, dtype=torch.long, device=value.device) for _ in range(ranks.count)]
    own = torch.tensor([value.shape[axis]], device=value.device)
    torch.distributed.all_gather(sizes, own, group=ranks.mesh.get_group())
    return [int(size) for size in sizes]


def held(ranks: Ranks, value: Any, axes: str) -> tuple[Any, dict[str, Any]]:
    """Return what this rank holds of a value, and what a dump says of that: a slice, a part of a sum, or nothing.

    Args:
        ranks, value, axes: as `gathered`.

    Source: torch 2.13 `torch.distributed.tensor`, Shard and Partial.
    """
    from torch.distributed.tensor import DTensor

    letters, axis = axes.split(), None
    if isinstance(value, DTensor):
        [placement] = value.placements
        value = value.to_local()
        if placement.is_partial():
            return value, {"partial": True}
        axis = getattr(placement, "dim", None)  # of Shard; Replicate has none
    else:
        axis = next((i for i, letter in enumerate(letters) if letter in ranks.sliced), None)
    if axis is None:
        return value, {}
    start = sum(_sizes(ranks, value, axis)[: ranks.number])
    return value, {"slice": {letters[axis]: [start, start + value.shape[axis]]}}


def agreed(ranks: Ranks, found: bool) -> bool:
    """Tell whether something holds on every rank, so that all of them go the same way."""
    import torch

    said = torch.tensor([int(found)], device=ranks.mesh.device_type)
    torch.distributed.all_reduce(said, torch.distributed.ReduceOp.MIN, group=ranks.mesh.get_group())
    return bool(said)


def writer_of(ranks: Ranks | None, folder: Path, *of_dump: Any) -> DumpWriter | NoWriter:
    """Open the dump on the first rank, and nothing on the others; or one on each.

    Args:
        ranks: all of them call this; None of a whole model.
        folder, of_dump: as `DumpWriter`.

    Raises:
        BadInput: on every rank, what `DumpWriter` raised on the first.
    """
    if ranks is None:
        return DumpWriter(folder, *of_dump)
    import torch

    own: str | None = None
    writer: DumpWriter | NoWriter = NoWriter(folder.resolve())
    try:
        if ranks.each:
            parallel = {"tensor": {"rank": ranks.number, "of": ranks.count}}
            writer = DumpWriter(folder / f"rank{ranks.number}", *of_dump, parallel=parallel)
        elif ranks.number == 0:
            writer = DumpWriter(folder, *of_dump)
    except BadInput as error:
        own = str(error)
    said: list[str | None] = [None] * ranks.count
    torch.distributed.all_gather_object(said, own, group=ranks.mesh.get_group())
    line = next((one for one in said if one is not None), None)
    if line is not None:
        if isinstance(writer, DumpWriter):
            writer.abandon()
        raise BadInput(line)
    return writer


def wait_for_all(ranks: Ranks | None) -> None:
    """Return when the dump is there, on every rank."""
    if ranks is not None:
        import torch

        torch.distributed.barrier(ranks.mesh.get_group())
