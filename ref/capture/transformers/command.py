"""What `gemma3-ref capture transformers` runs: weights by their name, and prompts as rows, turns or chunks."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ref.capture.transformers.adapters import put_adapter
from ref.capture.transformers.model import build_model, import_transformers
from ref.capture.transformers.run import check_batch
from ref.capture.transformers.turns import Turn, capture_turns
from ref.capture.transformers.write_dump import write
from ref.config import PAD
from ref.errors import wanted


def capture_weights(
    weights: str,
    prompts: Sequence[Sequence[int]],
    out: Path,
    *,
    dtype: str = "float32",
    steps: int = 0,
    attention: str | None = None,
    n_threads: int | None = None,
    taps: Sequence[str] = ("*",),
    pixels: np.ndarray | None = None,
    mmproj: str | None = None,
    left_pads: Sequence[int] | None = None,
    pad: str | None = None,
    cache: str | None = None,
    turn: Sequence[Sequence[int]] = (),
    chunk: int | None = None,
    prefix: int | None = None,
    adapter: str | None = None,
    merged: str = "no",
) -> Path:
    """Write a dump of transformers on weights as the command line names them.

    Args:
        weights: as `build_model`.
        prompts: token ids; each is run for itself.
        out: where; empty or new.
        dtype: float32, bfloat16, float16 or float64.
        steps: greedy cached decode steps after each prompt.
        attention: `eager` (the default) or `sdpa`.
        n_threads: of torch; None uses every core.
        taps: as `capture`.
        pixels: [images, C, Y, X] of the only prompt, or of one batch in the order of its soft tokens.
        mmproj: the vision tower of a `.gguf` file.
        left_pads: of each prompt; all are then rows of one batch, of one length. None runs each for itself.
        pad: `left` or `right`: the prompts are rows of one batch, the shorter ones padded there.
        cache: as `capture`.
        turn: token ids of each turn after the only prompt, on the cache that those before it left.
        chunk: how many tokens of the prompt and of each turn are run at a time.
        prefix: how many tokens of the prompt were cached before, of which only the keys are wanted.
        adapter: folder of a LoRA adapter on the weights, as PEFT saves it.
        merged: `yes` adds it to the weights before they run.

    Returns:
        out.

    Raises:
        BadInput: as `build_model`, `put_adapter`, `capture` and `capture_turns`; merged without adapter; images beside
            several prompts; turns, chunks or a prefix of several prompts or beside steps; a chunk or prefix of no
            token, or a prefix of all.
    """
    import_transformers()
    talks = bool(turn) or chunk is not None or prefix is not None
    if pixels is not None and len(prompts) != 1 and left_pads is None and pad is None:
        raise wanted("prompt", "capture", "one beside images", f"{len(prompts)} prompts")
    if talks:
        _check_turns(prompts, steps, chunk, prefix, rows=left_pads is not None or pad is not None)
    if merged == "yes" and adapter is None:
        raise wanted("--merged", "capture", "--adapter beside it", "none")
    rows, pads = _padded(prompts, left_pads, pad)
    model = build_model(weights, dtype, attention or "eager", mmproj)
    model = model if adapter is None else put_adapter(model, adapter, merged == "yes")
    with _threads(n_threads):
        if talks:
            turns = _turns(model, [prompts[0], *turn], chunk, prefix, pixels)
            return capture_turns(model, turns, out, cache=cache, weights=weights, taps=taps)
        alone = [check_batch(model, prompt, pixels, None, None) for prompt in prompts] if pads is None else []
        batches = alone or [check_batch(model, rows, pixels, None, **(pads or {}))]
        return write(model, batches, out, steps, cache, weights, taps)


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Have torch use so many threads until the end of a `with` statement; None leaves them."""
    torch, _ = import_transformers()
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _padded(prompts: Sequence[Sequence[int]], left: Sequence[int] | None, side: str | None) -> tuple[Any, Any]:
    """Return the rows of one batch and its pads as `check_batch` takes them; None of prompts that are no batch."""
    if side is None:
        return prompts, None if left is None else {"left_pads": left}
    longest = max(map(len, prompts))
    pads = [longest - len(prompt) for prompt in prompts]
    if side == "left":
        rows = [[PAD] * count + list(prompt) for count, prompt in zip(pads, prompts, strict=True)]
        return rows, {"left_pads": pads}
    rows = [list(prompt) + [PAD] * count for count, prompt in zip(pads, prompts, strict=True)]
    return rows, {"left_pads": None, "right_pads": pads}


def _check_turns(prompts: Any, steps: int, chunk: int | None, prefix: int | None, rows: bool) -> None:
    flags = "--turn, --chunk and --prefix"
    if len(prompts) != 1 or rows:
        raise wanted("prompt", "capture", f"one alone beside {flags}", f"{len(prompts)}{' rows of a batch' * rows}")
    if steps:
        raise wanted("max-new-tokens", "capture", f"0 beside {flags}", steps)
    if chunk is not None and chunk < 1:
        raise wanted("chunk", "capture", "1 token or more", chunk)
    if prefix is not None and not 0 < prefix < len(prompts[0]):
        raise wanted("prefix", "capture", f"1 to {len(prompts[0]) - 1}, of the prompt's {len(prompts[0])}", prefix)


def _turns(model: Any, texts: Sequence[Any], chunk: int | None, prefix: int | None, pixels: Any) -> list[Turn]:
    """Cut a prompt and its turns into what is run at a time, each with the images among it."""
    first, *others = map(list, texts)
    parts = [(first[:prefix], False), (first[prefix:], True)] if prefix else [(first, True)]
    turns, seen = [], 0
    for text, heard in [*parts, *((one, True) for one in others)]:
        for start in range(0, len(text), chunk or len(text)):
            ids = text[start : start + (chunk or len(text))]
            count = _images_of(model, ids) if pixels is not None else 0
            own = pixels[seen : seen + count] if pixels is not None and count else None
            turns.append(Turn(ids, own, heard=heard))
            seen += count
    return turns


def _images_of(model: Any, ids: list[int]) -> int:
    """Count images of which a soft token is among ids; one that is cut is refused when it is run."""
    soft, each = getattr(model.config, "image_token_id", -1), getattr(model.config, "mm_tokens_per_image", 1)
    return -(-ids.count(soft) // each)
