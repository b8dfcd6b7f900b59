"""Run llama.cpp through the ctypes bindings of llama-cpp-python: a model, a context, a prompt and its greedy steps."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ref.capture.llama_cpp.listen import Listener
from ref.errors import BadInput, wanted

F16 = 1  # ggml's number of the type
ERROR = 4  # of ggml.h; the numbers in llama_cpp._logger are others


class Running(NamedTuple):
    """A model that llama.cpp has loaded."""

    llama: Any  # the module llama_cpp
    model: Any
    errors: list[str]  # what llama.cpp logged of them since


@contextmanager
def loaded(llama, path: Path) -> Iterator[Running]:
    """Load a GGUF file on the CPU, with llama.cpp's log kept off stderr until it is freed.

    Args:
        llama: the module llama_cpp.
        path: the file.

    Raises:
        BadInput: llama.cpp refuses it, in its words.

    Source: llama.cpp 0c1e57098 `include/llama.h`.
    """
    errors: list[str] = []

    @llama.llama_log_callback
    def log(level, text, _):
        if level == ERROR:
            errors.append(text.decode(errors="replace"))

    params = llama.llama_model_default_params()
    params.n_gpu_layers = 0
    llama.llama_log_set(log, None)
    model = None
    try:
        llama.llama_backend_init()
        model = llama.llama_model_load_from_file(str(path).encode(), params)
        if not model:
            raise wanted("model", path, "one that llama.cpp loads", " ".join(errors))
        yield Running(llama, model, errors)
    finally:
        if model:
            llama.llama_model_free(model)
        llama.llama_log_set(llama._logger.llama_log_callback, None)


@contextmanager
def context(running: Running, listener: Listener, tokens: int, flash: bool, threads: int | None) -> Iterator[Any]:
    """Make a context whose graph a listener hears.

    Args:
        running: the model.
        listener: called for each node.
        tokens: that it can hold, and take at a time.
        flash: fused attention.
        threads: None uses every core.

    Raises:
        BadInput: llama.cpp refuses, in its words.

    Source: llama.cpp 0c1e57098 `include/llama.h`.
    Differs: `llama-cli` takes 512 tokens at a time, and frees what left a window unless `--swa-full`.
    """
    llama = running.llama
    params = llama.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = tokens  # a prompt is one graph
    params.n_threads = params.n_threads_batch = threads or os.cpu_count() or 1
    params.flash_attn_type = int(flash)
    params.type_k = params.type_v = F16
    params.swa_full, params.offload_kqv, params.op_offload = True, False, False
    callback = llama.ggml_backend_sched_eval_callback(listener)  # held until the context is gone
    params.cb_eval = callback
    made = llama.llama_init_from_model(running.model, params)
    if not made:
        raise wanted("context", "llama.cpp", f"one of {tokens} tokens", " ".join(running.errors))
    try:
        yield made
    finally:
        llama.llama_free(made)


def run(llama, made, listener: Listener, prompt: Sequence[int], steps: int, end: Callable[[dict], Any]) -> None:
    """Run a prompt and greedy steps after it.

    Args:
        llama: the module llama_cpp.
        made: a fresh context.
        listener: is told where each pass begins and ends.
        prompt: token ids.
        steps: how many tokens to choose and run.
        end: is given each pass's row of the dump, when its taps are through.

    Raises:
        BadInput: llama.cpp gives up. And what the listener raised.

    Source: llama.cpp 0c1e57098 `examples/simple/simple.cpp`.
    """
    todo, cached = [int(token) for token in prompt], 0
    for step in range(steps + 1):
        listener.begin(cached, len(todo))
        _decode(llama, made, todo, cached)
        listener.end()
        positions = list(range(cached, cached + len(todo)))
        end({"ids": todo, "positions": positions, "cached": cached, "image_blocks": [], "left_pads": 0})
        cached += len(todo)
        if step < steps:
            logits = llama.llama_get_logits_ith(made, -1)
            todo = [int(np.ctypeslib.as_array(logits, (listener.config.vocabulary,)).argmax())]


def _decode(llama, made, ids: list[int], cached: int) -> None:
    batch = llama.llama_batch_init(len(ids), 0, 1)
    try:
        batch.n_tokens = len(ids)
        for i, token in enumerate(ids):
            batch.token[i], batch.pos[i], batch.logits[i] = token, cached + i, True
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
        code = llama.llama_decode(made, batch)
    finally:
        llama.llama_batch_free(batch)
    if code:
        raise BadInput(f"llama.cpp: llama_decode of {len(ids)} tokens: wanted 0, got {code}")
