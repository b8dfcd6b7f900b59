"""Mistakes with free parameters, from public reports, as cases that `tests/bench/field.py` plants into transformers.

case.py says what a case is; helpers.py how attention, weights and caches are patched; every other file has cases of
one kind, but for twins.py (correct ports in another basis), three.py (three mistakes at once) and score.py.
"""
