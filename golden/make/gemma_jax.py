"""Make golden/gemma_jax: what google-deepmind/gemma, run in JAX, says of visibility, RoPE, expansion of ids and vision.

Run by hand, in an environment of its own (JAX and TensorFlow beside the witness's torch would take long to resolve):

    python3.11 -m venv JAX
    JAX/bin/pip install --no-deps -r golden/make/requirements-gemma-jax.txt
    PYTHONPATH=. JAX/bin/python golden/make/gemma_jax.py

The list is complete, hence --no-deps: without it pip searches for ever, and newer jax, kauldron or typeguard break
gemma 3.3.0. numba, llvmlite and jsonschema are there for `ref`, which makes the tower's weights and checks the files.
"""

import json
import platform
from importlib.metadata import version
from itertools import groupby
from pathlib import Path

import gemma_jax_vision
import jax
import jax.numpy as jnp
import jsonschema
import numpy as np
from gemma.gm.math import _pos_utils, _positional_embeddings
from gemma.gm.nn import _modules
from gemma.gm.utils import _attention_mask
from gemma.gm.vision import _token_utils

from ref.golden_files.files import schema

GOLDEN = Path(__file__).resolve().parents[1]
PLACEHOLDER = _token_utils.SOFT_TOKEN_PLACEHOLDER
LAYOUTS = [  # t text, I soft token, . padding; then the window
    ("text only", "tttttttttt", 4),
    ("block shorter than the window", "ttIIIIttt", 5),
    ("block as long as the window", "tIIIIItt", 5),
    ("block one longer than the window", "ttIIIIIIttt", 5),
    ("block longer than the window", "tttIIIIIIIIIttt", 5),
    ("block more than twice the window", "tIIIIIIIIIIIt", 4),
    ("image first", "IIIIttttt", 5),
    ("image last", "tttttIIII", 5),
    ("nothing but an image", "IIIIIII", 3),
    ("two images with newlines between", "tIIIItttIIIIt", 5),
    ("two images, one longer than the window", "tIIIttIIIIIIIIt", 5),
    ("two images, the window reaching from one into the other", "tIIItIIIItt", 4),
    ("left padding", "...tIIIItt", 5),
    ("left padding, block longer than the window", "..tIIIIIIIItt", 5),
    ("left padding, image first", "..IIIIIIttt", 5),
    ("right padding", "tIIIItt...", 5),
    ("right padding, block longer than the window at the end", "ttIIIIIII..", 5),
    ("a window of one", "ttIIIItt", 1),
    ("a window of two", "ttIIIItt", 2),
    ("a window longer than the prompt", "ttIIIItt", 20),
]


def visibility():
    """Gemma's masks, composed as its attention layer composes them, and seen again in that layer's probabilities."""
    rows = []
    for name, tokens, window in LAYOUTS:
        real, soft = (np.array([[letter in kinds for letter in tokens]]) for kinds in ("tI", "I"))
        mask = _attention_mask.make_causal_bidirectional_attention_mask(
            jnp.array(real), bidirectional_mask=jnp.array(soft)
        )
        positions = _pos_utils.build_positions_from_mask(jnp.array(real))
        band = _modules.create_sliding_mask(positions, sliding_window_size=window)
        row = {"name": name, "tokens": tokens, "window": window}
        for kind, seen in (("global", mask), ("local", mask * band)):
            check_in_attention(mask, positions, window if kind == "local" else None, np.array(seen))
            row[kind] = ["".join("01"[int(bit)] for bit in query) for query in np.array(seen[0])]
        rows.append(row)
    return {"about": "Row i of `global` and `local` has a 1 for each key that query i sees.", "cases": rows}


def check_in_attention(mask, positions, window, seen):
    """Run the attention layer: its probabilities must be zero where `seen` is false; all alike in an empty row."""
    kinds = _modules.AttentionType
    attention = _modules.Attention(
        num_heads=2, num_kv_heads=1, features=6, head_dim=4, query_pre_attn_scalar=0.5, use_qk_norm=True,
        attn_type=kinds.LOCAL_SLIDING if window else kinds.GLOBAL, sliding_window_size=window,
    )  # fmt: skip
    x = jnp.array(np.random.default_rng(1).normal(size=(1, mask.shape[1], 6)), jnp.float32)
    params = attention.init(jax.random.key(0), x, positions, None, mask)
    _, state = attention.apply(params, x, positions, None, mask, capture_intermediates=True)
    probs = np.array(state["intermediates"]["attention_weights"]["__call__"][0])[0]  # T N S
    empty = ~seen[0].any(axis=-1)
    assert ((probs > 0) == (seen[0] | empty[:, None])[:, None]).all(), "the attention layer sees otherwise"


def rope():
    """Gemma's apply_rope: float32 as it runs, and with every input in float64 (H = 8: its exponents are exact)."""
    x = np.random.default_rng(2).integers(-200, 201, (7, 2, 8)) / 100
    positions = [0, 1, 7, 511, 1024, 32_767, 131_071]
    rows = []
    for name, base, factor in (("local", 1e4, 1.0), ("global, 1B", 1e6, 1.0), ("global, 4B", 1e6, 8.0)):
        row = {"name": name, "base": base, "factor": factor}
        for dtype in ("float32", "float64"):
            with jax.enable_x64(dtype == "float64"):
                turned = _positional_embeddings.apply_rope(
                    jnp.array(x[None], dtype),
                    jnp.array([positions]),
                    base_frequency=jnp.array(base, dtype),
                    scale_factor=factor,
                )
                assert turned.dtype == dtype
                row[dtype] = np.array(turned[0], np.float64).tolist()
        rows.append(row)
    about = "x [T, N, H] turned by positions [T]; base, factor and the results as gemma gave them."
    return {"about": about, "positions": positions, "x": x.tolist(), "cases": rows}


