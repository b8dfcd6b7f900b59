# %% [markdown]
# # 11 SigLIP: from pixels to soft tokens
#
# - **You will see** an image cut into 4,096 patches, sent through a layer of the vision tower, pooled to 256 rows.
# - **You need** 10. One has to sign for the real tower's weights, so they are made up here; the shapes are real.
# - **Shown from** `ref/model/vision.py`, `ref/ops/patches.py`, `ref/ops/norm.py`.

# %%
# %matplotlib inline
import time

import numpy as np
from skimage import data

import ref
from ref.model.count import count_params
from ref.model.taps import Recorder
from ref.model.text import How
from ref.model.vision import encode_images, vision_block
from ref.ops.norm import layer_norm, rms_norm
from ref.ops.patches import average_pool, split_patches
from ref.show.image_plots import plot_patches
from ref.show.words import shapes, source
from ref.testing import assert_matches, check_op, exercise

# %% [markdown]
# ## The whole tower
#
# SigLIP is an image encoder, trained apart from Gemma. All of it, and the projector to the text model's width:

# %%
source(encode_images, doc=False)

# %% [markdown]
# ## Patches
#
# The image is cut into squares of 14 x 14 pixels. Thin lines bound patches. Thick ones bound 4 x 4 of them, which
# become one *soft token*, a row that stands in the prompt like a word (12).

# %%
patches = split_patches(pixels := ref.preprocess(data.coffee()).pixels, 14)
print(f"pixels {pixels.shape}; patches {patches.shape}: 64 x 64 of 3 x 14 x 14 = {3 * 14 * 14} values")
plot_patches(pixels[0])

# %% [markdown]
# The pixels 0 to 15 of a 4 x 4 image in patches of 2 x 2: each patch becomes a row, nothing is computed. A linear layer
# on such rows is what others write as a convolution with a stride.

# %%
print(split_patches(np.arange(16).reshape(1, 1, 4, 4), 2)[0])

# %% [markdown]
# ## One layer at full size
#
# `synthetic:4b-pair` has the names and shapes of the 4B's tower. We keep one of its layers:

# %%
vision = ref.load("synthetic:4b-pair").vision
c, one = vision.config, vision._replace(config=vision.config._replace(layers=1), layers=[vision.layers[0]])
recorder = Recorder("vision.[pes]*", "vision.layer.0.attn.q", "vision.layer.0.ffn.up")
start = time.perf_counter()
encode_images(one, pixels, How(taps=recorder))
print(shapes(recorder.values), f"\n\nseconds: {time.perf_counter() - start:.1f}")

# %% [markdown]
# Every patch looks at every patch, in 16 heads: that costs more than half as much as all products with weights. The
# scores of a layer would fill a gigabyte, in float32, so the kernel never holds them all at once.

# %%
weights, attention = 4 * c.width**2 + 2 * c.width * c.ffn_width, 2 * c.side**2 * c.width
print(f"a patch in a layer: {weights / 1e6:.1f} million products with weights, {attention / 1e6:.1f} in attention")
print(f"the tower: {count_params('4b')['vision'] / 1e6:.0f} million parameters in {c.layers} layers")
print(f"scores of a layer: {c.heads * c.side**4 * 4 / 1e9:.2f} GB")

# %% [markdown]
# ## LayerNorm, not RMSNorm
#
# The tower's norm takes off the mean first, has a bias, and uses its gain as it is, without the 1 of 01. So adding 100
# to every channel changes nothing for it, and nearly everything for RMSNorm.

# %%
source(layer_norm, doc=False)

# %%
rows, zeros = np.array([[3.0, 4.0, 8.0], [103.0, 104.0, 108.0]]), np.zeros(3)
for name, y in (("LayerNorm", layer_norm(rows, zeros + 1, zeros, 1e-6)), ("RMSNorm", rms_norm(rows, zeros, 1e-6))):
    print(f"{name:<10}", *y.round(2))

# %% [markdown]
# ## Both ways, and no order but the table's
#
# A patch attends to those after it, too. `tiny` is a toy whose tower is small enough to look inside: 64 patches.

# %%
tiny = ref.load("tiny")
toy, toy_pixels, recorder = tiny.vision, ref.preprocess(data.coffee(), size=40).pixels, Recorder("vision.*")
encode_images(toy, toy_pixels, How(taps=recorder))
given = recorder.values["vision.layer.0.attn.probs"][0, 0, 10]
print(f"patch 10 gives {given[:10].sum():.2f} to those before it, {given[11:].sum():.2f} to those after it")

# %% [markdown]
# Nothing in a layer knows where a patch is: shuffle its rows, and the same rows come out, shuffled. So a learned row
# for each place, the *position embedding*, is added before the first layer. There is no RoPE here.

# %%
x, shuffle = recorder.values["vision.layer.0.in"], np.random.default_rng(0).permutation(64)
rest = (toy.layers[0], np.broadcast_to([0, 64], (1, 64, 2)), toy.config, How().ops, How().taps)
plain, mixed = vision_block(x, *rest), vision_block(x[:, shuffle], *rest)
print(f"rows of size {np.abs(plain).mean():.1f}, apart by at most {np.abs(plain[:, shuffle] - mixed).max():.0e}")

# %% [markdown]
# ## 4,096 become 256
#
# Squares of 4 x 4 patches are averaged. Here the pool works on what we can see, the mean of each patch's pixels:

# %%
pooled = average_pool(patches.mean(axis=-1, keepdims=True), 4)
plot_patches(np.zeros_like(pixels[0]), pooled[0, :, 0], title=f"{pooled.shape[1]} squares of 16 patches, averaged")

# %% [markdown]
# An RMSNorm follows, with Gemma's 1 + w: the *soft norm*. Then the projection, 1152 to 2560 in the table above.
#
# ## Broken on purpose
#
# A port lays the position table out by columns. All shapes are right. But each patch is told the place of another, as
# if the image were mirrored along its diagonal. The judge is given all values of the toy's pass:

# %%
ids, side, recorder = [5, 6, *[97] * 4, 9], toy.config.side, Recorder()  # 97 is the toy's soft token
turned = toy.position.reshape(side, side, -1).swapaxes(0, 1).reshape(toy.position.shape)
ref.forward_images(tiny.params, ref.Images(toy._replace(position=turned), toy_pixels), [ids], How(taps=recorder))
exercise(assert_matches, recorder.values, "tiny", ids)

# %% [markdown]
# ## Exercise
#
# The tower's norm, by someone who came from the text model and thought of the 1. Mend it.

# %%
exercise(check_op, lambda x, gain, bias, eps: rms_norm(x, gain - 1, eps) + bias, "layer_norm")

# %% [markdown]
# | paper | function | test |
# |---|---|---|
# | Zhai et al. 2023, SigLIP; Dosovitskiy et al. 2020 | `ref.model.vision.encode_images` | `tests/model/test_multimodal.py` |
# | Ba et al. 2016, LayerNorm | `ref.ops.norm.layer_norm` | `tests/ops/test_layer_norm.py` |
# | Gemma 3 report, section 2.1 | `ref.ops.patches.average_pool` | `tests/ops/test_patches.py` |
#
# **Next:** 12 puts the 256 rows into a prompt.
