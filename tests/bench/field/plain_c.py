"""A port in plain C (plain.c), compiled here by gcc: one sum an output, fused or in vectors as its flags say."""

import shutil
import subprocess
from functools import partial
from pathlib import Path

import numpy as np

from ref.model.params import LayerParams
from ref.ops.linear import widen_jit

from .foreign import write_passes
from .row import Missing, Row
from .subjects import made_ids, weights

SOURCE = Path(__file__).with_name("plain.c")
FLAGS = {
    "o2": ["-O2"],
    "native": ["-O3", "-march=native"],  # products and sums are fused: they round once
    "fast-math": ["-O3", "-march=native", "-ffast-math", "-fno-finite-math-only"],  # and sums lie in vectors
}
ORDER = (
    *("attn.pre_norm:D", "attn.q:NH", "attn.k:KH", "attn.v:KH", "attn.q_norm:NH", "attn.k_norm:KH", "attn.q_rope:NH"),
    *("attn.k_rope:KH", "attn.scores:S", "attn.probs:S", "attn.mix:NH", "attn.out:D", "attn.post_norm:D", "mid:D"),
    *("ffn.pre_norm:D", "ffn.gate:F", "ffn.up:F", "ffn.act:F", "ffn.out:D", "ffn.post_norm:D", "out:D"),
)


def save_weights(params, path: Path) -> None:
    """Write the weights in the order that plain.c reads."""
    with path.open("wb") as file:
        for weight in (params.embedding, *(w for p in params.layers for w in in_order(p)), params.final_norm):
            np.ascontiguousarray(widen_jit(weight), np.float32).tofile(file)


def in_order(p: LayerParams):
    """Return a layer's weights as its operations need them."""
    attn = (p.pre_attn_norm, p.q, p.k, p.v, p.q_norm, p.k_norm, p.attn_out, p.post_attn_norm)
    return (*attn, p.pre_ffn_norm, p.gate, p.up, p.down, p.post_ffn_norm)


def read_taps(c, tokens: int, path: Path) -> dict[str, tuple[np.ndarray, None]]:
    """Read the raw taps, in the order of plain.c."""
    data, at, taps = np.fromfile(path, np.float32), 0, {}
    T, D, V = tokens, c.width, c.vocabulary
    shapes = {"D": (T, D), "NH": (T, c.query_heads, c.head_dim), "KH": (T, c.kv_heads, c.head_dim)}
    shapes |= {"S": (c.query_heads, T, T), "F": (T, c.ffn_width), "V": (T, V)}
    names = [f"text.layer.{i}.{name}" for i in range(c.layers) for name in ORDER]
    for entry in ("text.embed:D", *names, "text.final_norm:D", "text.logits:V"):
        name, kind = entry.split(":")
        size = int(np.prod(shapes[kind]))
        taps[name], at = (data[at : at + size].reshape(1, *shapes[kind]), None), at + size
    assert at == len(data)
    return taps


def write(name, flags, length, folder, plant=None):
    """Compile, run and write the dump; return the weights."""
    if not shutil.which("gcc"):
        raise Missing("no gcc")
    loaded, rough = weights(name), folder.parent
    c, ids = loaded.params.config, made_ids(loaded, length)
    program = rough / "plain"
    subprocess.run(["gcc", *FLAGS[flags], "-o", program, SOURCE, "-lm"], check=True)
    save_weights(loaded.params, rough / "weights")
    np.array(ids, np.int32).tofile(rough / "ids")
    shape = (c.layers, c.width, c.query_heads, c.kv_heads, c.head_dim, c.ffn_width, c.vocabulary, c.window)
    numbers = (c.global_every, c.query_scale, c.rms_eps, c.rope_base_local, c.rope_base_global, c.rope_factor)
    subprocess.run([program, *(rough / n for n in ("weights", "ids", "taps")), *map(repr, shape + numbers)], check=True)
    taps = read_taps(c, length, rough / "taps")
    write_passes(folder, ("plain C", flags), loaded, "float32", [(ids, taps)])
    return loaded


def rows():
    """Yield the rows."""
    for name, lengths in {"1b-pair": (1, 8, 40), "4b-local": (3,), "tiny": (40,), "270m": (6,)}.items():
        for flags in FLAGS:
            for length in lengths:
                call, quick = partial(write, name, flags, length), (name, flags, length) == ("1b-pair", "o2", 8)
                yield Row(f"plain-c/{name}/float32/{flags}/{length}", "float32", name, call, nightly=quick)
