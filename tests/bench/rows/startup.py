"""Start-up: every timing is of processes that are new."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from ..environment import last_words
from ..row import LLAMA, TRANSFORMERS, Entry, Job, Options, Row

IMPORTS = {"ref": "ref", TRANSFORMERS: "transformers, torch", LLAMA: "llama_cpp"}


def rows(options: Options) -> Iterator[Row]:
    """List the rows."""
    run = "rows.startup:run"
    imports = [Entry(by, run, {"command": ["-c", f"import {what}"]}, by) for by, what in IMPORTS.items()]
    yield Row("import", "Python, and the package imported", imports)
    generate = ["-m", "ref", "generate", "--weights", options.model, "--greedy", "--max-new-tokens", "1"]
    first = {"command": [*generate, "The capital of France is"]}
    peers = [
        Entry("llama.cpp", run, {"command": ["-m", "bench.peers.of_llama_cpp"], "file": "file:gguf-file"}, LLAMA),
        Entry(
            "transformers sdpa",
            run,
            {"command": ["-m", "bench.peers.of_transformers"], "file": "file:folder"},
            TRANSFORMERS,
        ),
    ]
    what = "a process to its first token"
    yield Row("first-token", f"{what}, kernels compiled before", [Entry("ref", run, first), *peers])
    cold = [Entry("ref", run, first | {"cold": True})]
    yield Row("first-token-cold", f"{what}, nothing compiled", cold, most=3, warm=False)
    verify = [Entry("ref", run, {"command": ["-m", "ref", "verify", "--weights", "tiny"], "cold": True})]
    yield Row("verify-cold", "`verify --weights tiny`, nothing compiled", verify, most=3, warm=False)


def run(command: list[str], file: str = "", cold: bool = False) -> Job:
    """Run a command of this Python; if cold, with an empty cache of kernels."""
    words = [sys.executable, *command, *([file] if file else [])]

    def once():
        with tempfile.TemporaryDirectory() as empty:
            environment = os.environ | ({"NUMBA_CACHE_DIR": empty} if cold else {})
            done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
            if done.returncode:
                raise ValueError(last_words(done.stderr, done.returncode))

    return Job(once)
