"""Files that entries read, made when the first asks: the same weights as others read them, and dumps to be judged."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from .environment import ROOT, last_words
from .row import LLAMA, OURS, Failed, Options, python_of

PREFIX = "file:"
DUMPED = 512  # tokens of a dump
# key: who makes it, by which function of this module
MAKERS = {
    "gguf-file": (OURS, "source"),
    "gguf-q8_0": (OURS, "quantized"),
    "gguf-bfloat16": (LLAMA, "requantized"),
    "gguf-float32": (LLAMA, "requantized"),
    "folder": (OURS, "folder"),
    "folder-vision": (OURS, "folder_vision"),
    "dump-float32": (OURS, "dump"),
    "dump-bfloat16": (OURS, "dump"),
}


class Files:
    """Files in a folder.

    Args:
        folder: where they are made, and found again, in a folder of the weights' name.
        options: whose weights.
    """

    def __init__(self, folder: Path, options: Options):
        self.folder, self.options = folder / re.sub(r"\W+", "-", options.model), options
        self.made: dict[str, str] = {}

    def resolve(self, value: Any) -> Any:
        """Return the path of `file:KEY`, having made it; anything else as it is."""
        if not isinstance(value, str) or not value.startswith(PREFIX):
            return value
        key = value.removeprefix(PREFIX)
        if key not in self.made:
            self.made[key] = self.make(key)
        return self.made[key]

    def make(self, key: str) -> str:
        """Make a file in a process of its own, unless the folder has it; return its path."""
        by, function = MAKERS[key]
        arguments = [function, key.rpartition("-")[2], self.options.model, str(self.folder / key)]
        if function == "requantized":
            arguments[2] = self.resolve(f"{PREFIX}gguf-file")
        self.folder.mkdir(parents=True, exist_ok=True)
        note = self.folder / f"{key}.path"
        if not note.exists():
            shutil.rmtree(self.folder / key, ignore_errors=True)  # of a run that was stopped
            command = [python_of(by, self.options), "-m", "tests.bench.files", *arguments]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            if done.returncode:
                raise Failed(f"{key}: {last_words(done.stderr, done.returncode)}")
            note.write_text(done.stdout.splitlines()[-1])
        return note.read_text()


def source(kind: str, model: str, path: Path) -> Path:
    """Return the file of the 270M, or the one that was given."""
    from ref.weights.package import package_file

    return package_file() if model == "270m" else Path(model)


def quantized(kind: str, model: str, path: Path) -> Path:
    """Write a GGUF file as `gemma3-ref quantize` does."""
    import ref
    from ref.quant.write import quantize

    return quantize(ref.load(model), kind, path)


def requantized(kind: str, model: str, path: Path) -> Path:
    """Write a GGUF file of the values that llama.cpp decodes from another, rounded once to bfloat16 or not at all."""
    import llama_cpp

    params = llama_cpp.llama_model_quantize_default_params()
    ftypes = {"float32": llama_cpp.LLAMA_FTYPE_ALL_F32, "bfloat16": llama_cpp.LLAMA_FTYPE_MOSTLY_BF16}
    params.ftype, params.allow_requantize, params.pure = ftypes[kind], True, True
    path = path.with_suffix(".gguf")
    if llama_cpp.llama_model_quantize(model.encode(), str(path).encode(), params):
        raise SystemExit(f"llama.cpp did not write {path.name}")
    return path


def folder(kind: str, model: str, path: Path) -> Path:
    """Write the decoded weights as a Hugging Face folder."""
    import ref
    from ref.weights.export import save_hugging_face

    save_hugging_face(ref.load(model).params, path)
    return path


def folder_vision(kind: str, model: str, path: Path) -> Path:
    """Write made-up weights of the tower, beside two layers of text."""
    import ref
    from ref.weights.export import save_hugging_face

    loaded = ref.load("synthetic:4b-pair", "float32")
    save_hugging_face(loaded.params, path, vision=loaded.vision)
    return path


def dump(kind: str, model: str, path: Path) -> Path:
    """Capture transformers, every tap."""
    import ref
    from ref.capture.transformers import build_model, capture

    from .drawn import tokens

    ids = tokens(DUMPED, ref.load(model).params.config.vocabulary)
    return capture(build_model(model, kind, "eager"), ids, path, weights=model)


if __name__ == "__main__":
    name, kind, model, path = sys.argv[1:]
    print(globals()[name](kind, model, Path(path)))
