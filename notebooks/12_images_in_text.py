# %% [markdown]
# # 12 Images in text
#
# - **You will see** where an image stands in a prompt, what is put there, and what its tokens may look at.
# - **You need** 11 and, for what a token sees, 03. The tokenizer is real; the model is `tiny`, as the 270M cannot see.
# - **Shown from** `ref/prompt/placeholders.py`, `ref/model/inputs.py`, `ref/ops/visibility.py`.

# %%
# %matplotlib inline
import numpy as np
from skimage import data

import ref
from ref.model.inputs import insert
from ref.model.multimodal import embed_images
from ref.model.taps import Recorder
from ref.model.text import How
from ref.ops.visibility import image_blocks, visible_keys
from ref.prompt.placeholders import encode_chat_with_images, encode_with_images, expand_ids, user_turn
from ref.show.plots import plot_visibility
from ref.show.words import source
from ref.testing import assert_matches, check_visibility, exercise

# %% [markdown]
# ## Places are kept free
#
# The prompt has a marker, `<start_of_image>`, for each image. Before the model runs, placeholders are written after it:
# as many as the tower will make rows, 256, and then `<end_of_image>`. Here with 2 instead, so that you can read it:

# %%
tokenizer = ref.load("270m").tokenizer()
message = user_turn("What is this?", images=1)
for layout in ("transformers", "gemma"):
    ids = encode_chat_with_images(tokenizer, [message], [0], layout=layout, soft_tokens=2)
    pieces = tokenizer.pieces(ids)
    print(f"{layout}, {len(ids)} tokens")
    print(*(f"  {token:>7} {piece!r}" for token, piece in list(zip(ids, pieces, strict=True))[2:10]), sep="\n")

# %% [markdown]
# 262144 is the first number after the vocabulary: no word has it. And the two layouts differ. Both put a blank line
# before and after the image. transformers writes it into the text and splits the text then, so that it melts
# with the newline after `user` into one token of three newlines. google-deepmind/gemma puts its token, 108, among the
# ids. A port has to say which of the two it follows. The second is short enough to show:

# %%
source(expand_ids, doc=False)

# %% [markdown]
# At full size, and with the two crops of Pan & Scan (10), which come with words around them:

# %%
for crops in (0, 2):
    ids = np.array(encode_with_images(tokenizer, "Look at <start_of_image>!", [crops]))
    words = tokenizer.decode(ids[ids != 262144].tolist()).replace("<end_of_image>", "")
    print(f"{len(ids):4} tokens, {(ids == 262144).sum()} of them soft: {words!r}\n")

# %% [markdown]
# ## Rows are put there
#
# Text tokens get their rows from the embedding, times the root of the width (00). The tower's rows take the
# placeholders' places as they are, without that factor. What the embedding has for a placeholder is thrown away:

# %%
source(insert, doc=False)

# %%
tiny = ref.load("tiny")
pixels = ref.preprocess(data.coffee(), size=tiny.vision.config.image).pixels
images = ref.Images(tiny.vision, pixels)
ids = [11, 12, 97, 97, 97, 97, 13, 14]  # the toy's vocabulary ends at 96
recorder = Recorder()
logits, _ = ref.forward_images(tiny.params, images, [ids], How(taps=recorder))
seen = recorder.values
print("ids        ", *(f"{token:5}" for token in ids))
for name in ("text.embed", "model.merged"):
    print(f"{name:<13}" + " ".join(f"{length:5.1f}" for length in np.linalg.norm(seen[name][0], axis=-1)), " lengths")
print("merged soft rows are the tower's:", np.array_equal(seen["model.merged"][0, 2:6], seen["vision.soft_tokens"][0]))
print("logits", logits.shape)

# %% [markdown]
# ## An image sees itself whole
#
# A word may look only at what is before it, or it could read its successor. An image has no successor to guess: its
# rows are all there at once, and the upper left corner is not earlier than the lower right. So inside of one image
# everything sees everything, in both directions. Beyond it, and for text, the causal rule stays.

# %%
source(visible_keys, doc=False)

# %%
pieces = [str(token) if token < 97 else "soft" for token in ids]
kinds = {"local layer, window 5": seen["text.layer.0.attn.visible"][0]}
plot_visibility(kinds | {"global layer": seen["text.layer.5.attn.visible"][0]}, pieces)

# %% [markdown]
# The markers around an image are text: they are not in its block. To see that it is so, change the image's last row
# and look which tokens come out of layer 0 otherwise. The first soft token is among them, the words before are not.
# (Should a block of 256 be cut where the window ends? Implementations differ, but no window is so short.)

# %%
soft = embed_images(images, [ids], tiny.params.config, How())
soft.rows[0, -1] += 1
changed = Recorder("text.layer.0.out")
ref.forward(tiny.params, [ids], How(taps=changed), soft=soft)
apart = np.abs(changed.values["text.layer.0.out"] - seen["text.layer.0.out"])[0].max(axis=-1)
print(*(f"{piece:>5}" for piece in pieces), sep="")
print(*(f"{value:5.1f}" for value in apart), sep="")
print("block of the four: keys", *image_blocks(soft.places, np.zeros((1, len(ids)), int), 0)[0, 2], "(stop excluded)")
print("window of the smallest model that sees, the 4B:", ref.SIZES["4b"].window)

# %% [markdown]
# ## Broken on purpose
#
# A port gives the tower's rows the factor sqrt(D), too, which is 6 in the toy. The judge is given all of its values:

# %%
recorder = Recorder()
soft = embed_images(images, [ids], tiny.params.config, How(taps=recorder))
ref.forward(tiny.params, [ids], How(taps=recorder), soft=soft._replace(rows=6 * soft.rows))
exercise(assert_matches, recorder.values, "tiny", ids)

# %% [markdown]
# ## Exercise
#
# With one image this mask is right. It was released like that; the check says where. Mend it.


# %%
def my_mask(soft, window):
    """Say which keys each token sees: [T, T] booleans."""
    index = np.arange(len(soft))
    ago = index[:, None] - index
    image = soft[:, None] & soft
    return ((ago >= 0) | image) & (ago < (window or len(soft)))


exercise(check_visibility, my_mask)

# %% [markdown]
# | paper | function | test |
# |---|---|---|
# | none; transformers 5.23 `Gemma3Processor` | `ref.prompt.placeholders.expand_text` | `tests/prompt/test_placeholders.py` |
# | none; google-deepmind/gemma `merge_embeddings` | `ref.model.inputs.insert` | `tests/model/test_multimodal.py` |
# | none; transformers 38053 | `ref.ops.visibility.image_blocks` | `tests/ops/test_image_visibility.py` |
#
# **Next:** 13, how numbers are rounded.
