"""Capture a Hugging Face transformers model, as it is: also one that its owner has patched. Extra: [transformers]."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ref.errors import wanted
from ref.model.taps import tap_names
from ref.verify.capture.transformers_listen import listening, tower_of
from ref.verify.dump import DumpWriter
from ref.weights.config_files import config_from_hugging_face
from ref.weights.vision_config import vision_from_hugging_face

INSTALL = 'pip install "gemma3-ref[transformers]"'


def capture(
    model,
    ids,
    out_dir: str | Path,
    *,
    pixel_values=None,
    token_type_ids=None,
    left_pads: Sequence[int] | None = None,
    steps: int = 0,
    weights: str | None = None,
    taps: Sequence[str] = ("*",),
) -> Path:
    """Run a model on token ids and write every tap of it as a dump.

    Args:
        model: any loaded Gemma 3 of transformers; its attention implementation and dtype are left as they are.
        ids: [T] or [B, T] integers. Each row is its own pass of the dump.
        out_dir: where the dump will be; must not exist or be empty.
        pixel_values: [images, C, Y, X], in the order of their soft tokens.
        token_type_ids: as ids, 1 at soft tokens; made from the ids where there are pixels and none is given.
        left_pads: pads before each row; mask and positions are then those that `generate` makes.
        steps: greedy cached decode steps after the prompt, each a pass of its own.
        weights: what the dump says of the weights' name, as `--weights` takes it.
        taps: patterns of the taps to keep.

    Returns:
        out_dir. A fused implementation shows no scores and probabilities, so they are not there.

    Raises:
        BadInput: ids of another shape, no tap matches, the folder is in use.

    Source: transformers 5.23 `modeling_gemma3.py`, `modeling_siglip.py`.
    Differs: transformers' own debugger writes modules' outputs only, and compares nothing.
    """
    rows = np.asarray(ids)
    rows = rows[None] if rows.ndim == 1 else rows
    pads = [0] * len(rows) if left_pads is None else [int(n) for n in left_pads]
    if rows.ndim != 2 or rows.dtype.kind not in "iu" or not rows.size or len(pads) != len(rows):
        raise wanted("token ids", "capture", "integers [T] or [B, T], and a number of pads a row", list(rows.shape))
    text, vision = _configs(model)
    names = tap_names(text.layers, steps > 0, vision.layers if vision and pixel_values is not None else 0)
    if not any(fnmatchcase(name, pattern) for name in names for pattern in taps):
        raise wanted("taps", "capture", "a pattern that matches a tap, such as 'text.layer.0.*'", list(taps))
    writer = DumpWriter(Path(out_dir), _model(model, text, vision, weights), _policy(model), _producer())
    try:
        _Running(model, writer, rows, pads, steps, taps, names).run(pixel_values, token_type_ids)
        return writer.close()
    except BaseException:
        writer.abandon()
        raise


def _producer() -> dict[str, str]:
    import transformers

    return {"name": "transformers", "version": transformers.__version__}


def _configs(model):
    content = model.config.to_dict()
    where = type(model).__name__
    text = config_from_hugging_face(content, where)
    vision = vision_from_hugging_face(content, text, where) if tower_of(model) is not None else None
    return text, vision


def _model(model, text, vision, weights: str | None) -> dict[str, Any]:
    held = {"name": weights or "not said", "dtype": _dtype(model), "sha256": None}
    return {"config": text._asdict() | ({"vision": vision._asdict()} if vision else {}), "weights": held}


def _dtype(model) -> str:
    return str(model.dtype).removeprefix("torch.")


def _policy(model) -> dict[str, str]:
    names = dict.fromkeys(("compute_dtype", "matmul_activations", "kv_dtype"), _dtype(model))
    return names | {"rope_angle": "float32", "attention_impl": str(model.config._attn_implementation)}


class _Running:
    """The passes of one capture: what is heard goes to the writer at once, or with several rows row by row."""

    def __init__(self, model, writer, rows, pads, steps, taps, names):
        self.model, self.writer, self.rows, self.pads, self.steps = model, writer, rows, pads, steps
        self.taps, self.names = taps, set(names)
        self.held: list[list[dict[str, np.ndarray]]] = [[] for _ in rows]  # of each row, its passes
        self.images: list[slice] = [slice(None)] * len(rows)

    def wants(self, name: str) -> bool:
        return name in self.names and any(fnmatchcase(name, pattern) for pattern in self.taps)

    def report(self, name: str, value) -> None:
        if not self.wants(name):
            return
        array = to_numpy(value.detach())
        if name.endswith("attn.visible"):
            array = array.astype(bool)
        if len(self.rows) == 1:
            self.writer.add_tensor(name, self._ranges(name, array, 0))
            return
        for number, row in enumerate(self.held):
            part = array[self.images[number]] if name.startswith("vision.") else array[number : number + 1]
            row[-1][name] = self._ranges(name, np.array(part), number)

    def _ranges(self, name: str, array: np.ndarray, row: int) -> np.ndarray:
        if not name.endswith("attn.visible"):
            return array
        return ranges_of(array, self.total, self.pads[row])

    def run(self, pixels, types) -> None:
        import torch

        c = self.model.config.get_text_config()
        soft = self._soft(pixels, types)
        cache = self._cache() if self.steps else None
        todo, cached, described = self.rows, 0, []
        with torch.inference_mode():
            for step in range(self.steps + 1):
                self.total = cached + todo.shape[1]
                for row in self.held:
                    row.append({})
                seen = {}
                if pixels is not None and step == 0:
                    seen = {"pixel_values": pixels.to(self.model.dtype), "token_type_ids": torch.tensor(soft).long()}
                with listening(self.model, self.report, self.wants):
                    out = self.model(
                        input_ids=torch.tensor(todo).long(),
                        past_key_values=cache,
                        use_cache=cache is not None,
                        **self._placing(cached, todo.shape[1]),
                        **seen,
                    )
                self.report("text.logits", out.logits)
                described.append(self._describe(todo, cached, soft if step == 0 else None, c))
                if len(self.rows) == 1:
                    self.writer.end_pass(described[-1][0], to_pixels(pixels) if seen else None)
                cached, todo = self.total, out.logits[:, -1].argmax(-1)[:, None].cpu().numpy()
        if len(self.rows) > 1:
            self._write_rows(described, pixels)

    def _cache(self):
        from transformers import DynamicCache

        return DynamicCache(config=self.model.config.get_text_config())

    def _soft(self, pixels, types) -> np.ndarray:
        if pixels is None:
            return np.zeros(self.rows.shape, bool)
        token = getattr(self.model.config, "image_token_id", None) or self.model.config.image_token_index
        soft = self.rows == token if types is None else np.asarray(types).reshape(self.rows.shape) == 1
        per_image = self.model.config.mm_tokens_per_image
        ends = np.cumsum([0, *(soft.sum(1) // per_image)])
        self.images = [slice(int(a), int(b)) for a, b in pairwise(ends)]
        return soft

    def _placing(self, cached: int, count: int) -> dict[str, Any]:
        """Return mask and positions, where there are pads."""
        import torch

        if not any(self.pads):
            return {}
        key, pads = torch.arange(cached + count)[None], torch.tensor(self.pads)[:, None]
        return {"attention_mask": (key >= pads).long(), "position_ids": (key[:, cached:] - pads).clamp(min=0)}

    def _describe(self, todo, cached: int, soft, c) -> list[dict[str, Any]]:
        rows = []
        for number, (ids, pads) in enumerate(zip(todo, self.pads, strict=True)):
            positions = [max(-1, key - pads) for key in range(cached, cached + len(ids))]
            blocks = _runs(soft[number], cached) if soft is not None else []
            row = {"ids": [int(i) for i in ids], "positions": positions, "cached": cached}
            rows.append(row | {"image_blocks": blocks, "left_pads": pads})
        return rows

    def _write_rows(self, described, pixels) -> None:
        for number, passes in enumerate(self.held):
            for step, tensors in enumerate(passes):
                here = pixels[self.images[number]] if pixels is not None and step == 0 else None
                kept = to_pixels(here) if here is not None and len(here) else None
                self.writer.add_pass(tensors, described[step][number], kept)


def _runs(soft: np.ndarray, cached: int) -> list[list[int]]:
    """List the runs of soft tokens as [start, stop] key indices."""
    out, place = [], cached
    for is_soft, some in groupby(soft):
        length = len(list(some))
        if is_soft:
            out.append([place, place + length])
        place += length
    return out


def to_numpy(value) -> np.ndarray:
    """Return a tensor's values bit by bit; bfloat16 as `ml_dtypes.bfloat16`."""
    import ml_dtypes
    import torch

    value = value.cpu().contiguous()
    if value.dtype == torch.bfloat16:
        return value.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return value.numpy()


