"""Make golden/vectors/*.json: `python golden/make/vectors.py [--out DIR]`; needs the extra [witness].

Every expected value comes from torch or transformers in float64, or is a number published elsewhere: nothing
of `ref/` is imported. A file is validated before it replaces the old one, or is left as `.rej`.
"""

import argparse
import json
import sys
from pathlib import Path

import jsonschema
import numpy as np
import vectors_attention
import vectors_crops
import vectors_dense
import vectors_images
import vectors_positions
import vectors_quant
import vectors_sampling
import vectors_sfp8
from vectors_form import LEGEND, SOURCES, plain

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = json.loads((ROOT / "golden/schema/vectors.schema.json").read_text())
MAKERS = [
    vectors_dense.rms_norm,
    vectors_dense.layer_norm,
    vectors_positions.rope,
    vectors_positions.visibility,
    vectors_dense.gelu_tanh,
    vectors_dense.geglu,
    vectors_attention.softmax,
    vectors_attention.gqa_attention,
    vectors_dense.embed_scale,
    vectors_dense.linear,
    vectors_sampling.sampling,
    vectors_images.resize,
    vectors_crops.pan_and_scan,
    vectors_quant.quantise,
    vectors_quant.dequantise,
    vectors_sfp8.switching_float,
]
LEGENDS = LEGEND | vectors_images.LEGEND | vectors_quant.LEGEND
ALL_SOURCES = SOURCES | vectors_images.SOURCES | vectors_quant.SOURCES
LARGEST = 100_000  # bytes a file: it is there to be read
APART = 1e-4  # a mistake's output is at least so far from the truth, relative to its largest value


def assemble(op, made):
    """Put the header before an op's vectors, and number them."""
    vectors = [{"id": f"{op}-{number:02}", **row} for number, (row, _) in enumerate(made["vectors"], 1)]
    letters = {letter for axes in made["axes"].values() for letter in axes.split()}
    named = {row["source"] for row in vectors}
    return {
        "format_version": 1,
        "op": op,
        "description": made["description"],
        "axes": {
            "legend": {letter: meaning for letter, meaning in LEGENDS.items() if letter in letters},
            "arrays": made["axes"],
        },
        "sources": {name: source for name, source in ALL_SOURCES.items() if name in named},
        "generator": "python golden/make/vectors.py",
        "flags": made["flags"],
        "vectors": vectors,
    }


def faults(document, made):
    """Return what the schema cannot say, one line each; empty if all is well."""
    found = []
    used = {name for row in document["vectors"] for name in row["flags"]}
    if used != set(document["flags"]):
        found.append(f"flags used and flags explained differ: {sorted(used ^ set(document['flags']))}")
    for row, (_, truth) in zip(document["vectors"], made["vectors"], strict=True):
        expected = np.array(row["expected"], np.float64)
        if not np.isfinite(expected).all():
            found.append(f"{row['id']}: not finite")
        if truth is not None:
            truth = np.array(plain(truth), np.float64)
            if expected.shape != truth.shape:  # boxes: another number of them
                continue
            apart = np.abs(expected - truth).max(initial=0) / np.abs(truth).max(initial=1e-9)
            if not apart >= APART:
                found.append(f"{row['id']}: only {apart:.1e} from the truth")
    return found


def layout(document):
    """Write JSON with one vector's field a line, so that a diff shows a number and not a page."""
    vectors = [
        "  {\n" + ",\n".join(f"   {json.dumps(key)}: {json.dumps(value)}" for key, value in row.items()) + "\n  }"
        for row in document["vectors"]
    ]
    head = json.dumps({**document, "vectors": 0}, indent=1, ensure_ascii=False, allow_nan=False)
    return head.removesuffix("0\n}") + "[\n" + ",\n".join(vectors) + "\n ]\n}\n"


def write(path, document, found):
    """Replace the file if the document is valid, else leave it and write `.rej`; return whether it was."""
    text = layout(document)
    assert json.loads(text) == document
    found += [error.message[:300] for error in jsonschema.Draft202012Validator(SCHEMA).iter_errors(document)]
    if len(text.encode()) > LARGEST:
        found.append(f"{len(text.encode())} bytes, more than {LARGEST}")
    for fault in found:
        print(f"{path.name}: {fault}", file=sys.stderr)
    draft = path.with_suffix(".json.tmp" if not found else ".json.rej")
    draft.write_text(text)
    if not found:
        draft.replace(path)
    return not found


def main():
    """Make every file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "golden/vectors")
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for maker in MAKERS:
        made = maker()
        document = assemble(maker.__name__, made)
        written.append(write(folder / f"{maker.__name__}.json", document, faults(document, made)))
    return 0 if all(written) else 1


if __name__ == "__main__":
    sys.exit(main())
