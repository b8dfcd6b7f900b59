"""Read what `llama-debug --save-logits` writes: the logits of a prompt's last token, or the final norm of every token.

llamacpp-NAME.bin               float32 [V] logits of the last token
llamacpp-NAME-embeddings.bin    float32 [T, D] of all tokens, what the head is given (--embedding, no pooling)
...-tokens.bin                  int32 [T] beside each
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ref.dump.align import Stored
from ref.dump.opened import Dump, DumpPass
from ref.dump.read_bare import NOT_SAID
from ref.errors import wanted
from ref.untrusted import read_regular

TOKENS = "-tokens.bin"


def tokens_file(path: Path) -> Path:
    """Return where the tokens of a file of logits or embeddings are."""
    return path.with_name(path.stem + TOKENS)


def is_llama_logits(path: Path) -> bool:
    """Tell whether a file is one that `llama-debug` wrote, and no pickle: its tokens lie beside it."""
    return path.suffix.lower() == ".bin" and not path.name.endswith(TOKENS) and tokens_file(path).is_file()


def read_llama_logits(path: Path, config: Mapping[str, Any]) -> Dump:
    """Read logits of the last token, or embeddings of all, with the tokens beside them.

    Args:
        path: the `.bin` file.
        config: of the model, as far as it is known: the lengths of its axes are checked.

    Returns:
        A dump of one pass.

    Raises:
        BadInput: a size that is no number of values, tokens below 0, embeddings that are not of every token,
            another width or vocabulary.

    Source: llama.cpp 0e8010cdd `examples/debug/debug.cpp`; `--save-logits`, `--logits-output-dir`.
    """
    ids = np.frombuffer(_whole(tokens_file(path), "token ids"), "<i4").astype(np.int64)
    values = np.frombuffer(_whole(path, "logits"), "<f4").astype(np.float32)
    if not len(ids) or ids.min() < 0:
        raise wanted("token ids", tokens_file(path), "at least one, each 0 or more", ids.tolist()[:8] or "none")
    tensors, last = {}, {}
    if path.stem.endswith("-embeddings"):
        width = config.get("width", len(values) // len(ids))
        if not len(values) or len(values) != width * len(ids):
            raise wanted("embeddings", path, f"{width} for each of {len(ids)} tokens", f"{len(values)} values")
        rows = values.reshape(1, len(ids), -1)
        tensors = {"text.final_norm": Stored(path.name, "float32", rows.shape, lambda: rows)}
    elif not len(values) or len(values) != config.get("vocabulary", len(values)):
        want = f"{config.get('vocabulary', 'one for each token of the vocabulary')}, of the last token"
        raise wanted("logits", path, want, len(values) or "none")
    else:
        row = values.reshape(1, 1, -1)
        last = {0: {"text.logits": Stored(path.name, "float32", row.shape, lambda: row)}}
    one = DumpPass(0, ids, np.arange(len(ids)), 0, [], 0, None, tensors)
    return of_llama_cpp(path, one, last=last)


def of_llama_cpp(path: Path, one: DumpPass, **more: Any) -> Dump:
    """Return a dump of one pass of llama.cpp, of which its files say next to nothing.

    Args:
        path: of the file.
        one: the pass.
        more: `partial` or `last` of the dump.
    """
    policy = {"compute_dtype": "float32", "matmul_activations": NOT_SAID, "kv_dtype": "float16"}
    policy |= {"rope_angle": "float32", "attention_impl": NOT_SAID}
    weights = {"name": None, "dtype": "as in the file", "sha256": None}
    return Dump(str(path), {"name": "llama.cpp", "version": NOT_SAID}, {}, weights, policy, [one], [], **more)


def _whole(path: Path, what: str) -> bytes:
    data = read_regular(path, what)
    if len(data) % 4:
        raise wanted(what, path, "values of 4 bytes", f"{len(data)} bytes")
    return data
