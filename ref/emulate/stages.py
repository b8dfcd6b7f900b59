"""Stages: pieces of the model whose weights are in memory at one time. The judge goes stage by stage."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from numpy.typing import DTypeLike

from ref.emulate.arithmetic import Arithmetic
from ref.emulate.one_pass import OnePass, prepare, widened
from ref.model.tap_rows import LAYER_TAPS, MERGED, VISION_LAYER_TAPS, VISION_TAPS

if TYPE_CHECKING:
    from ref.weights.resolve import Loaded


class Stage(NamedTuple):
    """A piece of the model."""

    name: str  # vision.start, vision.layer, vision.end, embed, layer, final, logits
    layer: int | None = None
    last: bool = False  # of its kind

    @property
    def prefix(self) -> str:
        """What the names of the taps begin with that its weights make; empty where a stage has none of its own."""
        if self.layer is not None:
            return f"{'text' if self.name == 'layer' else 'vision'}.layer.{self.layer}."
        return {"vision.start": "vision.", "vision.end": "vision.", "final": "text."}.get(self.name, "")


def stages_of(one_pass: OnePass) -> list[Stage]:
    """List the stages of a pass, in the order of execution; those of the tower only where there are images."""
    see = one_pass.vision.config.layers if one_pass.vision and one_pass.places.any() else 0
    tower = [Stage("vision.layer", i, i == see - 1) for i in range(see)]
    tower = [Stage("vision.start"), *tower, Stage("vision.end")] if see else []
    layers = [Stage("layer", i, i == one_pass.layers - 1) for i in range(one_pass.layers)]
    return [*tower, Stage("embed"), *layers, Stage("final"), Stage("logits")]


_ORDER = ("vision.start", "vision.layer", "vision.end", "embed", "layer", "final", "logits")


def in_order(stages: Iterable[Stage]) -> list[Stage]:
    """List the stages of several passes, each once, in the order of execution."""
    return sorted(set(stages), key=lambda stage: (_ORDER.index(stage.name), stage.layer or 0))


def taps_of(stage: Stage, cached: bool, images: bool) -> list[str]:
    """List the taps that a stage makes, in the order of execution. It ends with what the next layer is given.

    A layer that a dump does not show is judged by what comes out of it, while its weights are still there.
    """
    if stage.layer is not None:
        part, rows = ("text", LAYER_TAPS) if stage.name == "layer" else ("vision", VISION_LAYER_TAPS)
        names = [name for name in rows if name != "in" and (cached or not name.startswith("cache."))]
        after = [] if stage.last else [f"{part}.layer.{stage.layer + 1}.in"]
        return [*(f"{part}.layer.{stage.layer}.{name}" for name in names), *after]
    vision = list(VISION_TAPS)
    return {
        "vision.start": [*vision[:3], "vision.layer.0.in"],
        "vision.end": vision[3:],
        "embed": ["text.embed", *(MERGED if images else ()), "text.layer.0.in"],
        "final": ["text.final_norm"],
        "logits": ["text.logits"],
    }[stage.name]


def prepare_stage(loaded: "Loaded", stage: Stage, held: str, dtype: DTypeLike) -> Any:
    """Return the weights of a stage as float arrays, as the producer held them.

    Args:
        loaded: from `ref.weights.resolve.load`.
        stage: which.
        held: see `ref.emulate.one_pass.as_held`.
        dtype: of the arrays.
    """
    weights = stage_weights(loaded, stage)
    return weights if stage.name in ("embed", "logits") else prepare(weights, held, dtype)


def weights_for(loaded: "Loaded", stage: Stage, held: str, arithmetic: Arithmetic) -> Any:
    """Return the weights of a stage as an arithmetic wants them: as floats of its dtype, or as they lie in their file.

    Args:
        loaded, stage, held: as `prepare_stage`.
        arithmetic: of the runs.
    """
    if arithmetic.by_weight:
        return stage_weights(loaded, stage)
    return prepare_stage(loaded, stage, held, arithmetic.dtype)


def widened_stage(loaded: "Loaded", stage: Stage, held: str, narrow: Any) -> Any:
    """Return the weights of a stage for runs in float64 that multiply in float32.

    Args:
        loaded, stage, held: as `prepare_stage`.
        narrow: what that returns for float32.
    """
    weights = stage_weights(loaded, stage)
    return weights if stage.name in ("embed", "logits") else widened(weights, narrow, held)


def stage_weights(loaded: "Loaded", stage: Stage) -> Any:
    """Return the weights of a stage as they lie in their file."""
    model: Any = loaded.vision if stage.name.startswith("vision") else loaded.params
    return model if stage.layer is None else model.layers[stage.layer]
