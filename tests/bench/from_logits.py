"""From logits alone: every text mutant of the catalogue, and those of tests/support/injections.py in transformers.

python tests/bench/from_logits.py [graph] [transformers] [3: every third]     a row per mistake; then the counts
"""

import copy
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from support.logits_alone import logits_of, planted, text_of

import ref
from ref.from_logits.answers import Answer, Known, some_columns
from ref.from_logits.candidates import catalogue
from ref.from_logits.search import explain
from ref.from_logits.trial import QUICK, TRUTH, Trial
from ref.measure.parallel import blas_for_runs

TOKENS = 64
LACKS = ("vision", "factor", "heads", "scalar", "long")  # what the 270M has not, or 64 tokens do not show
LAYERS = {"norm_eps_1e-5": 0}  # where mean squares are near 1; from layer 3 on they are above 300, and nothing changes


class Remembered(Trial):
    """A trial that keeps what candidates give: it is the same for every answer after the same tokens."""

    memo: dict = {}  # noqa: RUF012 - of all trials

    def model(self, arithmetic=TRUTH):
        """Return what the model gives without a mistake, computed once."""
        key = "model", _name(arithmetic), self.text.tokens
        if key not in self.memo:
            self.memo[key] = super().model(arithmetic)
        return self.memo[key]

    def models(self, candidates, arithmetic=QUICK):
        """Return what each candidate gives, computed once."""
        keys = [(one.key, _name(arithmetic), self.text.tokens) for one in candidates]
        todo = [i for i, key in enumerate(keys) if key not in self.memo]
        made = super().models([candidates[i] for i in todo], arithmetic) if todo else []
        found = dict(zip(todo, made, strict=True))
        wide = np.float32 if arithmetic is QUICK else np.float64  # in which they were computed
        self.memo |= {keys[i]: model.astype(wide) for i, model in found.items()}
        return [found[i] if i in found else self.memo[keys[i]].astype(np.float64) for i in range(len(candidates))]


def _name(arithmetic) -> str:
    if arithmetic in (QUICK, TRUTH):
        return "quick" if arithmetic is QUICK else "truth"
    made = arithmetic.rms_norm.__self__
    return f"{made.policy.name} {made.order}"


def row_of(name: str, layer: int | None, trial: Trial) -> str:
    """Explain an answer; print and return what became of it: first, tied, five, later, silent."""
    begin, found = time.perf_counter(), explain(trial)
    rows = [] if found is None else found["ranked"]
    named = [(row["mutant"], row["layers"]) for row in rows]
    right = (name, None if layer is None else [layer])
    places = [i for i, one in enumerate(named) if one == right]
    other = [i for i, one in enumerate(named) if one[0] == name]
    at = places[0] if places else other[0] if other else None
    is_tied = at is not None and (rows[at]["verdict"] == "tied" or rows[at]["tied_with"]) and rows[at]["left"] <= 2
    word = "silent" if found is None else "later" if at is None or at > 4 else "five"
    word = "first" if at == 0 else "tied" if is_tied else word
    first = rows[0] if rows else None
    told = "" if first is None else f"{first['mutant']} {first['layers'] or ''} {first['explains']:.6f} "
    told += "" if first is None else f"{first['left']:.3g} {first['verdict']} {', '.join(first['tied_with'])}"
    seconds = time.perf_counter() - begin
    print(f"  {name:<32}{'' if layer is None else layer!s:<4}{word:<7}{told} ({seconds:.0f} s)", flush=True)
    return word if at is None or places or word not in ("first", "tied") else word + "*"


def of_graph(loaded, ids, every: int) -> Counter:
    """Plant the catalogue in the reference's own graph, in float32 arithmetic that no candidate is run in."""
    text, count = text_of(loaded, ids), Counter()
    some, left = catalogue(text.passes, "logits")
    print(f"graph: {len(some)} mistakes; {len(left)} need what this prompt or model lacks")
    for one in some[::every]:
        answer = logits_of(loaded, text, planted(one.name))
        count[row_of(one.name, None, Remembered(loaded, text, answer, "float32"))] += 1
    return count


def of_transformers(loaded, ids, every: int) -> Counter:
    """Plant into transformers, most of them in one layer."""
    import torch
    from support.injections import INJECTIONS, place

    from ref.capture.transformers import build_model

    clean, count, text = build_model("270m", "float32", "eager"), Counter(), text_of(loaded, ids)
    columns, rows = some_columns(text.passes[0].table.shape[0]), np.arange(len(ids))

    def answer_of(model) -> Answer:
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0].numpy()
        return Answer("logits", (Known(rows, columns, logits[:, columns]),))

    count[row_of("clean", None, Remembered(loaded, text, answer_of(clean), "float32"))] += 1
    for one in [one for one in INJECTIONS if one.needs not in LACKS][::every]:
        model, layer = copy.deepcopy(clean), LAYERS.get(one.mutant, place(one, loaded.params.config))
        undo = one.plant(model, layer)
        answer = answer_of(model)
        if callable(undo):
            undo()
        trial = Remembered(loaded, text, answer, "float32")
        count[row_of(one.mutant, None if one.layer == "none" else layer, trial)] += 1
    return count


def main(kinds: list[str]) -> None:
    """Print the tables."""
    loaded = ref.load("270m")
    ids = loaded.tokenizer().encode(Path("LICENSE").read_text())[:TOKENS]
    with blas_for_runs():
        text = text_of(loaded, ids)
        row_of("clean", None, Remembered(loaded, text, logits_of(loaded, text), "float32"))
        every = next((int(one) for one in kinds if one.isdigit()), 1)
        for kind in [one for one in kinds if not one.isdigit()] or ["graph", "transformers"]:
            count = {"graph": of_graph, "transformers": of_transformers}[kind](loaded, ids, every)
            shown = sum(count.values()) - count["silent"]
            first = sum(count[word] for word in ("first", "tied", "first*", "tied*"))
            print(
                f"{kind}: {dict(count)}: of {shown} that show, first or tied {first}, in five {first + count['five']}"
            )


if __name__ == "__main__":
    main(sys.argv[1:])
