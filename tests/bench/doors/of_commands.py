"""google-deepmind/gemma, keras-hub and llama.cpp: what their commands run, with a mistake in the stack itself."""

import shutil
from contextlib import nullcontext
from pathlib import Path
from unittest import mock

from .door import Door

JAX = "--no-deps -r golden/make/requirements-gemma-jax.txt"
EPSILON = 1e-5


def command(name: str, ids: list[int], weights: str = "270m") -> None:
    """Run `gemma3-ref capture NAME`."""
    from ref.cli import main

    given = ["--ids", ",".join(map(str, ids)), "--weights", weights, "-o", "dump"]
    assert main(["capture", name, *given]) == 0


def gemma(ids: list[int], planted: bool) -> None:
    """Capture google-deepmind/gemma; planted: its module finds the exact GELU under flax's name."""
    from functools import partial

    import jax
    from flax import linen

    exact = mock.patch.object(linen, "gelu", partial(jax.nn.gelu, approximate=False))
    with exact if planted else nullcontext():
        command("gemma", ids)


def keras(ids: list[int], planted: bool) -> None:
    """Capture keras-hub; planted: its rotary layers take every wavelength for that of global layers."""
    from keras_hub.layers import RotaryEmbedding

    begin = RotaryEmbedding.__init__

    def of_global(self, max_wavelength=10_000, **named):
        begin(self, max_wavelength=1_000_000, **named)

    with mock.patch.object(RotaryEmbedding, "__init__", of_global) if planted else nullcontext():
        command("keras", ids)


def llama_cpp(ids: list[int], planted: bool) -> None:
    """Capture llama.cpp on the file as it is; planted: the file says another epsilon."""
    from gguf import GGUFReader

    from ref.weights.resolve import package_file

    if not planted:
        return command("llama.cpp", ids)
    path = Path("planted.gguf")
    shutil.copyfile(package_file(), path)
    field = GGUFReader(path, "r+").fields["gemma3.attention.layer_norm_rms_epsilon"]
    field.parts[field.data[0]][0] = EPSILON
    return command("llama.cpp", ids, str(path))


DOORS = (
    Door(
        "gemma",
        ("gemma", "jax"),
        ("gemma", "jax"),
        JAX,
        "gemma3-ref capture gemma",
        "GELU is the exact one",
        "gelu_erf",
        "text.layer.0.ffn.act",
        gemma,
    ),
    Door(
        "keras-hub",
        ("keras-hub", "keras", "jax"),
        ("keras_hub", "keras", "jax"),
        "keras-hub==0.31.0 keras==3.15.1 jax==0.9.0",
        "gemma3-ref capture keras",
        "local layers rotate with the base of global ones",
        "rope_global_base_everywhere",
        "text.layer.0.attn.q_rope",
        keras,
    ),
    Door(
        "llama.cpp",
        ("llama-cpp-python",),
        ("llama_cpp", "gguf"),
        "llama-cpp-python==0.3.36 gguf==0.19.0",
        "gemma3-ref capture llama.cpp",
        f"the file says epsilon {EPSILON:g}",
        "norm_eps_1e-5",
        "text.layer.0.attn.pre_norm",
        llama_cpp,
    ),
)
