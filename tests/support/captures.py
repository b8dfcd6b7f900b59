"""What tests of every adapter ask of a capture: its passes, how far they are from the truth, and the command."""

import argparse
from pathlib import Path

import numpy as np

from ref.commands import capture
from ref.config import TextConfig
from ref.dump.write import load_pass, read_dump
from ref.model.cache import empty_cache
from ref.model.params import TextParams
from ref.model.taps import Recorder
from ref.model.text import How, forward
from ref.ops import DEFINITION
from ref.weights.synthetic import synthetic_params


def passes_of(folder) -> list[dict[str, np.ndarray]]:
    return [load_pass(Path(folder), one) for one in read_dump(Path(folder))["passes"]]


def truth_with(params: TextParams, folder, pads=0) -> list[dict[str, np.ndarray]]:
    """Run our definitions in float64 over the same passes."""
    passes, values = read_dump(Path(folder))["passes"], []
    total = sum(len(one["ids"]) for one in passes)
    cache = empty_cache(params.config, np.array([pads]), total, np.float64) if len(passes) > 1 else None
    for one in passes:
        recorder, first = Recorder("*"), None if cache else [pads]
        _, cache = forward(params, [one["ids"]], How(ops=DEFINITION, dtype=np.float64, taps=recorder), cache, first)
        values.append(recorder.values)
    return values


def truth_of(config: TextConfig, folder, pads=0) -> list[dict[str, np.ndarray]]:
    """Do so with made-up weights, as the captured model has them."""
    return truth_with(synthetic_params(config, 0, bfloat16=False), folder, pads)


def distance(value, wanted) -> float:
    return float(np.linalg.norm(value.astype(np.float64) - wanted) / np.linalg.norm(wanted))


def gemma3_ref(*argv):
    parser = argparse.ArgumentParser()
    capture.add(parser.add_subparsers())
    args = parser.parse_args(["capture", *map(str, argv)])
    return args.run(args)
