"""What is asked of the judge, made ready: dump and weights opened, and what their owner says of them checked."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ref.dump.claims import check_model, differing_settings
from ref.dump.open import Dump, arrays_as_dump, open_dump
from ref.dump.rank_folders import folders_of
from ref.dump.write import read_dump, says_sizes
from ref.errors import BadInput, wanted
from ref.judge.adapters import check_products, put_adapter
from ref.judge.case import Question
from ref.judge.family import check_family, family_of
from ref.judge.stored_format import held_as, values_as_computed
from ref.judge.trust import check_arithmetic, check_digests, source_notes
from ref.ops.visibility import Composition

if TYPE_CHECKING:
    from ref.weights.resolve import Loaded

    Load = Callable[[str, str, str | None], Loaded]

TWO_SIDED = ("gemma", "keras")


class Asked(NamedTuple):
    """A question that is ready to be judged."""

    question: Question
    family: str  # whose runs make the floors
    notes: list[str]  # of the dump
    source_notes: list[str]  # of where the weights came from
    said: dict[str, Any]  # parts of the report: producer, settings, weights
    on_it: dict[str, Any] | None  # the adapter on the weights

    @property
    def opened(self) -> Dump:
        """The dump."""
        return self.question.dump

    @property
    def loaded(self) -> "Loaded":
        """The weights."""
        return self.question.loaded


def ask(
    dump: str | Path | Mapping[str, Any] | Dump,
    weights: str | None = None,
    ids: Sequence[Any] | None = None,
    names: str | None = None,
    mmproj: str | None = None,
    adapter: str | Path | None = None,
    family: str | None = None,
    held: str | None = None,
    composition: Composition | None = None,
    loaded: "Loaded | None" = None,
    load: "Load | None" = None,
) -> Asked:
    """Open a dump and its weights, and check what is said of them.

    Args:
        dump, weights, ids, names, mmproj, adapter, family, held, composition, loaded, load: see `ref.judge.compare`.

    Raises:
        BadInput: as `ref.judge.compare.compare_with_profiles`.
    """
    given = loaded is not None
    names_weights = isinstance(dump, Dump) or (isinstance(dump, (str, Path)) and Path(dump).is_dir())
    if loaded is None and (weights or not names_weights):
        loaded = load_named(weights or "270m", mmproj, load)
    elif loaded is None and isinstance(dump, (str, Path)):
        loaded = _of_folder(Path(dump), mmproj, load)
    opened = _open(dump, ids, names, loaded)
    if loaded is None:
        loaded = load_named(opened.weights.get("name"), mmproj, load)
        opened = _open(dump, ids, names, loaded)  # once more: now the lengths of axes are known, whatever it says
    loaded, on_it = put_adapter(loaded, adapter, opened.adapter, opened.where)
    check_arithmetic(opened, family, held)
    opened, notes = values_as_computed(opened)
    notes += check_digests(opened, loaded)
    check_model(opened, loaded.params.config, loaded.vision.config if loaded.vision else None)
    every = [*(one.tensors for one in opened.passes), *opened.partial.values()]
    heard = {tap: one.dtype for taps in every for tap, one in taps.items()}
    family = family or family_of(opened.policy, str(opened.producer.get("name")), heard)
    check_family(family)
    check_products(loaded, family)
    held = held or held_as(opened)
    composition = composition or ("two_sided" if opened.producer.get("name") in TWO_SIDED else "current")
    chosen, more = source_notes(weights, opened, given)
    said = {"producer": opened.producer, "settings": differing_settings(opened, loaded.params.config)}
    said["weights"] = opened.weights | {"judged_against": loaded.name, "held_as": held, "from": chosen}
    said["weights"] |= {"adapter": on_it} if on_it else {}
    return Asked(Question(opened, loaded, held, composition), family, notes, more, said, on_it)


def _open(dump: Any, ids: Any, names: str | None, loaded: "Loaded | None") -> Dump:
    config: dict[str, Any] | None = loaded.params.config._asdict() if loaded else None
    if config is not None and loaded and loaded.vision:
        config["vision"] = loaded.vision.config._asdict()
    if isinstance(dump, Dump):
        return dump
    if isinstance(dump, Mapping):
        return arrays_as_dump(dump, ids, names, config=config)
    return open_dump(dump, ids, names, config)


def _of_folder(folder: Path, mmproj: str | None, load: "Load | None") -> "Loaded | None":
    """Load the weights that a dump names if it says no sizes: without them merged axes cannot be split."""
    folder = folders_of(folder)[0]  # of several ranks all say the same
    if says_sizes(folder):
        return None
    return load_named(read_dump(folder)["model"]["weights"]["name"], mmproj, load)


def load_named(weights: str | None, mmproj: str | None, load: "Load | None" = None) -> "Loaded":
    """Load weights by the name that a user or a dump gave them, by `load` in the place of `ref.load`.

    Raises:
        BadInput: nobody named any, or see `ref.weights.resolve.load`.
    """
    if load is None:
        from ref.weights.resolve import load
    if not weights or weights == "not said":
        raise wanted("--weights", "compare", "the weights that the dump was made with", "none, and the dump names none")
    try:
        return load(weights, "file", mmproj)
    except BadInput as error:
        raise BadInput(f"{error} (the dump's weights; say which with --weights)") from None
