"""LoRA adapters as PEFT saves them: `adapter_config.json` and `adapter_model.safetensors`, put on loaded weights."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ref.errors import wanted
from ref.model.params import LayerParams, TextParams
from ref.ops.linear import Weight, widen
from ref.untrusted import quoted
from ref.weights.adapted import Factors, adapted
from ref.weights.config_files import read_json
from ref.weights.load import LazyLayers
from ref.weights.names import EMBEDDING, HEAD, HUGGING_FACE_PREFIXES, LAYER_NAMES
from ref.weights.resolve import Loaded
from ref.weights.safetensors_file import SafetensorsFile, open_safetensors

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
OUTER = "base_model.model."  # PeftModel and LoraModel
# what would make it another sum than W + (alpha / r) B A; PEFT writes these values, or is silent
PLAIN: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "use_dora": (False, None),
    "use_qalora": (False, None),
    "bias": ("none", None),
    "lora_bias": (False, None),
    "fan_in_fan_out": (False, None),
    "modules_to_save": (None, []),
    "trainable_token_indices": (None, {}),
    "layer_replication": (None,),
    "target_parameters": (None, []),
    "alora_invocation_tokens": (None,),
    "rank_pattern": (None, {}),
    "alpha_pattern": (None, {}),
}
FIELDS = {module: field for field, (module, _) in LAYER_NAMES.items() if "norm" not in module}
PAIRS = ((".lora_A.weight", ".lora_B.weight"), (".lora_embedding_A", ".lora_embedding_B"))


class Adapter(NamedTuple):
    """An adapter of the text model."""

    name: str
    factors: Mapping[tuple[str, int | None], Factors]  # by field and layer, None outside layers


def read_adapter(folder: str | Path) -> Adapter:
    """Read an adapter.

    Args:
        folder: what PEFT's `save_pretrained` wrote.

    Raises:
        BadInput: a file missing or broken, another kind of adapter than plain LoRA, matrices that do not go together,
            one on a part that is none of the text model's matrices.

    Source: peft 0.18.1 `LoraLayer`, `get_peft_model_state_dict`.
    Differs: copies of whole modules (`modules_to_save`), DoRA, biases and ranks by module are refused. The base's own
        tables, which PEFT saves beside adapters on them, are left alone.
    """
    folder = Path(folder)
    config = read_json(folder / CONFIG)
    for key, values in PLAIN.items():
        if config.get(key) not in values:
            raise wanted(
                key, folder / CONFIG, f"{values[0]}: plain LoRA alone is known here", quoted(str(config.get(key)))
            )
    file = open_safetensors(folder / TENSORS)
    factors, used = {}, set[str]()
    for first, second in PAIRS:
        for name in (name for name in file.names() if name.endswith(first)):
            module, other = name.removesuffix(first), name.removesuffix(first) + second
            if not file.has(other):
                raise wanted(f"tensor {quoted(other)}", folder / TENSORS, f"one beside {quoted(name)}", "none")
            factors[_place(module, folder / TENSORS)] = _factors(file, name, other, config, folder)
            used |= {name, other}
    rest = [name for name in file.names() if name not in used and not name.endswith(".base_layer.weight")]
    if rest or not factors:
        got = f"{len(rest)} others, first {quoted(rest[0])}" if rest else "none of them"
        raise wanted("tensors", folder / TENSORS, "lora_A and lora_B of matrices", got)
    return Adapter(folder.resolve().name, factors)


def _place(module: str, where: Path) -> tuple[str, int | None]:
    """Return field and layer of a module's name."""
    inner = module.removeprefix(OUTER)
    if inner.endswith("lm_head"):
        return HEAD, None
    for prefix in HUGGING_FACE_PREFIXES:
        if inner == prefix + "embed_tokens":
            return EMBEDDING, None
        found = re.fullmatch(re.escape(prefix) + r"layers\.([0-9]{1,4})\.(.+)", inner)
        if found and found[2] in FIELDS:
            return FIELDS[found[2]], int(found[1])
    raise wanted("adapted module", where, "a matrix of the text model", quoted(inner))


def _factors(file: SafetensorsFile, a: str, b: str, config: Mapping[str, Any], folder: Path) -> Factors:
    left, right = (np.asarray(widen(file.array(name)), np.float32) for name in (a, b))
    if left.ndim != 2 or right.ndim != 2 or len(left) != right.shape[1]:
        want = f"[O, {len(left) if left.ndim else 0}], of the rank of {quoted(a)}"
        raise wanted(f"tensor {quoted(b)}", folder / TENSORS, want, list(right.shape))
    alpha, rank = config.get("lora_alpha"), config.get("r")
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not 0 < abs(alpha) < 1e30:
        raise wanted("lora_alpha", folder / CONFIG, "a number", quoted(str(alpha)))
    if not rank or rank != len(left):
        raise wanted("r", folder / CONFIG, f"{len(left) or 'at least 1'}, the rank of {quoted(a)}", quoted(str(rank)))
    scale = alpha / (math.sqrt(len(left)) if config.get("use_rslora") else len(left))
    if a.endswith(PAIRS[1][0]):  # of a table: [r, V] and [D, r], added to rows
        left, right = right.T, left.T
    return Factors(np.ascontiguousarray(left), np.ascontiguousarray(right), scale)


def with_adapter(loaded: Loaded, adapter: Adapter, merged: bool = False) -> Loaded:
    """Put an adapter on weights; nothing large is read or made yet.

    Args:
        loaded: the base, from `ref.load`.
        adapter: from `read_adapter`.
        merged: whether the producer added both up before it ran, so that the sum was rounded to the weights' dtype.

    Raises:
        BadInput: matrices of other shapes, layers that are not there, or a merged one of a tied embedding.

    Source: peft 0.18.1: an adapter on one of two tied matrices leaves the other as it was, until it is merged.
    """
    text, at = loaded.params, adapter.factors
    for _, layer in at:
        if layer is not None and layer >= len(text.layers):
            raise wanted("layer", f"adapter {adapter.name}", f"below {len(text.layers)}", layer)
    ends = {field for field, layer in at if layer is None}
    if merged and ends and text.head is None:
        want = "one on layers alone, since embedding and head are tied: merging may change both"
        raise wanted("merged adapter", f"adapter {adapter.name}", want, f"one on the {' and the '.join(sorted(ends))}")

    def of(field: str, layer: int | None, weight: Weight) -> Weight:
        factors = at.get((field, layer))
        if factors is None:
            return weight
        shape = [len(factors.b), factors.a.shape[1]]
        if list(weight.shape) != shape:
            where = f"adapter {adapter.name}: {field}" + ("" if layer is None else f" of layer {layer}")
            raise wanted("shape", where, list(weight.shape), shape)
        return adapted(weight, factors, merged)

    def build(i: int) -> LayerParams:
        layer = text.layers[i]
        return layer._replace(**{field: of(field, i, getattr(layer, field)) for field in FIELDS.values()})

    params: TextParams = text._replace(layers=LazyLayers(len(text.layers), build))
    for i in {layer for _, layer in at if layer is not None}:
        build(i)  # shapes are looked at now
    if ends:
        params = params._replace(embedding=of(EMBEDDING, None, text.embedding), head=of(HEAD, None, text.unembedding))
    return loaded._replace(params=params, adapter=adapter.name)
