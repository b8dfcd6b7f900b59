"""Mistakes with free parameters, from public reports, as cases that `tests/bench/field.py` plants into transformers.

case.py says what a case is; helpers.py how attention, weights and caches are patched; subject.py what models there are;
twins*.py are correct ports in another basis; three.py plants three mistakes at once; run.py and score.py judge. Every
other file has cases of one kind.
"""
