"""Make golden/KILLS.md: every mutant of the catalogue against every golden case and every dtype.

    python golden/make/kills.py            about half an hour on two cores

A mutant runs the whole model on a golden case's inputs, in the arithmetic of a dtype; what it computes is judged as a
dump would be. The truth of these cases is the witness's: `gemma3-ref verify --dtype float64` holds ours to 1e-10 of it.
"""

import argparse
import json
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import numpy as np
from kills_page import DTYPES, page
from write import write_manifest

import ref
from ref.dump.align import Stored
from ref.dump.opened import Dump, DumpPass
from ref.emulate.arithmetic import emulate
from ref.emulate.graph import Run
from ref.emulate.one_pass import Unknown, pass_of
from ref.emulate.policy import POLICIES
from ref.emulate.stages import prepare_stage, stages_of, taps_of
from ref.golden_files.files import find_cases, read_case
from ref.golden_files.sampled import made_pixels
from ref.judge.compare import compare_with_profiles
from ref.mutants import tap_mutants

ROOT = Path(__file__).resolve().parents[1]
PASSES = 8  # of a decoding case: by then the ring has wrapped several times
REAL = ("short", "long")
# ways to run a case; where the window bounds blocks ahead too, golden/gemma_jax has gemma's masks
COMPOSITION = {"": "current", "in chunks": "current", "two-sided": "two_sided"}


def rows_of(case):
    """List a case's rows: each a list of what `pass_of` wants of its passes."""
    passes = case.passes[:PASSES] if len(case.passes) > PASSES else case.passes
    out = []
    for b in range(passes[0].ids.shape[0]):
        row = []
        for one in passes:
            T, pads = one.ids.shape[1], int(one.left_pads[b])
            positions = np.maximum(one.cached + np.arange(T) - pads, -1)
            if one.packed:
                positions = np.concatenate([np.arange(n) for n in one.packed])
            row.append((one.ids[b], positions, one.cached, pads, one.images))
        out.append(row)
    return out


