"""Run google-deepmind/gemma in JAX and write every tap of it as a dump.

    python3.11 -m venv JAX; JAX/bin/pip install --no-deps -r golden/make/requirements-gemma-jax.txt

What gemma 3.3.0 computes, read in `gm/nn/_modules.py`, `_layers.py`, `gm/math/_positional_embeddings.py` and measured
on the CPU with JAX 0.9.0: a NumPy emulation of the lines below is bit-equal, but for the order of sums in products and,
in one value in a thousand of RoPE, an ulp of float32's power, sine and cosine. It computes in the dtype of its
parameters, with no cast anywhere but in RoPE. r() rounds to that dtype; with float32 parameters it does nothing.

    embed       r(table[id] * r(sqrt(D)))
    norms       v = r(r(mean(r(x * x))) + r(1e-6)), the mean summed in float32; r(r(x * r(1 / sqrt(v))) * r(1 + w))
    products    operands as they are, sums in float32, r() of the sum: q, k, v, out, gate, up, down, the tied head,
                scores and mix
    RoPE        angle = position / base^(2j/H) / factor, its sine and cosine and the rotation in float32, one r() at the
                end; it is unscaled
    scores      q = r(q_rope * r(scale)), then the product
    softmax     d = r(s - max), e = r(exp(d)), r(e / r(sum(e))), the sum in float32; a masked s is r(-2.3819763e38)
    GELU        r() after each of: x*x, *x, *r(0.044715), x+, *r(sqrt(2/pi)), tanh, 1+, 0.5*, x*; then r(gelu * up)
    residuals   r(a + b)
    cache       holds keys after RoPE and values in the same dtype; every key, in local layers too

Compiled (`jit`, which its `__call__` always is) with `xla_allow_excess_precision`, XLA's default, two roundings are
gone, those of a value that is only summed: r(x * x) before the mean of a norm, and r(exp(d)) inside the sum (e itself
is rounded). Nothing else is. With `XLA_FLAGS=--xla_allow_excess_precision=false`, or op by op (`compiled=False`), every
rounding above is made; between these two only the order of a product's sum differs, one logit in 12 prompts of `tiny`.
Listening changes no bit of the logits.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ref.capture.common import aligned, check_prompts, pads_of
from ref.capture.gemma.listen import Listener
from ref.capture.gemma.model import Parts, config_of, import_gemma, model_of, params_of
from ref.config import TextConfig
from ref.dump.write import DumpWriter
from ref.errors import wanted
from ref.model.taps import tap_names
from ref.weights.resolve import load, weights_name

DTYPES = ("float32", "bfloat16", "float16")


class _Running(NamedTuple):
    """A model on its parameters, who listens to it and where the dump goes."""

    parts: Parts
    model: Any
    params: Any
    config: TextConfig
    dtype: str
    listener: Listener
    writer: DumpWriter


def capture(
    model: Any,
    params: Any,
    ids: Sequence[Any],
    out_dir: str | Path,
    *,
    steps: int = 0,
    weights: dict[str, Any] | None = None,
    config: TextConfig | None = None,
    compiled: bool = True,
    taps: Sequence[str] = ("*",),
) -> Path:
    """Write a dump of a google-deepmind/gemma model running prompts.

    Args:
        model: `gm.nn.Gemma3_270M()` or any other `Transformer` of Gemma 3, patched or not; its text part is run.
        params: its parameters, the tree that `model.apply({"params": params}, ...)` takes.
        ids: [T] token ids of one prompt, or a list of prompts. 0 is padding to gemma, and may stand on the left.
        out_dir: where the dump will be; must not exist or be empty.
        steps: greedy cached decode steps after each prompt, each a pass of its own.
        weights: what the dump says of the weights, {"name", "dtype", "sha256"}.
        config: what the dump says of the model; by default read from `model.config`.
        compiled: as its users run it; False runs every primitive by itself.
        taps: patterns of the taps to keep.

    Returns:
        out_dir. Each pass has the taps of `ref.model.taps` in the dtype of the parameters, bit for bit, except
        `attn.visible` (read from the mask where it meets the scores).

    Raises:
        BadInput: gemma is missing, the model is no Gemma 3, ids out of range or padded within, no tap matches, the
            folder is in use.

    Source: google-deepmind/gemma 3.3.0; flax `intercept_methods` and `sow`.
    Differs: `gm.text.Sampler` runs the last token of a prompt again as its first step.
    """
    parts = import_gemma()
    prompts = [ids] if len(ids) and np.ndim(ids[0]) == 0 else ids
    config = config or config_of(parts, model.config)
    check_prompts(prompts, config, steps, taps)
    dtype = str(params["embedder"]["input_embedding"].dtype)
    held = weights or {"name": type(model).__name__, "dtype": dtype, "sha256": None}
    producer = {"name": "gemma", "version": parts.version}
    model_row = {"config": config._asdict(), "weights": held}
    with DumpWriter(Path(out_dir), model_row, _policy(dtype), producer) as writer:
        running = _Running(parts, model, params, config, dtype, Listener(parts, taps), writer)
        with running.listener.listening(), nullcontext() if compiled else parts.jax.disable_jit():
            for prompt in prompts:
                _run(running, [int(token) for token in prompt], steps)
    return writer.folder


def capture_weights(
    weights: str,
    prompts: Sequence[Sequence[int]],
    out: Path,
    *,
    dtype: str = "float32",
    steps: int = 0,
    attention: str | None = None,
    compiled: bool = True,
    taps: Sequence[str] = ("*",),
    left_pads: Sequence[int] | None = None,
) -> Path:
    """Write a dump of google-deepmind/gemma on weights as the command line names them, held as a dtype.

    Args:
        weights: anything that `--weights` takes.
        prompts: token ids.
        out: where; empty or new.
        dtype: float32, bfloat16 or float16; of parameters and computation.
        steps: greedy cached decode steps.
        attention: `eager`, the only one it has.
        compiled: as `capture`.
        taps: as `capture`.
        left_pads: of each prompt, as its zeros on the left say already; None takes those.

    Returns:
        out.

    Raises:
        BadInput: another dtype or attention; and as `capture`.
    """
    if attention not in (None, "eager"):
        raise wanted("attention", "capture", "eager, the only one that google-deepmind/gemma has", attention)
    if dtype not in DTYPES:
        raise wanted("dtype", "capture", ", ".join(DTYPES), dtype)
    own = [pads_of(np.array(prompt)) for prompt in prompts]
    if left_pads is not None and list(left_pads) != own:
        raise wanted("left_pads", "capture", f"{own}, the zeros on the left of each prompt", list(left_pads))
    parts, loaded = import_gemma(), load(weights)
    model = model_of(parts, loaded.params.config, dtype)
    params = params_of(parts, loaded.params, dtype)
    held = {"name": weights_name(weights), "dtype": dtype, "sha256": None}
    more = {"config": loaded.params.config, "compiled": compiled, "taps": taps}
    return capture(model, params, prompts, out, steps=steps, weights=held, **more)


def _run(run: _Running, prompt: list[int], steps: int) -> None:
    """Run a prompt and its steps, a pass each."""
    pads, room = pads_of(np.array(prompt)), len(prompt) + steps
    todo, written = prompt, 0
    cache = run.model.config.init_cache(1, run.parts.jax.numpy.dtype(run.dtype), cache_length=room) if steps else None
    for step in range(steps + 1):
        positions, mask = _places(run, todo, written, pads, room) if steps else (None, None)
        out, heard = run.model.apply(
            {"params": run.params},
            run.parts.jax.numpy.array([todo]),
            positions=positions,
            attention_mask=mask,
            cache=cache,
            mutable=[run.listener.collection],
        )
        cache = out.cache
        _write(run, todo, out, heard, written, pads)
        written += len(todo)
        todo = [int(np.asarray(out.logits[0, -1]).astype(np.float32).argmax())] if step < steps else []


def _places(run: _Running, todo: list[int], written: int, pads: int, room: int):
    """Return positions [1, T] and the mask [1, T, S] of a pass with a cache, as `gm.text` makes them."""
    numpy = run.parts.jax.numpy
    if written:
        index = np.arange(room)
        return numpy.array([[written - pads]]), numpy.array((index >= pads) & (index <= written))[None, None]
    given = run.parts.inputs.Input(text=numpy.array([todo]), images=None, config=run.model.config.input_config)
    return given.positions, numpy.pad(given.attention_mask, ((0, 0), (0, 0), (0, room - len(todo))))


def _write(run: _Running, ids: list[int], out: Any, heard: Any, before: int, pads: int) -> None:
    stop = before + len(ids)
    values = run.listener.values(heard) | {"text.logits": out.logits}
    for name, layer in (out.cache or {}).items():
        prefix = f"text.layer.{name.removeprefix('layer_')}.cache."
        values |= {prefix + one: layer[one] for one in ("k", "v")}
        # a pad's position is 0 there and -1 here
        places = np.where(np.arange(layer["positions"].shape[1]) < pads, -1, np.asarray(layer["positions"], np.int64))
        values[prefix + "positions"] = places
    for tap in tap_names(run.config.layers, cached=True):
        if tap in values and run.listener.recorder.wants(tap):
            run.writer.add_tensor(tap, aligned(tap, np.asarray(values[tap]), run.config, before, stop))
    positions = [-1 if j < pads else j - pads for j in range(before, stop)]
    run.writer.end_pass({"ids": ids, "positions": positions, "cached": before, "image_blocks": [], "left_pads": pads})


def _policy(dtype: str) -> dict[str, str]:
    return {
        "compute_dtype": dtype,
        "matmul_activations": dtype,
        "kv_dtype": dtype,
        "rope_angle": "float32",
        "attention_impl": "eager",
    }
