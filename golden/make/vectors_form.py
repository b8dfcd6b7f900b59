"""The form of a vector, where its numbers come from, and what its flags mean."""

import torch
import transformers

WITNESS = f"torch {torch.__version__.split('+')[0]}"
TRANSFORMERS = f"transformers {transformers.__version__}"
DEEPMIND = "google-deepmind/gemma unit tests"

SOURCES = {
    WITNESS: {"kind": "witness", "version": torch.__version__, "link": "https://pytorch.org"},
    TRANSFORMERS: {
        "kind": "witness",
        "version": transformers.__version__,
        "link": "https://github.com/huggingface/transformers",
    },
    DEEPMIND: {
        "kind": "literature",
        "version": "commit 7691fd4",
        "link": "https://github.com/google-deepmind/gemma",
    },
    "ONNX Attention": {
        "kind": "literature",
        "version": "reference implementation, op_attention.py",
        "link": "https://github.com/onnx/onnx",
    },
}

LEGEND = {
    "T": "tokens or queries",
    "S": "keys",
    "N": "query heads",
    "K": "key/value heads",
    "H": "head width",
    "D": "model width",
    "F": "FFN width",
    "V": "vocabulary",
    "O": "outputs",
    "I": "inputs",
}

FLOAT64 = {
    "atol": 1e-12,
    "rtol": 1e-12,
    "basis": "float64 arithmetic; in float32 take 1e-5 of the largest",
}
EXACT = {"atol": 0.0, "rtol": 0.0, "basis": "exact: 0 and 1"}
SEVEN_DIGITS = {"atol": 2e-7, "rtol": 0.0, "basis": "printed float32 values, 7 to 8 digits"}


def plain(value):
    """Turn a tensor into lists of Python numbers; json writes the shortest round-trip decimals."""
    return value.tolist() if isinstance(value, torch.Tensor) else value


def vector(comment, inputs, expected, *, flags=(), result="must", source=WITNESS, tolerance=FLOAT64, truth=None):
    """One vector; its id is given when the file is put together.

    `truth` is the right output of a vector that shows a wrong one: the maker checks that they are far apart.
    """
    made = {
        "comment": comment,
        "flags": sorted(flags),
        "result": result,
        "inputs": {name: plain(value) for name, value in inputs.items()},
        "expected": plain(expected),
        "tolerance": tolerance,
        "source": source,
    }
    return made, truth


def mistakes(inputs, truth, rows, *, result="must_not", **more):
    """Vectors of known wrong outputs for one input: rows of (flag or flags, comment, output)."""
    return [
        vector(
            comment, inputs, output, flags=[flag] if isinstance(flag, str) else flag, result=result, truth=truth, **more
        )
        for flag, comment, output in rows
    ]


def numbers(*shape, seed, unit=100):
    """Small float64 numbers with few decimals, readable in a file: up to +-200 / unit."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-200, 201, shape, generator=generator).double() / unit


def flag(bug_type, description, effect, *links):
    """One flag, called as the mistake is in `ref/mutants` if it is there; links are threads where the bug was met."""
    base = "https://github.com/"
    return {
        "bug_type": bug_type,
        "description": description,
        "effect": effect,
        "links": [base + link for link in links],
    }
