"""Facts published about gated checkpoints: they run when `--weights` is that checkpoint, else they are counted."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from ref.golden_files.files import read_checked
from ref.model.generate import Sampling, generate
from ref.model.taps import Recorder
from ref.model.text import How, forward
from ref.prompt.chat import encode_chat, stop_ids
from ref.weights.resolve import Loaded


class Fact(NamedTuple):
    """One published fact that was run."""

    id: str
    verdict: str  # match | differs
    detail: str


def run_official(loaded: Loaded, name: str, folder: Path, how: How) -> tuple[list[Fact], dict[str, int]]:
    """Run the facts about the checkpoint that these weights are, and count the others.

    Args:
        loaded: the weights.
        name: their short name, from `ref.weights.resolve.weights_name`, which names the checkpoint.
        folder: `golden/official`.
        how: ops and dtype. The published texts come from bfloat16 runs, so only their first words are demanded.

    Returns:
        (facts that ran, checkpoint -> how many did not: they are about other weights, or need images).

    Source: each case names its own.
    Differs: see `golden/official/README.md`.
    """
    facts, left = [], {}
    for path in sorted(folder.glob("*.json")):
        for case in read_checked(path, "official")["cases"]:
            if case["checkpoint"].split("/")[-1] != name or case.get("needs"):
                left[case["checkpoint"]] = left.get(case["checkpoint"], 0) + 1
                continue
            good, detail = KINDS[case["kind"]](loaded, case, how)
            facts.append(Fact(case["id"], "match" if good else "differs", detail))
    return facts, left


def run_continuation(loaded: Loaded, case: dict, how: How) -> tuple[bool, str]:
    """Compare a greedy text with the published ones: good if it starts like one of them, or contains a word."""
    tokenizer = loaded.tokenizer()
    if case.get("messages"):
        ids = encode_chat(tokenizer, case["messages"])
    else:
        ids = tokenizer.encode(case["text"] * case.get("repeat", 1) + case.get("suffix", ""))
    steps = generate(loaded.params, [ids], case["new_tokens"], Sampling(greedy=True), stop_ids(True), how)
    text = tokenizer.decode([step[0] for step in steps if step[0] is not None], skip_control=True)
    good = any(text.startswith(start) for start in case.get("starts", ()))
    return good or any(word in text.lower() for word in case.get("contains", ())), repr(text[:80])


def run_hidden(loaded: Loaded, case: dict, how: How) -> tuple[bool, str]:
    """Compare a few values of the final norm with published ones, at the published tolerance."""
    recorder = Recorder("text.final_norm")
    forward(loaded.params, [case["ids"]], how._replace(taps=recorder))
    got = recorder.values["text.final_norm"].reshape(-1)[: len(case["values"])]
    good = np.allclose(got, case["values"], atol=case["tolerance"], rtol=case["tolerance"])
    return bool(good), f"{[round(float(value), 6) for value in got]}"


def run_log_probs(loaded: Loaded, case: dict, how: How) -> tuple[bool, str]:
    """Compare the log-probability of each token of a text, given those before it."""
    ids = loaded.tokenizer().encode(case["text"])
    logits, _ = forward(loaded.params, [ids], how)
    wide = logits[0, :-1].astype(np.float64)
    wide -= wide.max(-1, keepdims=True)
    log_probs = wide - np.log(np.exp(wide).sum(-1, keepdims=True))
    got = log_probs[np.arange(len(ids) - 1), ids[1:]]
    good = len(got) == len(case["values"]) and np.allclose(got, case["values"], atol=case["tolerance"])
    return bool(good), f"{[round(float(value), 5) for value in got]}"


KINDS = {
    "continuation": run_continuation,
    "contains": run_continuation,
    "hidden": run_hidden,
    "log_probs": run_log_probs,
}
