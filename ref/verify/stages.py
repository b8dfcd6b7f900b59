"""Stages: pieces of the model whose weights are in memory at one time. The judge goes stage by stage."""

from typing import Any, NamedTuple

from ref.model.taps import LAYER_TAPS, MERGED, VISION_LAYER_TAPS, VISION_TAPS
from ref.verify.world import World, prepare


class Stage(NamedTuple):
    """A piece of the model."""

    name: str  # vision.start, vision.layer, vision.end, embed, layer, final, logits
    layer: int | None = None


def stages_of(world: World) -> list[Stage]:
    """List the stages of a pass, in the order of execution; those of the tower only where there are images."""
    see = world.vision.config.layers if world.vision and world.places.any() else 0
    tower = [Stage("vision.start"), *(Stage("vision.layer", i) for i in range(see)), Stage("vision.end")] if see else []
    layers = [Stage("layer", i) for i in range(world.layers)]
    return [*tower, Stage("embed"), *layers, Stage("final"), Stage("logits")]


def taps_of(stage: Stage, cached: bool, images: bool) -> list[str]:
    """List the taps that a stage makes, in the order of execution."""
    if stage.name == "layer":
        names = [name for name in LAYER_TAPS if cached or not name.startswith("cache.")]
        return [f"text.layer.{stage.layer}.{name}" for name in names]
    if stage.name == "vision.layer":
        return [f"vision.layer.{stage.layer}.{name}" for name in VISION_LAYER_TAPS]
    vision = list(VISION_TAPS)
    return {
        "vision.start": vision[:3],
        "vision.end": vision[3:],
        "embed": ["text.embed", *(MERGED if images else ())],
        "final": ["text.final_norm"],
        "logits": ["text.logits"],
    }[stage.name]


def prepare_stage(loaded, stage: Stage, held: str, dtype) -> Any:
    """Return the weights of a stage as float arrays, as the producer held them.

    Args:
        loaded: from `ref.weights.resolve.load`.
        stage: which.
        held: see `ref.verify.world.as_held`.
        dtype: of the arrays.
    """
    weights = stage_weights(loaded, stage)
    return weights if stage.name in ("embed", "logits") else prepare(weights, held, dtype)


def stage_weights(loaded, stage: Stage) -> Any:
    """Return the weights of a stage as they lie in their file."""
    if stage.name == "layer":
        return loaded.params.layers[stage.layer]
    if stage.name == "vision.layer":
        return loaded.vision.layers[stage.layer]
    return loaded.vision if stage.name.startswith("vision") else loaded.params
