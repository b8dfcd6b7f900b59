"""From a file's tensors to `VisionParams`: of a Hugging Face folder, or of the mmproj file that goes with a GGUF."""

from collections.abc import Callable, Collection
from pathlib import Path

from ref.config import VisionConfig
from ref.model.params import VisionLayerParams, VisionParams, vision_layer_shapes, vision_shapes
from ref.ops.blocks import Blocks
from ref.weights.gguf import GgufFile, open_gguf
from ref.weights.load import LazyLayers, Report, TensorSource, check_tensors, gain, plain
from ref.weights.names import (
    MATRICES,
    PROJECTOR_PREFIXES,
    TOWER_PREFIXES,
    VISION_NAMES,
    mmproj_name,
    vision_name,
)
from ref.weights.vision_config import vision_from_gguf

NameOf = Callable[[str, int | None], str]  # from (field, layer or None) to the foreign name


def vision_names(names: Collection[str]) -> tuple[NameOf, str]:
    """Find the prefixes that a folder's tensors of tower and projector lie under.

    Args:
        names: of all tensors.

    Returns:
        From (field, layer or None) to the name; and the tower's prefix.

    Source: transformers 5.23 `conversion_mapping.py` (llava).
    Differs: transformers 5 writes `vision_tower.` without the inner `vision_model.` that the released files have.
    """

    def first(prefixes):
        return next((p for p in prefixes if any(name.startswith(p) for name in names)), prefixes[0])

    tower, projector = first(TOWER_PREFIXES), first(PROJECTOR_PREFIXES)
    return lambda field, layer: vision_name(field, layer, tower, projector), tower


def wanted_vision_shapes(v: VisionConfig, text_width: int, name_of: NameOf) -> dict[str, tuple[int, ...]]:
    """List the shape that each tensor of tower and projector must have in a file, under its foreign name.

    Args:
        v: the configuration.
        text_width: D of the text model.
        name_of: see `ref.weights.names`.

    Source: `vision_shapes`, `vision_layer_shapes`; the released safetensors headers.
    Differs: files keep the patch weight as [D, C, patch, patch].
    """
    outside = vision_shapes(v, text_width) | {"patch": (v.width, v.channels, v.patch, v.patch)}
    inside = vision_layer_shapes(v)
    shapes = {name_of(field, None): outside[field] for field in VISION_NAMES}
    return shapes | {name_of(field, i): shape for i in range(v.layers) for field, shape in inside.items()}


def build_vision(source: TensorSource, v: VisionConfig, name_of: NameOf, gguf_norms: bool = False) -> VisionParams:
    """Assemble tower and projector of checked tensors, block by block, as views of the file where that is possible.

    Args:
        source: the file; `check_tensors` has passed.
        v: the configuration.
        name_of: as `wanted_vision_shapes`.
        gguf_norms: the file stores the projector's norm as 1 + w; 1 is taken off again.

    Source: transformers 5.23; llama.cpp `Gemma3VisionModel.modify_tensors` (+ 1 on `soft_emb_norm` alone).
    Differs: the tower's LayerNorms have no + 1 anywhere.
    """

    def get(field: str, layer: int | None):
        array = source.array(name_of(field, layer))
        if field == "soft_norm":
            return gain(array, gguf_norms)
        if field == "patch":  # C, then row and column in the patch, as the patches of the pixels are laid out
            return (plain(array) if isinstance(array, Blocks) else array).reshape(v.width, -1)
        if field in MATRICES:
            return array
        return plain(array) if field == "position" else plain(array).reshape(-1)

    def build(i: int) -> VisionLayerParams:
        return VisionLayerParams(**{field: get(field, i) for field in VisionLayerParams._fields})

    return VisionParams(v, layers=LazyLayers(v.layers, build), **{field: get(field, None) for field in VISION_NAMES})


def load_mmproj(path: Path, text_width: int, file: GgufFile | None = None) -> tuple[VisionParams, Report]:
    """Open the file that holds the eye of a GGUF model.

    Args:
        path: of the mmproj file.
        text_width: D of the text model.
        file: the file, where it is open already.

    Returns:
        (VisionParams, Report).

    Raises:
        BadInput: as `open_gguf`, `vision_from_gguf` and `check_tensors`.

    Source: llama.cpp `tools/mtmd/clip.cpp`.
    Differs: `mm.input_projection.weight` is [D of the tower, D of the text] as in safetensors, used as x @ w, unlike
        every other matrix of the file.
    """
    file = file or open_gguf(path)
    v = vision_from_gguf(file.metadata, text_width, path)
    name_of = mmproj_names(file, v)
    report = check_tensors(file, wanted_vision_shapes(v, text_width, name_of), lambda name: False, path)
    return build_vision(file, v, name_of, gguf_norms=True), report


EXCHANGED = {"up": "down", "up_bias": "down_bias", "down": "up", "down_bias": "up_bias"}


def mmproj_names(file: GgufFile, v: VisionConfig) -> NameOf:
    """Return the names of an mmproj file; the shape of a matrix tells whether the file calls fc1 `ffn_down`.

    Args:
        file: the open file.
        v: its configuration.

    Source: llama.cpp `tools/mtmd/clip.cpp`, which exchanges the two by the same sign.
    Differs: files of March 2025 have the names of older CLIP conversions.
    """
    up = mmproj_name("up", 0)
    if up not in file.tensors or v.width == v.ffn_width or file.shape(up) != (v.width, v.ffn_width):
        return mmproj_name
    return lambda field, layer: mmproj_name(EXCHANGED.get(field, field), layer)
