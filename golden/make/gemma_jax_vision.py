"""The vision half of gemma_jax.py: google-deepmind/gemma's preprocessing, SigLIP tower and projector at toy size."""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
from gemma.gm.nn import _modules
from gemma.gm.vision import _preprocess
from gemma.multimodal import vision as gemma_vision
from gemma.multimodal import vision_utils
from safetensors.numpy import load_file, save_file

from ref.config import SIZES, VISION
from ref.golden_files.sampled import made_pixels, relative_l2
from ref.ops.linear import widen
from ref.weights.synthetic import synthetic_vision

IMAGES = {"tiny": 2, "tiny-long": 1}
WHOLE = ("tiny",)  # the other keeps no tap inside a block but its output
RESIZES = [((43, 57), 10), ((57, 43), 10), ((40, 40), 10), ((7, 5), 10), ((10, 10), 10), ((300, 11), 10)]
# tap of ours: path of the module whose output it is, inside a block and outside
BLOCK = {
    "attn.pre_norm": ("LayerNorm_0",),
    "attn.q": ("MultiHeadDotProductAttention_0", "query"),
    "attn.k": ("MultiHeadDotProductAttention_0", "key"),
    "attn.v": ("MultiHeadDotProductAttention_0", "value"),
    "attn.out": ("MultiHeadDotProductAttention_0",),
    "ffn.pre_norm": ("LayerNorm_1",),
    "ffn.up": ("MlpBlock_0", "Dense_0"),
    "ffn.act": ("MlpBlock_0", "Dropout_0"),
    "ffn.out": ("MlpBlock_0",),
    "out": (),
}
OUTSIDE = {
    "vision.patch_embed": ("siglip_encoder", "embedding"),
    "vision.embed": ("siglip_encoder", "Dropout_0"),
    "vision.post_norm": ("siglip_encoder", "Transformer", "encoder_norm"),
    "vision.pool": ("siglip_exit",),
}


def levels(images, height, width):
    """Make the images of `ref.golden_files.sampled.made_pixels` as uint8 [images, Y, X, C], cut to size."""
    pixels = made_pixels(images, max(height, width)).transpose(0, 2, 3, 1)[:, :height, :width]
    return np.rint((pixels.astype(np.float64) + 1) * 127.5).astype(np.uint8)


def vision(folder):
    """Run every tower in float64 and float32; keep float64's values and how far float32 is from them."""
    rows = []
    for name, images in IMAGES.items():
        truth, single = run(name, images, "float64"), run(name, images, "float32")
        file = f"vision-{name}.safetensors"
        if name not in WHOLE:
            truth = {tap: value for tap, value in truth.items() if tap.count(".") < 4}
        digest = write_arrays(folder / file, truth)
        distance = {tap: relative_l2(single[tap].astype(np.float64), value) for tap, value in truth.items()}
        shapes = {tap: list(value.shape) for tap, value in truth.items()}
        weights = {"size": name, "text_width": SIZES["tiny"].width, "seed": 0, "made_by": "ref.weights.synthetic"}
        row = {"name": name, "images": images, "weights": weights, "file": file, "sha256": digest}
        rows.append(row | {"shapes": shapes, "float32_distance": distance})
    images = "images by the formula of ref.golden_files.sampled.made_pixels, as uint8 levels"
    about = f"Tower and projector in float64; {images}."
    return {"about": about, "towers": rows, "preprocess": [resized(*one) for one in RESIZES]}


def run(name, images, dtype):
    """Run one tower with gemma's modules, from uint8 images to soft tokens; return the taps."""
    v, p = VISION[name], synthetic_vision(VISION[name], SIZES["tiny"].width)
    with jax.enable_x64(dtype == "float64"):
        tower = gemma_vision.SigLiPFromPatches(
            siglip_encoder=vision_utils.ViTModel(
                patch_size=(v.patch, v.patch), width=v.width, depth=v.layers, mlp_dim=v.ffn_width, num_heads=v.heads,
                dtype_mm=dtype,
            ),
            siglip_exit=gemma_vision.VisionExit(output_length=v.soft_tokens),
            num_mm_tokens_per_image_prepool=v.side**2, num_mm_tokens_per_image=v.soft_tokens,
            image_height=v.image, image_width=v.image,
        )  # fmt: skip
        patches = tower.patchify_images(jnp.array(levels(images, v.image, v.image))).astype(dtype)
        params = jax.tree.map(lambda value: jnp.array(widen(value), dtype), tower_params(p))
        shaped = jax.eval_shape(lambda: tower.init(jax.random.key(0), patches=patches[None], is_training=False))
        assert jax.tree.map(jnp.shape, params) == jax.tree.map(lambda leaf: leaf.shape, shaped["params"])
        out, state = tower.apply(
            {"params": params}, patches=patches[None], is_training=False, capture_intermediates=True
        )
        taps = {"patches": patches} | taps_of(state["intermediates"], v)
        project = _modules.Embedder(vocab_size=1, embed_dim=p.text_width, vision_proj_dim=v.width)
        ends = {"mm_soft_embedding_norm": {"scale": jnp.array(widen(p.soft_norm), dtype)}}
        ends |= {"mm_input_projection": {"w": jnp.array(widen(p.projection), dtype)}}
        ends |= {"input_embedding": jnp.zeros((1, p.text_width), dtype)}
        soft, state = project.apply({"params": ends}, out[0], method="encode_vision", capture_intermediates=True)
        taps["vision.soft_norm"] = state["intermediates"]["mm_soft_embedding_norm"]["__call__"][0]
        taps["vision.soft_tokens"] = soft
        assert {value.dtype.name for value in taps.values()} == {dtype}
        return {tap: np.array(value) for tap, value in taps.items()}


