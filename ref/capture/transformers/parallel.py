"""Tensor parallelism: a model whose weights lie in slices on several ranks gives one whole dump, written by the first.

Every rank runs `capture` on the same ids, as it runs the model. Heads and channels that a rank holds are gathered when
they are heard, so that a dump tells nothing of ranks but that there were some.
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
    """

    mesh: Any
    number: int
    sliced: frozenset[str]

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

    sizes = [torch.zeros(1, dtype=torch.long, device=value.device) for _ in range(ranks.count)]
    group = ranks.mesh.get_group()
    torch.distributed.all_gather(sizes, torch.tensor([value.shape[axis]], device=value.device), group=group)
    most = max(int(size) for size in sizes)  # the last rank may hold less
    rows = value.detach().movedim(axis, 0).contiguous()
    padded = rows.new_zeros((most, *rows.shape[1:]))
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in range(ranks.count)]
    torch.distributed.all_gather(parts, padded, group=group)
    return torch.cat([part[: int(size)] for part, size in zip(parts, sizes, strict=True)]).movedim(0, axis)


def agreed(ranks: Ranks, found: bool) -> bool:
    """Tell whether something holds on every rank, so that all of them go the same way."""
    import torch

    said = torch.tensor([int(found)], device=ranks.mesh.device_type)
    torch.distributed.all_reduce(said, torch.distributed.ReduceOp.MIN, group=ranks.mesh.get_group())
    return bool(said)


def writer_of(ranks: Ranks | None, folder: Path, *of_dump: Any) -> DumpWriter | NoWriter:
    """Open the dump on the first rank, and nothing on the others.

    Args:
        ranks: all of them call this; None of a whole model.
        folder, of_dump: as `DumpWriter`.

    Raises:
        BadInput: on every rank, what `DumpWriter` raised on the first.
    """
    if ranks is None:
        return DumpWriter(folder, *of_dump)
    import torch

    said: list[str | None] = [None]
    writer: DumpWriter | NoWriter = NoWriter(folder.resolve())
    if ranks.number == 0:
        try:
            writer = DumpWriter(folder, *of_dump)
        except BadInput as error:
            said = [str(error)]
    group = ranks.mesh.get_group()
    torch.distributed.broadcast_object_list(said, src=torch.distributed.get_global_rank(group, 0), group=group)
    if said[0] is not None:
        raise BadInput(said[0])
    return writer


def wait_for_all(ranks: Ranks | None) -> None:
    """Return when the dump is there, on every rank."""
    if ranks is not None:
        import torch

        torch.distributed.barrier(ranks.mesh.get_group())