def to_pixels(pixels) -> np.ndarray:
    """Return pixels as float32, which holds every narrower format."""
    return pixels.detach().cpu().float().numpy()


def ranges_of(matrix: np.ndarray, total: int, pads: int) -> np.ndarray:
    """Turn what each query sees into ranges of key indices, where each row is one range; else leave it a matrix.

    Args:
        matrix: [1, T, S] bool; the last column is the newest key.
        total: keys after the pass.
        pads: left pads of the row; what a pad sees does not matter.

    Returns:
        [1, T, 2] int64, or the matrix.
    """
    T, S = matrix.shape[1:]
    start = matrix.argmax(-1)
    stop = np.where(matrix.any(-1), S - matrix[..., ::-1].argmax(-1), start)
    key = np.arange(S)
    one = (((key >= start[..., None]) & (key < stop[..., None])) == matrix).all(-1)
    real = total - T + np.arange(T) >= pads
    if not one[:, real].all():
        return matrix
    ranges = np.stack([start, stop], -1) + total - S
    index = total - T + np.arange(T)
    return np.where(real[None, :, None], ranges, index[None, :, None]).astype(np.int64)


def capture_weights(
    weights: str,
    prompts: Sequence[Sequence[int]],
    out: Path,
    *,
    dtype: str = "float32",
    steps: int = 0,
    attention: str | None = None,
    taps: Sequence[str] = ("*",),
    pixels: np.ndarray | None = None,
) -> Path:
    """Write a dump of transformers on weights as the command line names them.

    Args:
        weights: as `--weights`.
        prompts: token ids; several must have one length.
        out: where; empty or new.
        dtype: float32, bfloat16, float16 or float64.
        steps: greedy cached decode steps.
        attention: `eager` (the default) or `sdpa`.
        taps: as `capture`.
        pixels: [images, C, Y, X].

    Returns:
        out.

    Raises:
        BadInput: transformers is missing; another attention; prompts of several lengths; as `capture`.
    """
    from ref.verify.capture.transformers_model import build_model

    if len({len(prompt) for prompt in prompts}) > 1:
        raise wanted("prompts", "capture", "of one length, as a batch", sorted({len(p) for p in prompts}))
    model = build_model(weights, dtype, attention or "eager")
    seen = {}
    if pixels is not None:
        import torch

        seen = {"pixel_values": torch.from_numpy(pixels)}
    return capture(model, np.array(prompts), out, steps=steps, weights=weights, taps=taps, **seen)