def expansion():
    """Gemma's add_extra_tokens_for_images on plain ids, on those of golden/tokens/images.json, and where it fails."""
    image = 255_999
    given = [
        ("its unit test: no image", [1, 2, 3, 4, 5], 3, 2),
        ("its unit test: one image", [1, 2, 3, image, 4], 3, 2),
        ("its unit test: two adjacent images at the end", [1, 2, 3, image, image], 3, 2),
        ("its unit test: two images", [1, image, 2, image, 3], 3, 2),
        ("newlines beside an image stay apart", [2, 107, image, 108, image, 107], 2, 2),
        ("one soft token", [2, image, 7], 1, 1),
    ]
    prompts = json.loads((GOLDEN / "tokens" / "images.json").read_text(encoding="utf-8"))["cases"]
    whole = [case for case in prompts if not any(case["crops"])]
    given += [(case["name"], case["plain"], case["soft_tokens"], len(case["crops"])) for case in whole]
    first = ("an image that is the very first token", [image, 5, 6], 3, 1)
    about = f"ids expanded with room for so many images; a run of {PLACEHOLDER} is one pair [{PLACEHOLDER}, count]."
    return {"about": about, "cases": [expanded(*case) for case in given], "unlike": [expanded(*first)]}


def expanded(name, ids, soft_tokens, room):
    out = _token_utils.add_extra_tokens_for_images(
        jnp.array([ids]), max_num_images=room, num_tokens_per_image=soft_tokens
    )
    grouped = [(token, len(list(group))) for token, group in groupby(np.array(out[0]).tolist())]
    runs = [part for token, n in grouped for part in ([[token, n]] if token == PLACEHOLDER else [token] * n)]
    return {"name": name, "ids": ids, "soft_tokens": soft_tokens, "room": room, "expanded": runs}


DIFFERS = {
    "visibility": [
        "transformers 5.23 bounds the window towards the past only, gemma towards the future too (two_sided): they "
        "differ in local layers, where an image block is longer than the window, and nowhere else.",
        "A query that is padding sees the keys before it here, none in this project; it takes no part in comparisons. "
        "A left pad sees no key, and gemma's attention layer then weighs all keys alike.",
    ],
    "rope": [
        "gemma forms angles in float32: at position 131,071 `float32` is up to 7e-4 from `float64`, where values are "
        "up to 2. transformers forms them in float32 as well, and rounds cosines and sines to the dtype of the run."
    ],
    "expansion": [
        "transformers expands the text and then tokenises it: newlines beside an image merge into one token there.",
        "gemma writes -2 for a soft token, transformers 262144; room for more images is filled with 0 behind the ids.",
        "`unlike`: gemma takes an image that is the very first token for none; a prompt begins with <bos>.",
    ],
    "vision": [
        "gemma's patches have the channel innermost, transformers' and this project's outermost: `patches`.",
        "gemma resizes floats with jax.image.resize and does not round to levels; transformers resizes with Pillow, "
        "which does: up to one level, 1 / 127.5, apart. At its own size an image is the same in both.",
        "flax's LayerNorm forms the variance as E[x^2] - E[x]^2, transformers' as E[(x - E[x])^2].",
    ],
}


def write(kind, content):
    """Check one file against the schema and write it, one case a line."""
    witness = {"package": "gemma", "version": version("gemma"), "jax": jax.__version__, "flax": version("flax")}
    head = {
        "format_version": 1,
        "kind": kind,
        "generator": "golden/make/gemma_jax.py",
        "command": "PYTHONPATH=. JAX/bin/python golden/make/gemma_jax.py",
        "source": {"kind": "witness", "repository": "google-deepmind/gemma", **witness},
        "x64": "float64 parts with jax.enable_x64(True), the rest without",
        "environment": {"python": platform.python_version(), "platform": f"{platform.system()} {platform.machine()}"},
        "licence": "Apache-2.0",
        "differs": DIFFERS[kind],
    }
    whole = json.loads(json.dumps(head | content))
    jsonschema.validate(whole, schema("gemma_jax"))
    lines = []
    for key, value in whole.items():
        body = json.dumps(value, ensure_ascii=False)
        if isinstance(value, list) and value and isinstance(value[0], dict | str):
            body = "[\n" + ",\n".join(json.dumps(one, ensure_ascii=False) for one in value) + "\n]"
        lines.append(f"{json.dumps(key)}: {body}")
    path = GOLDEN / "gemma_jax" / f"{kind}.json"
    path.with_suffix(".new").write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8", newline="\n")
    path.with_suffix(".new").replace(path)
    print(path.name, path.stat().st_size)


def main():
    (GOLDEN / "gemma_jax").mkdir(exist_ok=True)
    write("visibility", visibility())
    write("rope", rope())
    write("expansion", expansion())
    write("vision", gemma_jax_vision.vision(GOLDEN / "gemma_jax"))


if __name__ == "__main__":
    main()
