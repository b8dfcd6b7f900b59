"""What an import costs and brings along: nothing compiles, and no framework comes."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

FRAMEWORKS = (
    "torch",
    "jax",
    "transformers",
    "keras",
    "llama_cpp",
    "gguf",
    "tokenizers",
    "tensorflow",
    "onnx",
    "onnxruntime",
    "openvino",
)


def modules_after(code: str) -> set[str]:
    """Return the names of all modules that some code imports."""
    listing = f"{code}\nimport json, sys; print(json.dumps(sorted(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", listing], check=True, capture_output=True, text=True)
    return set(json.loads(out.stdout))


def test_importing_ref_brings_nothing():
    assert not {"numba", "numpy", "ref.ops", *FRAMEWORKS} & modules_after("import ref")


def test_the_command_line_parses_before_it_loads_numba_or_numpy():
    assert not {"numba", "numpy", *FRAMEWORKS} & modules_after("import ref.cli; ref.cli.build_parser()")


def test_no_module_of_ref_imports_a_framework():
    loads_all = (
        "import importlib, pkgutil, ref\n"
        "for module in pkgutil.walk_packages(ref.__path__, 'ref.'):\n"
        "    if not module.name.startswith(('ref.capture', 'ref.__main__')):\n"
        "        importlib.import_module(module.name)"
    )
    found = modules_after(loads_all)
    assert {
        "ref.cli",
        "ref.ops.attend",
        "ref.weights.resolve",
        "ref.golden_files.verify_all",
        "ref.commands.trace",
    } <= found
    assert not set(FRAMEWORKS) & found


def test_importing_the_ops_compiles_nothing(tmp_path):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    code = "import ref.ops, ref.model.text, ref.model.generate, ref.weights.resolve"
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    assert [path for path in Path(tmp_path).rglob("*") if path.is_file()] == []


def test_the_names_of_the_glossary_load_on_first_use():
    import ref

    for name in ref._HOMES:
        assert getattr(ref, name) is getattr(importlib.import_module(ref._HOMES[name]), name)
    assert not hasattr(ref, "no_such_name")