def taps_of(state, v):
    """Collect the outputs of modules under the names of our taps; rows of patches where gemma has a square."""
    paths = dict(OUTSIDE)
    for i in range(v.layers):
        block = ("siglip_encoder", "Transformer", f"encoderblock_{i}")
        paths |= {f"vision.layer.{i}.{tap}": (*block, *path) for tap, path in BLOCK.items()}
    taps = {}
    for tap, path in paths.items():
        place = state
        for step in path:
            place = place[step]
        taps[tap] = place["__call__"][0]
    taps["vision.patch_embed"] = taps["vision.patch_embed"].reshape(taps["vision.embed"].shape)
    return taps


def tower_params(p):
    """Lay our parameters out as Flax does: kernels [in, out], heads apart, the patch kernel [y, x, C, D]."""
    v = p.config
    patch = widen(p.patch).reshape(v.width, v.channels, v.patch, v.patch).transpose(2, 3, 1, 0)
    blocks = {f"encoderblock_{i}": block_params(layer, v) for i, layer in enumerate(p.layers)}
    norm = {"scale": p.post_norm, "bias": p.post_norm_bias}
    encoder = {
        "embedding": {"kernel": patch, "bias": p.patch_bias},
        "pos_embedding": widen(p.position)[None],
        "Transformer": blocks | {"encoder_norm": norm},
    }
    return {"siglip_encoder": encoder}


def block_params(p, v):
    heads = (v.heads, v.width // v.heads)
    attention = {
        name: {"kernel": widen(w).T.reshape(v.width, *heads), "bias": widen(bias).reshape(heads)}
        for name, w, bias in (("query", p.q, p.q_bias), ("key", p.k, p.k_bias), ("value", p.v, p.v_bias))
    }
    attention["out"] = {"kernel": widen(p.attn_out).T.reshape(*heads, v.width), "bias": p.attn_out_bias}
    dense = {
        "Dense_0": {"kernel": widen(p.up).T, "bias": p.up_bias},
        "Dense_1": {"kernel": widen(p.down).T, "bias": p.down_bias},
    }
    return {
        "LayerNorm_0": {"scale": p.attn_norm, "bias": p.attn_norm_bias},
        "LayerNorm_1": {"scale": p.ffn_norm, "bias": p.ffn_norm_bias},
        "MultiHeadDotProductAttention_0": attention,
        "MlpBlock_0": dense,
    }


def resized(sides, target):
    """Preprocess one made image of `sides` to target x target as gemma does, in float64 and in float32."""
    row = {"height": sides[0], "width": sides[1], "target": target}
    image = levels(1, *sides)[0]
    for dtype in ("float64", "float32"):
        with jax.enable_x64(dtype == "float64"):
            given = jnp.array(image, dtype)
            out = _preprocess.pre_process_image(given, image_shape=(target, target, 3))
            assert out.dtype == dtype
            row[dtype] = np.array(out, np.float64)
    distance = float(np.abs(row.pop("float32") - row["float64"]).max())
    return row | {"pixels": row.pop("float64").tolist(), "float32_distance": distance}


def write_arrays(path, arrays):
    """Write float64 arrays, read them back, and return the file's sha256."""
    new = path.with_suffix(".new")
    save_file({name: np.ascontiguousarray(value, np.float64) for name, value in arrays.items()}, new)
    back = load_file(new)
    assert all(np.array_equal(back[name], value) for name, value in arrays.items()), "safetensors did not read back"
    new.replace(path)
    return hashlib.sha256(path.read_bytes()).hexdigest()