def images_before(case, b, token, per_image):
    """Count the images of earlier rows."""
    return int(sum((case.passes[0].ids[i] == token).sum() for i in range(b)) // per_image)


def in_chunks(rows, token):
    """Cut each row's one pass behind its first image: the same values, since a chunk sees the keys before it."""
    out = []
    for [(ids, positions, _, pads, images)] in rows:
        soft = np.flatnonzero(ids == token)
        stop = int(soft[np.flatnonzero(np.append(np.diff(soft) > 1, True))[0]]) + 1
        both = [(ids[:stop], positions[:stop], 0, pads, images), (ids[stop:], positions[stop:], stop, pads, images)]
        out.append(both)
    return out


def dump_of(loaded, case, dtype, rules, way=""):
    """Run the model, or a mutant of it, on a case; return every tap of every pass, the passes, and how weights lie."""
    policy = POLICIES[DTYPES[dtype]]
    held = "file" if dtype == "float32" else dtype
    passes = []
    rows, token = rows_of(case), loaded.params.config.vocabulary
    for b, row in enumerate(in_chunks(rows, token) if way == "in chunks" else rows):
        one_pass, run, seen = None, None, 0
        for ids, positions, cached, pads, images in row:
            pixels = None
            if images:
                M = loaded.vision.config.soft_tokens
                first, count = images_before(case, b, token, M) + seen, int((ids == token).sum() // M)
                pixels, seen = made_pixels(images, loaded.vision.config.image)[first : first + count], seen + count
            one_pass = pass_of(
                loaded, ids, positions=positions, cached=cached, left_pads=pads, pixels=pixels,
                composition=COMPOSITION[way], held=held, before=one_pass if cached else None,
            )  # fmt: skip
            run = Run(one_pass, emulate(policy, 1), {}, run if cached else None, rules)
            passes.append((one_pass, run, positions, pads))
    values = compute(loaded, passes, held)
    return values, passes, held


def compute(loaded, passes, held):
    """Compute every tap of every pass, stage by stage."""
    out = [{} for _ in passes]
    for number, (one_pass, run, _, _) in enumerate(passes):
        for stage in stages_of(one_pass):
            run.enter(stage, prepare_stage(loaded, stage, held, np.float32))
            for tap in taps_of(stage, one_pass.cached > 0 or len(passes) > 4, bool(one_pass.places.any())):
                with np.errstate(all="ignore"):
                    out[number][tap] = run.value(tap)
    return out


def as_dump(loaded, values, passes, held, dtype):
    """Put computed values into the form that the judge reads."""
    kinds = {"f": dtype}
    listed = []
    for number, ((one_pass, _, positions, pads), taps) in enumerate(zip(passes, values, strict=True)):
        stored = {
            tap: Stored(tap, kinds.get(x.dtype.kind, str(x.dtype)), x.shape, lambda x=x: x) for tap, x in taps.items()
        }
        ids = np.where(one_pass.places[0], loaded.params.config.vocabulary, one_pass.ids[0])
        blocks = one_pass.blocks()
        blocks = [] if blocks is None else np.unique(blocks[0][one_pass.places[0]], axis=0).tolist()
        listed.append(DumpPass(number, ids, positions, one_pass.cached, blocks, pads, one_pass.pixels, stored))
    policy = dict.fromkeys(("compute_dtype", "matmul_activations", "kv_dtype"), dtype)
    policy |= {"rope_angle": "float32", "attention_impl": "eager"}
    weights = {"name": loaded.name, "dtype": held, "sha256": None}
    producer = {"name": "mutant", "version": "0"}
    return Dump("kills", producer, loaded.params.config._asdict(), weights, policy, listed, [])


def judge_case(job):
    """Judge all mutants on one case and dtype; returns {mutant: symbol}."""
    weights, folder, dtype, names, way = job
    loaded, case = ref.load(weights), read_case(Path(folder))
    how = {"loaded": loaded, "composition": COMPOSITION[way]}
    clean, passes, held = dump_of(loaded, case, dtype, {}, way)
    report, _ = compare_with_profiles(as_dump(loaded, clean, passes, held, dtype), **how)
    out = {"(none)": report["verdict"]}
    for name in names:
        try:
            values, passes, held = dump_of(loaded, case, dtype, tap_mutants()[name].rules, way)
        except (Unknown, KeyError):
            out[name] = "."
            continue
        if same(clean, values):
            out[name] = "."
            continue
        report, _ = compare_with_profiles(as_dump(loaded, values, passes, held, dtype), **how)
        out[name] = symbol(report, name)
    return f"{case.id} {way}".strip(), dtype, out


def same(a, b):
    """Tell whether two runs have the same bits everywhere."""
    pairs = ((x[tap], y[tap]) for x, y in zip(a, b, strict=True) for tap in x)
    return all(np.array_equal(x, y, equal_nan=x.dtype.kind == "f") for x, y in pairs)


def symbol(report, name):
    """Say how a mutant fared: N named, T in the first class of several, C caught and called otherwise, - not caught."""
    if report["verdict"] != "bug":
        return "-"
    rows = report["diagnosis"]
    best = [row["mutant"] for row in rows if row["class"] == rows[0]["class"] and row["verdict"] in ("named", "tied")]
    return ("N" if len(best) == 1 else "T") if name in best else "C"


def done(job, folder):
    """Do a job, or read what an earlier run that was cut off has left of it."""
    weights, case, dtype, names, way = job
    kept = folder / f"{weights}-{Path(case).name}{way.replace(' ', '-')}-{dtype}-{len(names)}.json"
    if not kept.is_file():
        part = kept.with_suffix(".part")
        part.write_text(json.dumps(judge_case(job)))
        part.replace(kept)
    return json.loads(kept.read_text())


def jobs_of(names):
    """List the jobs on toy weights; cases with images also in chunks, and as google-deepmind/gemma composes."""
    places = [(weights, folder, "") for weights in ("tiny", "tiny-long") for folder in find_cases(ROOT, weights)]
    images = [(weights, folder) for weights, folder, _ in places if folder.name == "images"]
    places += [(*one, "in chunks") for one in images] + [(*one, "two-sided") for one in images if one[0] == "tiny-long"]
    return [(weights, str(folder), dtype, names, way) for weights, folder, way in places for dtype in DTYPES]


def main(argv):
    """Run the jobs and write the file; their results are kept in a folder, by default a temporary one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(tempfile.gettempdir()) / "gemma3-ref-kills"
    parser.add_argument("folder", nargs="?", type=Path, default=default, help="keeps the results, to go on later")
    folder = parser.parse_args(argv).folder
    folder.mkdir(parents=True, exist_ok=True)
    names, results = list(tap_mutants()), {}
    with ProcessPoolExecutor(2) as pool:
        todo = [pool.submit(done, job, folder) for job in jobs_of(names)]
        for one in as_completed(todo):
            case, dtype, out = one.result()
            results[case, dtype] = out
            print(case, dtype, {s: list(out.values()).count(s) for s in "NTC-."}, out["(none)"], flush=True)
    left = [name for name in names if not any(out.get(name) in ("N", "T") for out in results.values())]
    for case in REAL if left else ():
        where = next(place for place in find_cases(ROOT, "270m") if place.name == case)
        name, dtype, out = done(("270m", str(where), "float32", left, ""), folder)
        results[name, dtype] = out
        print(name, dtype, out, flush=True)
    (ROOT / "KILLS.md").write_text(page(names, results))
    write_manifest(ROOT)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
