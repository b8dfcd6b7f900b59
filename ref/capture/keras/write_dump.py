"""Run keras-hub's Gemma 3 and write every tap of it as a dump.

    pip install keras-hub                    # and a backend: TensorFlow, JAX or PyTorch; KERAS_BACKEND chooses

What keras-hub 0.31.0 computes op by op, read in `models/gemma3/*.py` and `layers/modeling/rotary_embedding.py` and
measured on the CPU with TensorFlow 2.21 and JAX 0.9: a NumPy emulation of the lines below is equal but for the order of
sums, and float32 functions to an ulp. r() rounds to the dtype of the model; with float32 it does nothing.

    embed       r(table[id] * r(sqrt(D)))
    norms       float32 throughout: r(x * (1 / sqrt(mean(x * x) + 1e-6)) * (1 + w))
    products    operands as they are, sums in float32, r() of the sum: q, k, v, out, gate, up, down, the tied head,
                scores and mix
    RoPE        angle = position * (base^(-2j/H) / factor) in float32; r(cos), r(sin); r(r(a * cos) - r(b * sin)),
                r(r(b * cos) + r(a * sin)); it is unscaled
    softmax     q = r(q_rope * r(H^-1/2)), then the product; softmax of it in float32, masked scores -1e9; r() of it
    GELU        cube = r(x * x * x) in TensorFlow, r(r(x * x) * x) in JAX; then r() after each of *r(0.044715), x+,
                *r(sqrt(2/pi)), tanh, 1+; r(0.5 * x) and its product with that; then r(gelu * up)
    residuals   r(a + b); in float16 clipped to 65,504
    cache       holds keys after RoPE and values in the same dtype; every key, in local layers too

`predict` and `generate` compile, and XLA may leave roundings out (see `gemma.py`).
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from ref.capture.common import aligned, check_prompts
from ref.capture.keras.listen import Listener
from ref.capture.keras.model import Parts, config_of, fill, import_keras, model_of
from ref.config import TextConfig
from ref.dump.write import DumpWriter
from ref.errors import wanted
from ref.model.taps import tap_names
from ref.weights.resolve import load, weights_name

DTYPES = ("float32", "bfloat16", "float16")


def capture(
    model: Any,
    ids: Sequence[Any],
    out_dir: str | Path,
    *,
    steps: int = 0,
    weights: dict[str, Any] | None = None,
    config: TextConfig | None = None,
    taps: Sequence[str] = ("*",),
) -> Path:
    """Write a dump of a keras-hub model running prompts, op by op.

    Args:
        model: a `Gemma3CausalLM` or `Gemma3Backbone`, patched or not; its text part is run.
        ids: [T] token ids of one prompt, or a list of prompts. None is taken for padding.
        out_dir: where the dump will be; must not exist or be empty.
        steps: greedy cached decode steps after each prompt, each a pass of its own.
        weights: what the dump says of the weights, {"name", "dtype", "sha256"}.
        config: what the dump says of the model; by default read from the backbone.
        taps: patterns of the taps to keep.

    Returns:
        out_dir. Each pass has the taps of `ref.model.taps` in the dtype that the model computes in, bit for bit, except
        `attn.visible` (read from the mask that the softmax is given) and `cache.positions`, which it has not.

    Raises:
        BadInput: keras-hub is missing, the model is no Gemma 3, ids out of range, no tap matches, the folder is in use.

    Source: keras-hub 0.31.0; `keras.layers.Layer.__call__`.
    Differs: `generate` compiles, pads prompts on the right and runs the last token of a prompt again.
    """
    parts = import_keras()
    prompts = [ids] if len(ids) and np.ndim(ids[0]) == 0 else ids
    causal = model if hasattr(model, "backbone") else parts.hub.models.Gemma3CausalLM(backbone=model, preprocessor=None)
    config = config or config_of(causal.backbone)
    check_prompts(prompts, config, steps, taps, padded=False)
    dtype = str(causal.backbone.token_embedding.compute_dtype)
    held = weights or {"name": type(model).__name__, "dtype": dtype, "sha256": None}
    producer = {"name": "keras", "version": parts.version}
    model_row = {"config": config._asdict(), "weights": held}
    with DumpWriter(Path(out_dir), model_row, _policy(dtype), producer) as writer:
        listener = Listener(parts, causal.backbone, taps)
        with listener.listening():
            for prompt in prompts:
                _run(parts, causal, config, listener, writer, [int(token) for token in prompt], steps)
    return writer.folder


def capture_weights(
    weights: str,
    prompts: Sequence[Sequence[int]],
    out: Path,
    *,
    dtype: str = "float32",
    steps: int = 0,
    attention: str | None = None,
    taps: Sequence[str] = ("*",),
) -> Path:
    """Write a dump of keras-hub on weights as the command line names them, held as a dtype.

    Args:
        weights: anything that `--weights` takes.
        prompts: token ids.
        out: where; empty or new.
        dtype: float32, bfloat16 or float16; of weights and computation.
        steps: greedy cached decode steps.
        attention: `eager`; a fused one runs on accelerators only, and shows no scores.
        taps: as `capture`.

    Returns:
        out.

    Raises:
        BadInput: another dtype or attention, or sizes that keras-hub does not run as they are; and as `capture`.
    """
    if attention not in (None, "eager"):
        raise wanted("attention", "capture", "eager, the only one that keras-hub has on a CPU", attention)
    if dtype not in DTYPES:
        raise wanted("dtype", "capture", ", ".join(DTYPES), dtype)
    parts, loaded = import_keras(), load(weights)
    causal = model_of(parts, loaded.params.config, dtype)
    fill(causal.backbone, loaded.params)
    held = {"name": weights_name(weights), "dtype": dtype, "sha256": None}
    return capture(causal, prompts, out, steps=steps, weights=held, config=loaded.params.config, taps=taps)


def _run(parts: Parts, causal, config: TextConfig, listener, writer, prompt: list[int], steps: int) -> None:
    ops, todo, written = parts.keras.ops, prompt, 0
    shape = (1, config.layers, 2, len(prompt) + steps, config.kv_heads, config.head_dim)
    cache = ops.zeros(shape, dtype=causal.compute_dtype) if steps else None
    for step in range(steps + 1):
        tokens = ops.convert_to_tensor(np.array([todo], np.int32))
        if cache is None:
            logits = causal({"token_ids": tokens, "padding_mask": ops.ones_like(tokens)})
        else:
            logits, _, cache = causal.call_with_cache(tokens, cache, written)
        values = listener.take() | {"text.logits": logits}
        for tap in tap_names(config.layers, cached=True):
            if tap in values and listener.recorder.wants(tap):
                value = _array(ops, values[tap])
                writer.add_tensor(tap, aligned(tap, value, config, written, written + len(todo)))
        positions = list(range(written, written + len(todo)))
        row = {"ids": todo, "positions": positions, "cached": written, "image_blocks": [], "left_pads": 0}
        writer.end_pass(row)
        written += len(todo)
        todo = [int(_array(ops, logits)[0, -1].astype(np.float32).argmax())] if step < steps else []


def _array(ops, value) -> np.ndarray:
    """Return a tensor as it is; some backends show bfloat16 as float32, which holds it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # TensorFlow's bfloat16 tensors know an older NumPy
        array = np.asarray(ops.convert_to_numpy(value))
    return array.astype(ml_dtypes.bfloat16) if "bfloat16" in str(value.dtype) else array


def _policy(dtype: str) -> dict[str, str]:
    return {
        "compute_dtype": dtype,
        "matmul_activations": dtype,
        "kv_dtype": dtype,
        "rope_angle": "float32",
        "attention_impl": "eager",
    }
