"""Every row of the bench, those that show most first."""

from importlib import import_module

FILES = (
    "real",
    "released_sizes",
    "arithmetic",
    "tower",
    "jax_layer",
    "plain_c",
    "of_mlx",
    "of_litgpt",
    "of_onnx",
    "gpu",
    "on_cuda",
)


def all_rows():
    """Yield the rows of every file."""
    for name in FILES:
        yield from import_module(f".{name}", __package__).rows()
