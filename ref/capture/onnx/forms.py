"""What is exported of a model: which inputs go in, which outputs come out, and which of their lengths are free."""

from typing import Any, NamedTuple

from ref.capture.onnx.files import needs
from ref.capture.transformers.model import import_transformers, text_config, vision_config
from ref.errors import wanted

EXAMPLE = [2, 3, 4, 5, 6, 7]  # ids of the pass that is traced; its length becomes a free one
PAST = 4  # keys that are cached in it


class Form(NamedTuple):
    """A module to be traced."""

    module: Any
    example: tuple[Any, ...]  # its arguments
    shapes: tuple[Any, ...]  # of each, which axes are free
    inputs: list[str]
    outputs: list[str]


def of_ids(model: Any) -> Form:
    """Ids in, logits out."""
    torch, _ = import_transformers()

    class OfIds(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, input_ids):
            return self.model(input_ids=input_ids, use_cache=False).logits

    tokens = torch.export.Dim("tokens", min=1, max=text_config(model).max_positions)
    return Form(OfIds().eval(), (torch.tensor([EXAMPLE]),), ({1: tokens},), ["input_ids"], ["logits"])


def with_cache(model: Any) -> Form:
    """Ids, mask, positions and earlier keys and values in; logits and all keys and values out.

    Every layer keeps every key, and its mask hides those beyond the window, as graphs of optimum do.
    """
    torch, transformers = import_transformers()
    c = text_config(model)

    class WithCache(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, input_ids, attention_mask, position_ids, past):
            cache = transformers.DynamicCache()
            for i, (keys, values) in enumerate(past):
                cache.update(keys, values, i)
            given = {"attention_mask": attention_mask, "position_ids": position_ids, "past_key_values": cache}
            out = self.model(input_ids=input_ids, **given, use_cache=True)
            return out.logits, [(layer.keys, layer.values) for layer in cache.layers]

    shape, free = (1, c.kv_heads, PAST, c.head_dim), torch.export.Dim.DYNAMIC
    past = [(torch.ones(shape, dtype=model.dtype), torch.ones(shape, dtype=model.dtype)) for _ in range(c.layers)]
    total = PAST + len(EXAMPLE)
    example = (torch.tensor([EXAMPLE]), torch.ones(1, total, dtype=torch.int64), torch.arange(PAST, total)[None], past)
    shapes = ({1: free}, {1: free}, {1: free}, [({2: free}, {2: free})] * c.layers)
    kept = [f"{i}.{one}" for i in range(c.layers) for one in ("key", "value")]
    inputs = ["input_ids", "attention_mask", "position_ids", *(f"past_key_values.{one}" for one in kept)]
    return Form(WithCache().eval(), example, shapes, inputs, ["logits", *(f"present.{one}" for one in kept)])


def with_images(model: Any) -> Form:
    """Ids, pixels and token types in, logits out.

    Raises:
        BadInput: a model that does not see.
    """
    torch, _ = import_transformers()
    vision = vision_config(model)
    if vision is None:
        raise wanted("images", "export", "a model with a vision tower", type(model).__name__)

    class WithImages(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, input_ids, pixel_values, token_type_ids):
            given = {"pixel_values": pixel_values, "token_type_ids": token_type_ids}
            return self.model(input_ids=input_ids, **given, use_cache=False).logits

    soft = model.config.image_token_id
    ids = torch.tensor([[*EXAMPLE, *[soft] * 2 * vision.soft_tokens, *EXAMPLE]])
    pixels = torch.zeros(2, vision.channels, vision.image, vision.image, dtype=model.dtype)  # of 1 its number is kept
    free = torch.export.Dim.DYNAMIC
    names = ["input_ids", "pixel_values", "token_type_ids"]
    example = (ids, pixels, (ids == soft).long())
    return Form(WithImages().eval(), example, ({1: free}, {0: free}, {1: free}), names, ["logits"])


FORMS = {"ids": of_ids, "cache": with_cache, "images": with_images}


def without_checks(torch: Any) -> dict[Any, Any]:
    """Return how to write what the exporter knows no operation for: whether every value of a check is true.

    Source: transformers 5.23 `torch_compilable_check`, which Gemma 3 calls where images and soft tokens are counted.
    """
    op = needs("onnxscript").opset18
    integer, boolean = 7, 9  # of ONNX

    def every(values: Any) -> Any:
        return op.Cast(op.ReduceMin(op.Cast(values, to=integer), keepdims=0), to=boolean)

    return {torch.ops.aten._is_all_true.default: every}
