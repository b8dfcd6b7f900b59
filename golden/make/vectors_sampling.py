"""Vectors of sampling: temperature, top-k, top-p, in the order and with the borders of transformers."""

import torch
from transformers.generation.logits_process import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper
from vectors_form import DEEPMIND, TRANSFORMERS, flag, mistakes, vector

LADDER = torch.tensor([5.0, 4.0, 3.0, 2.0, 1.0]).double()
NEVER = {"temperature": 1.0, "top_k": 0, "top_p": 1.0}


def _temperature(logits, value):
    return TemperatureLogitsWarper(float(value))(None, logits)


def _top_k(logits, k):
    return TopKLogitsWarper(k)(None, logits) if k else logits


def _top_p(logits, p):
    return TopPLogitsWarper(p)(None, logits) if p < 1 else logits


def _probs(logits, temperature=1.0, top_k=0, top_p=1.0):
    return _top_p(_top_k(_temperature(logits[None], temperature), top_k), top_p).softmax(-1)[0]


def _only(logits, kept):
    """Probabilities of a chosen set."""
    hidden = torch.ones(len(logits), dtype=torch.bool)
    hidden[kept] = False
    return logits.masked_fill(hidden, -torch.inf).softmax(-1)


def _case(comment, logits, flags=(), **how):
    inputs = {"logits": logits} | NEVER | how
    truth = _probs(logits, **how)
    return inputs, truth, vector(comment, inputs, truth, source=TRANSFORMERS, flags=flags)


def sampling():
    mixed = torch.tensor([0.5, -1.25, 2.0, 1.75, 0.0, -0.5, 1.0]).double()
    ties = torch.tensor([1.0, 3.0, 2.0, 2.0, 0.0]).double()
    both, both_truth, both_vector = _case("top-k 2 leaves .731 for the first", LADDER, top_k=2, top_p=0.7)
    warm, warm_truth, warm_vector = _case(
        "at temperature 2 one token is not enough", LADDER, temperature=2.0, top_p=0.6
    )
    cross, cross_truth, cross_vector = _case("the token that crosses .8 is kept", LADDER, top_p=0.8)
    tie, tie_truth, tie_vector = _case("a tie at the second place is kept whole", ties, top_k=2, flags=["TopKTieCut"])
    literature = {"logits": LADDER} | NEVER | {"top_p": 0.6}
    vectors = [
        vector("only token 0 is possible", literature, [1.0, 0.0, 0.0, 0.0, 0.0], source=DEEPMIND),
        both_vector, warm_vector, cross_vector, tie_vector,
        _case("nothing is cut", mixed)[2],
        _case("a low temperature sharpens", mixed, temperature=0.25)[2],
        _case("top-1 is greedy", mixed, top_k=1)[2],
        _case("a tiny top-p is greedy", mixed, top_p=1e-6)[2],
        _case("top-k beyond the vocabulary keeps all", mixed, top_k=64)[2],
        _case("the settings of the released models", mixed, top_k=64, top_p=0.95)[2],
        _case("all three", mixed, temperature=0.7, top_k=5, top_p=0.9)[2],
    ]  # fmt: skip
    kept_first = _top_k(_top_p(LADDER[None], 0.7), 2).softmax(-1)[0]
    late = _temperature(_top_p(LADDER[None], 0.6), 2.0).softmax(-1)[0]
    vectors += mistakes(both, both_truth, [("TopPBeforeTopK", "of all five, the first has .636", kept_first)])
    vectors += mistakes(warm, warm_truth, [("TemperatureAfter", "filtered at temperature 1", late)])
    rows = [("TopPExclusive", "the crossing token is cut", _only(LADDER, [0])),
            ("NotDividedAgain", "sums to less than 1", LADDER.softmax(-1) * (cross_truth > 0))]  # fmt: skip
    vectors += mistakes(cross, cross_truth, rows)
    vectors += mistakes(tie, tie_truth, [("TopKTieCut", "exactly k kept", _only(ties, [1, 2]))], result="may")
    return {
        "description": "logits / temperature; keep the top_k largest (0: all); of these the fewest largest "
        "probabilities that reach top_p; softmax over what is left.",
        "axes": {"logits": "V", "expected": "V"},
        "flags": {
            "TopPBeforeTopK": flag("wrong order", "Top-p before top-k, as in gemma_pytorch.", "Larger sets."),
            "TemperatureAfter": flag("wrong order", "Temperature after the filters.", "Other sets."),
            "TopPExclusive": flag("off by one", "The token that crosses p is cut.", "Smaller sets, or none."),
            "NotDividedAgain": flag("missing step", "No division after the cut.", "Mass lost."),
            "TopKTieCut": flag("convention", "A tie at the k-th place: kept whole, or cut to k.", "Ties only."),
        },
        "vectors": vectors,
    }
