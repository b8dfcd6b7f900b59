"""A dump from plain NumPy: token ids and whatever tensors a port can get, by their names here."""

import numpy as np

import ref

params = ref.load("tiny").params  # toy weights: your port has its own
layer, ids = params.layers[0], np.array([2, 33, 5, 80])


def rms_norm(x, gain):
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + 1e-6) * (1 + gain)


x = params.embedding[ids] * np.float32(np.sqrt(params.embedding.shape[1]))
normed = rms_norm(x, layer.pre_attn_norm)
q = (normed @ layer.q.T).reshape(len(ids), 12, 10)
tensors = {"text.embed": x, "text.layer.0.attn.pre_norm": normed, "text.layer.0.attn.q": q}
np.savez("port.npz", input_ids=ids, **tensors)
