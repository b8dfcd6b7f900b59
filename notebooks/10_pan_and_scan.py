# %% [markdown]
# # 10 Pan & Scan: what the tower is given
#
# - **You will see** a photograph squeezed into a square, and the crops that give back what the squeezing took.
# - **You need** nothing but NumPy. The photographs come with scikit-image; there are no weights here.
# - **Shown from** `ref/ops/pan_and_scan.py`, `ref/prompt/images.py`, `ref/ops/resize.py`.

# %%
# %matplotlib inline
import numpy as np
from skimage import data

import ref
from ref.config import CROPS
from ref.mutants.crops import CROP_MUTANTS
from ref.ops.pan_and_scan import count_crops, crop_boxes, cut
from ref.prompt.images import find_boxes
from ref.show.image_plots import plot_crops
from ref.show.words import source
from ref.testing import check_pan_and_scan, exercise

# %% [markdown]
# ## One size for all
#
# Gemma's vision tower (11) takes squares of 896 x 896 pixels and nothing else. So every image is stretched to that
# square. A long image comes out of shape, and a large one loses detail. *Pan & Scan* adds crops: the longer side is cut
# into strips, each is stretched by itself, and the tower looks at the whole and at every strip. Here is a piece of sky
# by the Hubble telescope: what is round there is tall in the whole, and nearly round again in the crops.

# %%
sky = data.hubble_deep_field()[340:640]
seen = ref.preprocess(sky, CROPS["transformers"])
print(f"photograph {sky.shape} {sky.dtype}; pixels {seen.pixels.shape} {seen.pixels.dtype}")
print(f"from {seen.pixels.min()} to {seen.pixels.max()}; soft tokens {256 * len(seen.pixels)}, not 256")
for name, (y0, x0, y1, x1) in (("whole", (0, 0, *sky.shape[:2])), ("crop 1", seen.boxes[0])):
    print(f"{name:<7}{x1 - x0:5} x {y1 - y0} stretched by {896 / (x1 - x0):.2f} across, {896 / (y1 - y0):.2f} down")
plot_crops(sky, seen.boxes, seen.pixels)

# %% [markdown]
# That is the price: the tower turns each square into 256 *soft tokens*, which take room in the prompt (12).
#
# ## How many
#
# The rule is a few lines of integers. An integer rule has no separate kernel: this is what runs.

# %%
source(count_crops)

# %% [markdown]
# `CROPS` has two policies. `transformers` cuts from a ratio of 1.2 on, and only if the user asks. `gemma_pytorch` cuts
# from 1.5 on, always. Let an image of height 1000 grow wider and print each width at which the number changes:

# %%
for name, policy in CROPS.items():
    counts = [len(find_boxes(1000, width, policy)) for width in range(1000, 6001)]
    changes = [(1000 + i, counts[i]) for i in range(1, len(counts)) if counts[i] != counts[i - 1]]
    print(f"{name:<14}", ", ".join(f"{count} crops from {width / 1000:g}" for width, count in changes))

# %% [markdown]
# Both limits are included: at exactly 1.2 there are crops. Halves round up: 2.5 makes 3. And 4 is the most.
#
# ## On real photographs

# %%
photographs = {
    "astronaut": data.astronaut(),
    "chelsea, a cat": data.chelsea(),
    "coffee": data.coffee(),
    "motorcycle": data.stereo_motorcycle()[0],
    "motorcycle, on end": data.stereo_motorcycle()[0].swapaxes(0, 1),
}
print(f"{'':<20}width x height  ratio  transformers  gemma_pytorch")
for name, (height, width, _) in ((name, photo.shape) for name, photo in photographs.items()):
    counts = [len(find_boxes(height, width, policy)) for policy in CROPS.values()]
    print(f"{name:<20}{width:5} x {height:<6}{max(width, height) / min(width, height):7.3f}{counts[0]:9}{counts[1]:14}")

# %% [markdown]
# The cat is long enough and still has no crops. Two strips of it would be 226 pixels wide, and `min_crop` is 256: so
# small a crop would be blown up to 896 pixels with nothing new in it.

# %%
coffee = photographs["coffee"]
plot_crops(coffee, find_boxes(*coffee.shape[:2], CROPS["transformers"]))

# %% [markdown]
# ## Where
#
# Strips are rounded up, so the last one may reach past the edge. There the policies differ again: transformers
# clips the box, gemma_pytorch keeps its size and fills with black.

# %%
source(crop_boxes, doc=False)

# %%
for name, policy in CROPS.items():
    last = find_boxes(*sky.shape[:2], policy)[-1]
    black = (cut(sky, last) == 0).all(axis=(0, 2)).sum()
    print(f"{name:<14} last box {last}, {last[3] - last[1]} columns, {black} of them black")

# %% [markdown]
# ## The resize
#
# Which pixels result depends on the library that stretches. Levels go from 0 to 255. Pillow rounds to whole levels
# after each of its two passes, google-deepmind/gemma stays in floats. Both smooth what shrinks.

# %%
pillow, floats = (ref.preprocess(coffee, resize=kind).pixels for kind in ("pillow", "float"))
apart = 127.5 * np.abs(pillow - floats)
print(f"levels apart: {apart.mean():.2f} on average, {apart.max():.2f} at most")

# %% [markdown]
# ## Broken on purpose
#
# A port divides width by height, never height by width. `check_pan_and_scan` asks a function about hundreds of sizes
# around every threshold, shrinks what is wrong to something small, and draws it: digits are crops, dots are not cut.

# %%
broken = next(mutant for mutant in CROP_MUTANTS if mutant.name == "crops_portrait_never")
exercise(check_pan_and_scan, lambda width, height: broken.run(width, height, CROPS["transformers"]))

# %% [markdown]
# ## Exercise
#
# Mend these crops, for transformers' policy. There are two mistakes. Mend one, and the check names the other.


# %%
def my_crops(width, height):
    """Cut the longer side; boxes are y0, x0, y1, x1."""
    longer, shorter = max(width, height), min(width, height)
    if longer / shorter <= 1.2:
        return []
    count = min(4, max(2, min(round(longer / shorter), longer // 256)))
    step = -(-longer // count)
    if min(step, shorter) < 256:
        return []
    spans = [(i * step, min((i + 1) * step, longer)) for i in range(count)]
    return [[0, a, height, b] if width >= height else [a, 0, b, width] for a, b in spans]


exercise(check_pan_and_scan, my_crops)

# %% [markdown]
# | paper | function | test |
# |---|---|---|
# | Gemma 3 report, section 2.1, Pan & Scan | `ref.ops.pan_and_scan.crop_boxes` | `tests/ops/test_pan_and_scan.py` |
# | transformers 5.23, gemma_pytorch | `ref.prompt.images.preprocess` | `tests/prompt/test_images.py` |
#
# **Next:** 11 follows one square through the vision tower.
