"""llama.cpp by its C interface, as llama-cpp-python loads it: prompts in batches of 512, attention as it chooses.

Keys and values are cached in float16, which is its default, and local layers keep a window of them, as its own programs
have it. Weights are read into memory, not mapped, so that they may be repacked and no page is missing in a timing.
"""

import ctypes
import os
import sys

import llama_cpp as c

from ..drawn import tokens
from ..row import Job

BATCH = 512
c.llama_backend_init()
_SILENT = c.llama_log_callback(lambda level, text, data: None)
c.llama_log_set(_SILENT, ctypes.c_void_p(0))


class Model:
    """Weights and a context.

    Args:
        file: a GGUF file.
        room: tokens that the context holds.
    """

    def __init__(self, file: str, room: int):
        how = c.llama_model_default_params()
        how.load_mode, how.n_gpu_layers = c.LLAMA_LOAD_MODE_NONE, 0
        self.model = c.llama_model_load_from_file(file.encode(), how)
        if not self.model:
            raise ValueError("llama.cpp does not load the file")
        how = c.llama_context_default_params()
        how.n_ctx, how.n_batch, how.n_ubatch, how.swa_full = room, BATCH, BATCH, False
        how.n_threads = how.n_threads_batch = int(os.environ.get("OMP_NUM_THREADS", 1))
        self.context = c.llama_init_from_model(self.model, how)
        self.memory = c.llama_get_memory(self.context)
        self.vocabulary = c.llama_vocab_n_tokens(c.llama_model_get_vocab(self.model))
        self.batch = c.llama_batch_init(BATCH, 0, 1)
        self.seen = 0

    def run(self, ids: list[int], every: bool = False) -> None:
        """Run tokens behind those that were seen; form the logits of every one, or of the last."""
        for start in range(0, len(ids), BATCH):
            part, batch = ids[start : start + BATCH], self.batch
            batch.n_tokens = len(part)
            for i, token in enumerate(part):
                batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0] = token, self.seen + i, 1, 0
                batch.logits[i] = every or start + i == len(ids) - 1
            if c.llama_decode(self.context, batch):
                raise ValueError("llama.cpp does not decode")
            self.seen += len(part)
        c.llama_synchronize(self.context)

    def forget(self, kept: int = 0) -> bool:
        """Forget all tokens but the first; tell whether that could be done."""
        if kept == 0:
            c.llama_memory_clear(self.memory, True)
        elif not c.llama_memory_seq_rm(self.memory, 0, kept, -1):
            return False
        self.seen = kept
        return True

    def close(self) -> None:
        """Give the memory back."""
        c.llama_batch_free(self.batch)
        c.llama_free(self.context)
        c.llama_model_free(self.model)


def load(file: str) -> Job:
    """Load the file and run one token."""

    def run():
        model = Model(file, BATCH)
        model.run([2])
        model.close()

    return Job(run)


def prefill(file: str, count: int, which: str) -> Job:
    """Run a prompt."""
    model = Model(file, count)
    ids = tokens(count, model.vocabulary)
    return Job(lambda: model.run(ids, which == "all"), model.forget)


def decode(file: str, count: int, steps: int) -> Job:
    """Run tokens one at a time behind a prompt."""
    model = Model(file, count + steps)
    ids = tokens(count + steps, model.vocabulary)

    def before():
        if not model.seen or not model.forget(count):
            model.forget()
            if count:
                model.run(ids[:count])

    def run():
        for token in ids[count:]:
            model.run([token])

    return Job(run, before)


if __name__ == "__main__":  # the first token of a process
    started = Model(sys.argv[1], BATCH)
    started.run(tokens(8, 1_000))
    logits = c.llama_get_logits_ith(started.context, -1)
    print(max(range(started.vocabulary), key=logits.__getitem__))
