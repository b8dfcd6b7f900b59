"""Adapters on the weights that a dump is judged against."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ref.emulate.policy import members_of
from ref.errors import wanted
from ref.weights.adapter import read_adapter, with_adapter

if TYPE_CHECKING:
    from ref.weights.resolve import Loaded


def put_adapter(
    loaded: "Loaded", folder: str | Path | None, said: dict[str, Any] | None, where: str
) -> tuple["Loaded", dict[str, Any] | None]:
    """Put an adapter on weights as a dump says that its producer had it.

    Args:
        loaded: the weights.
        folder: of the adapter; None: nobody gave one.
        said: {"name", "merged"}, as the dump says; None: nothing, which is taken as not merged.
        where: the dump, for refusals.

    Returns:
        (the weights, {"name", "merged"} of what is on them, or None).

    Raises:
        BadInput: the dump was made with an adapter that nobody gave; or see `read_adapter` and `with_adapter`.
    """
    merged = bool(said and said["merged"])
    if folder is not None:
        loaded = with_adapter(loaded, read_adapter(folder), merged)
    elif said and loaded.adapter is None:
        raise wanted(
            "--adapter", where, f"the folder of the adapter {said['name']} that the dump was made with", "none"
        )
    return loaded, None if loaded.adapter is None else {"name": loaded.adapter, "merged": merged}


def check_products(loaded: "Loaded", family: str) -> None:
    """Refuse an adapter beside products whose inputs are rounded by the format of each weight, as in llama.cpp.

    Args:
        loaded: the weights.
        family: whose noise floor is taken.

    Raises:
        BadInput: there the adapter's part is another product, of other formats.
    """
    if loaded.adapter is not None and members_of(family)[0][0].by_weight:
        want = "none in the arithmetic of llama.cpp, or --policy float32"
        raise wanted("adapter", "compare", want, loaded.adapter)
