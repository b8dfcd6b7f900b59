"""Answers of broken ports: what a mutant's logits, log-probabilities or greedy tokens are, in float32."""

import numpy as np

from ref.emulate.arithmetic import emulate
from ref.emulate.one_pass import pass_of
from ref.emulate.policy import members_of
from ref.from_logits.answers import Answer, Known, some_columns
from ref.from_logits.candidates import Candidate
from ref.from_logits.families import FAMILIES, HORIZON, WINDOW
from ref.from_logits.parameters import candidate_of
from ref.from_logits.runs import Text, run_all
from ref.mutants import tap_mutants

MEMBER = 2  # of the float32 family: neither the run that candidates are made with nor one that makes their floors


def text_of(loaded, ids) -> Text:
    """Return one pass over a prompt."""
    return Text((pass_of(loaded, ids),), (None,))


def planted(name, layer=None, value=None, kind="all", config=None) -> Candidate:
    """Return a mutant of the catalogue, perhaps in one layer; or a family's mistake with its number."""
    if value is None:
        return Candidate(tap_mutants()[name], None if layer is None else frozenset([layer]))
    family = next(one for one in [*FAMILIES, WINDOW, HORIZON] if (one.name, one.kind) == (name, kind))
    return candidate_of(family, value, config)


def logits_of(loaded, text, candidate=None, rows=None, family="float32") -> Answer:
    """Return a broken port's logits: some columns of all tokens, or of some."""
    length = text.passes[0].ids.shape[1]
    rows = np.arange(length) if rows is None else np.asarray(rows)
    columns = some_columns(text.passes[0].table.shape[0])
    probe = Answer("logits", (Known(rows, columns, np.zeros((len(rows), len(columns)), np.float32)),))
    arithmetic = emulate(*members_of(family)[MEMBER])
    values = probe.read(run_all(loaded, text, [candidate] if candidate else [], arithmetic))[-1]
    return Answer("logits", (Known(rows, columns, values),))


def top_of(loaded, text, candidate=None, most=5) -> Answer:
    """Return the log-probabilities of each token's most probable ones; of a small vocabulary."""
    whole = logits_of(loaded, text, candidate)
    logits = whole.known[0].values
    logits = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    columns = np.argsort(-logits, axis=1)[:, :most]
    return Answer("log-probabilities", (Known(whole.known[0].rows, columns, np.take_along_axis(logits, columns, 1)),))


def greedy_of(loaded, text, candidate=None) -> Answer:
    """Return the most probable token at each place."""
    logits = logits_of(loaded, text, candidate).known[0].values
    columns = logits.argmax(axis=1)[:, None]
    return Answer("greedy", (Known(np.arange(len(logits)), columns, np.zeros(columns.shape)),))
