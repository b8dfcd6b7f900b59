"""Make the golden cases: `python golden/make [--weights W] [--out DIR] [--only ID]`; needs the extra [witness].

Truth is the witness in float64 throughout; the noise floor of a tap is the largest distance from truth over an
ensemble of valid float32 runs of the same witness. Written only after everything was run and validated.
"""

import argparse
import json
import platform
import sys
import tempfile
from pathlib import Path

import cases  # also puts the repository on the path
import numpy as np
import torch
import witness
import witness_orders
import witness_vision
import write

from ref.golden_files.sampled import relative_l2
from ref.weights.export import config_to_hugging_face, save_hugging_face
from ref.weights.package import package_file
from ref.weights.resolve import load, weights_name

# twelve valid float32 runs: two attention implementations, eleven orders of summation
ENSEMBLE = [
    ("eager", None),
    ("sdpa", None),
    *(("eager", seed) for seed in range(1, 8)),
    *(("sdpa", seed) for seed in (8, 9, 10)),
]


def witness_model(weights, loaded):
    """Load the witness on the same weights, by its own or the gguf package's reader."""
    if weights == "270m":
        return witness.from_gguf(package_file(), config_to_hugging_face(loaded.params.config))
    if Path(weights).is_dir():
        return (witness_vision if loaded.vision else witness).from_folder(weights)
    if loaded.vision:
        return witness_vision.from_params(loaded.params, loaded.vision)
    with tempfile.TemporaryDirectory() as folder:
        save_hugging_face(loaded.params, Path(folder) / "model")
        return witness.from_folder(Path(folder) / "model")


def run_case(model, case, full):
    """Run truth and ensemble of a case; return what the golden holds."""

    skip = case.get("skip", "$.")

    def as_kept(number, name, value):
        return write.kept(name, value, case["passes"][number], full)

    truth, facts = {}, {}
    with witness.float64_throughout(model):

        def keep_truth(number, name, value):
            if case["passes"][number]["keep"]:
                value = value.double() if value.is_floating_point() else value
                truth[number, name] = as_kept(number, name, value.numpy())
                facts[number, name] = write.facts(name, value.numpy(), case["passes"][number])

        witness.run(model, case["passes"], "eager", keep_truth, skip=skip)
    floors = dict.fromkeys(truth, 0.0)
    logit_error = {}
    for attention, seed in ENSEMBLE:
        orders = witness_orders.draw_orders(model.config, seed) if seed else None
        if orders:
            witness_orders.permute(model, orders)

        def keep_run(number, name, value, orders=orders):
            if (number, name) not in truth or name.endswith("attn.seen"):
                return
            value = witness_orders.unpermuted(name, value, orders) if orders else value
            got = as_kept(number, name, value.numpy())
            floors[number, name] = max(floors[number, name], relative_l2(got, truth[number, name]))
            if name == "text.logits":
                error = write.top_error(value.numpy(), facts[number, name])
                logit_error[number] = np.maximum(logit_error.get(number, 0), error)

        witness.run(model, case["passes"], attention, keep_run, orders, skip)
        if orders:
            witness_orders.permute(model, orders.inverse())
    return truth, facts, floors, logit_error


def cases_of(name, loaded, full, tokenizer):
    """List the cases of some weights: of toys every branch, of released weights prompts, of 4b-pair the full width."""
    c, v = loaded.params.config, loaded.vision.config if loaded.vision else None
    if tokenizer:
        return cases.real_cases(tokenizer) + (cases.real_image_cases(tokenizer, v) if v else [])
    if not full:
        return cases.full_width_cases(c, v, name)
    text = [] if name == "tiny-long" else cases.tiny_cases()
    return text + (cases.image_cases(c, v, name if name.startswith("tiny") else "tiny") if v else [])


def greedy(model, tokenizer, folder, origin):
    """Record the 64 greedy tokens of transformers in float32 for eight prompts."""
    rows = []
    for text in cases.GREEDY:
        ids = tokenizer.encode(text)
        out = model.generate(torch.tensor([ids]), max_new_tokens=64, do_sample=False, eos_token_id=1, pad_token_id=0)
        rows.append({"prompt": text, "prompt_ids": ids, "ids": out[0, len(ids) :].tolist()})
    write.write_json(
        folder / "greedy.json",
        {**origin, "id": f"{origin['weights']['name']}/greedy", "max_new_tokens": 64, "prompts": rows},
    )


def origin(weights, loaded):
    """Say where the numbers come from."""
    return {
        "format_version": 1,
        "weights": {"name": weights_name(weights), **write.weights_digest(weights)},
        "config": loaded.params.config._asdict(),
        "source": {"kind": "witness", **witness.NAME},
        "generator": {"path": "golden/make", "command": f"python golden/make --weights {weights_name(weights)}"},
        "environment": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "platform": f"{platform.system()} {platform.machine()}",
        },
        "licence": write.LICENCE if weights == "270m" or Path(weights).exists() else "Apache-2.0",
    }


def main():
    """Parse the command line and make the cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--weights",
        action="append",
        help="270m, tiny, tiny-long, synthetic:4b-pair (default: these) or an official folder",
    )
    parser.add_argument("--out", type=Path, default=cases.ROOT / "golden")
    parser.add_argument("--only", help="make only cases whose id contains this")
    parser.add_argument("--json", action="store_true", help="print the ids of what was made")
    args = parser.parse_args()
    made = []
    for weights in args.weights or ["tiny", "tiny-long", "synthetic:4b-pair", "270m"]:
        loaded = load(weights)
        full = loaded.params.config.vocabulary < 1000  # toy size: every value; else samples
        made_up = weights != "270m" and not Path(weights).exists()
        about, name = origin(weights, loaded), weights_name(weights).replace(":", "-")
        tokenizer = None if full or made_up else loaded.tokenizer()
        todo = cases_of(name, loaded, full, tokenizer)
        home = args.out / ("cases" if made_up else "real")
        text_model = with_vision = None
        for case in todo:
            case_id = case["id"] if made_up else f"{name}/{case['id']}"
            if args.only and args.only not in case_id:
                continue
            note(weights, case["id"])
            seen = any(one["images"] for one in case["passes"])
            if seen:
                with_vision = model = with_vision or witness_model(weights, loaded)
            else:
                blind = loaded._replace(vision=None) if made_up else loaded
                text_model = model = text_model or witness_model(weights, blind)
            about_case = {**about, "id": case_id, "purpose": case["purpose"], "full": full}
            write.write_case(home / case_id, case, about_case, *run_case(model, case, full), runs=len(ENSEMBLE))
            made.append(case_id)
        if tokenizer and (not args.only or args.only == "greedy"):
            note(weights, "greedy")
            greedy(text_model or witness_model(weights, loaded), tokenizer, home / name, about)
            made.append(f"{name}/greedy")
    if not made:
        parser.exit(2, f"golden make: --only: wanted part of a case's id, got {args.only}\n")
    write.write_manifest(args.out)
    if args.json:
        print(json.dumps({"cases": made}))


def note(*words):
    """Say on stderr what is being made."""
    print(*words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
